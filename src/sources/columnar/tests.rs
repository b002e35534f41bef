//! Suites over Arrow and Parquet files: what is read, resuming, cut-off and changed bytes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, NullBuilder};
use arrow_array::types::{Int8Type, UInt8Type};
use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, DurationSecondArray, Float16Array, Float32Array, Float64Array,
    Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray, UInt64Array,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use half::f16;
use serde_json::json;

use crate::base::Fingerprint;
use crate::base::limits::EMBEDDING_WIDTH_MAX;
use crate::sources::sample_file::SampleFile;
use crate::sources::{Document, FieldNames, Opened, Position, Resumed, Source, SourceError, open_path};

/// The fixtures that hold the rows of `expected.jsonl`, as far as this build reads them.
fn fixtures() -> Vec<&'static str> {
    let mut names = vec!["plain.feather", "stream.arrow"];
    if cfg!(feature = "compression") {
        names.extend(["lz4.feather", "zstd.feather"]);
    }
    if cfg!(feature = "parquet") {
        names.extend(["none.parquet", "snappy.parquet", "gzip.parquet", "zstd.parquet", "lz4.parquet"]);
        names.extend(["brotli.parquet", "pages_v2.parquet"]);
    }
    names
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/columnar").join(name)
}

fn roles() -> FieldNames {
    FieldNames { key: Some("key".into()), text: Some("text".into()), vector: Some("vector".into()) }
}

fn drain(source: &mut dyn Source) -> (Vec<Document>, Option<SourceError>) {
    let mut documents = Vec::new();
    loop {
        match source.next() {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => return (documents, None),
            Err(error) => return (documents, Some(error)),
        }
    }
}

fn read(path: &std::path::Path, fields: &FieldNames) -> Result<Vec<Document>, SourceError> {
    let (documents, error) = drain(open_path(path, None, fields, None)?.source.as_mut());
    error.map_or(Ok(documents), Err)
}

/// A file of its own that can be damaged.
struct Case {
    file: SampleFile,
    bytes: Vec<u8>,
}

impl Case {
    fn of_fixture(name: &'static str) -> Self {
        Self::new(name, fs::read(fixture(name)).unwrap())
    }

    fn new(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { file: SampleFile::new(name, &bytes), bytes }
    }

    fn of_columns(name: &'static str, columns: Vec<(&str, ArrayRef)>) -> Self {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap();
        let mut bytes = Vec::new();
        if name.ends_with(".feather") {
            let mut writer = FileWriter::try_new(&mut bytes, batch.schema_ref()).unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
        } else {
            let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref()).unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
        }
        Self::new(name, bytes)
    }

    fn write(&self, bytes: &[u8]) {
        self.file.write(bytes);
    }

    fn open(&self, resume: Option<&Position>) -> Opened {
        self.file.open(&roles(), resume)
    }

    fn read(&self, fields: &FieldNames) -> Result<Vec<Document>, SourceError> {
        read(&self.file.path(), fields)
    }

    fn refusal(&self, fields: &FieldNames) -> String {
        self.read(fields).expect_err(self.file.name).to_string()
    }
}

fn only(column: &str) -> FieldNames {
    FieldNames { vector: Some(column.into()), ..FieldNames::default() }
}

#[test]
fn every_file_reads_as_the_json_lines_of_the_same_rows() {
    let expected = read(&fixture("expected.jsonl"), &roles()).unwrap();
    assert_eq!(expected.len(), 5);
    for name in fixtures() {
        let documents = read(&fixture(name), &roles()).unwrap();
        assert_eq!(documents.len(), expected.len(), "{name}");
        for (index, (found, wanted)) in documents.iter().zip(&expected).enumerate() {
            assert_eq!((&found.key, &found.text), (&wanted.key, &wanted.text), "{name}");
            assert_eq!(found.vector, wanted.vector, "{name}");
            assert!(found.metadata.iter().eq(wanted.metadata.iter()), "{name}: {:?}", found.metadata);
            assert_eq!((found.place.unit, found.place.number), ("row", index as u64 + 1), "{name}");
        }
    }
}

#[test]
fn going_on_behind_any_row_gives_the_same_as_one_pass() {
    for name in fixtures() {
        let case = Case::of_fixture(name);
        let (whole, error) = drain(case.open(None).source.as_mut());
        assert!(error.is_none(), "{name}: {error:?}");
        for split in 0..=whole.len() {
            let mut source = case.open(None).source;
            for _ in 0..split {
                source.next().unwrap().unwrap();
            }
            let position = source.position().unwrap();
            let mut again = case.open(Some(&position));
            let expected = match split {
                0 => Resumed::Fresh,
                _ => Resumed::Continued { records: split as u64 },
            };
            assert_eq!(again.resumed, expected, "{name}");
            assert_eq!(again.source.position().unwrap(), position, "{name}");
            let (rest, error) = drain(again.source.as_mut());
            assert!(error.is_none(), "{name}: {error:?}");
            assert_eq!(rest, whole[split..], "{name} from row {split}");
            assert!(again.source.consumed_bytes() <= case.bytes.len() as u64, "{name}");
        }
    }
}

#[test]
fn a_changed_file_starts_again() {
    let replaced = |bytes: &[u8], old: &[u8], new: &[u8]| {
        let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
        let mut bytes = bytes.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    for name in
        fixtures().into_iter().filter(|name| ["plain.feather", "stream.arrow", "none.parquet"].contains(name))
    {
        let case = Case::of_fixture(name);
        let mut source = case.open(None).source;
        for _ in 0..4 {
            source.next().unwrap().unwrap();
        }
        let position = source.position().unwrap();
        case.write(&replaced(&case.bytes, b"a cat", b"a cow"));
        let mut changed = case.open(Some(&position));
        assert_eq!(changed.resumed, Resumed::Changed, "{name}");
        let (documents, error) = drain(changed.source.as_mut());
        assert!(error.is_none(), "{name}: {error:?}");
        assert_eq!(documents[0].text.as_deref(), Some("a cow"), "{name}");
        let beyond = Position { consumed_records: 6, ..position };
        assert_eq!(case.open(Some(&beyond)).resumed, Resumed::Changed, "{name}");
        let none = Position { consumed_bytes: 9, prefix: Fingerprint::of(b""), consumed_records: 0 };
        assert_eq!(case.open(Some(&none)).resumed, Resumed::Changed, "{name}");
    }
}

#[test]
fn cut_off_files_are_refused() {
    for name in fixtures() {
        let case = Case::of_fixture(name);
        let whole = case.read(&roles()).unwrap();
        for length in 0..case.bytes.len() {
            case.write(&case.bytes[..length]);
            let opened = open_path(&case.file.path(), None, &roles(), None);
            let (documents, error) = match opened {
                Ok(mut opened) => drain(opened.source.as_mut()),
                Err(error) => (Vec::new(), Some(error)),
            };
            let error = error.unwrap_or_else(|| panic!("{name} cut at {length} was read"));
            assert!(matches!(error, SourceError::Columnar { .. }), "{name} cut at {length}: {error}");
            assert_eq!(documents, whole[..documents.len()], "{name} cut at {length}");
        }
    }
}

/// Opens every version of a file in which one byte was changed, and reads it to its end.
fn change_every_byte(name: &'static str, changes: &[u8]) {
    let case = Case::of_fixture(name);
    let mut refused = 0;
    for offset in 0..case.bytes.len() {
        for change in changes {
            let mut bytes = case.bytes.clone();
            bytes[offset] ^= change;
            case.write(&bytes);
            match case.read(&roles()) {
                Ok(documents) => assert!(documents.len() <= 64, "{name}, byte {offset} ^ {change}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > case.bytes.len() / 2, "{name}: only {refused} changes were noticed");
}

#[test]
fn changed_bytes_of_arrow_files_never_panic() {
    change_every_byte("plain.feather", &[0x01, 0xff]);
}

#[test]
fn changed_bytes_of_arrow_streams_never_panic() {
    change_every_byte("stream.arrow", &[0x01, 0xff]);
}

#[test]
#[cfg(feature = "compression")]
fn changed_bytes_of_compressed_arrow_files_never_panic() {
    change_every_byte("lz4.feather", &[0x01, 0xff]);
    change_every_byte("zstd.feather", &[0x01, 0xff]);
}

#[test]
#[cfg(feature = "compression")]
fn claims_of_compressed_buffers_are_checked_before_they_are_believed() {
    for name in ["lz4.feather", "zstd.feather"] {
        let case = Case::of_fixture(name);
        let mut refused = 0;
        // Buffers begin at multiples of eight bytes, with the length that they have once decompressed.
        for offset in (0..case.bytes.len() - 8).step_by(8) {
            let mut bytes = case.bytes.clone();
            bytes[offset..offset + 8].copy_from_slice(&(1_u64 << 42).to_le_bytes());
            case.write(&bytes);
            let error = case.read(&roles()).err().map(|error| error.to_string());
            refused +=
                usize::from(error.is_some_and(|text| text.contains("claims to hold 4398046511104 bytes")));
        }
        assert!(refused > 20, "{name}: {refused} buffers");
    }
}

#[cfg(feature = "parquet")]
mod of_parquet {
    use super::*;

    #[test]
    fn changed_bytes_of_plain_pages_never_panic() {
        change_every_byte("none.parquet", &[0x01, 0xff]);
        change_every_byte("pages_v2.parquet", &[0x01, 0xff]);
    }

    #[test]
    fn changed_bytes_of_snappy_and_lz4_never_panic() {
        change_every_byte("snappy.parquet", &[0x01, 0xff]);
        change_every_byte("lz4.parquet", &[0x01, 0xff]);
    }

    // The decoders of these take longest.
    #[test]
    fn changed_bytes_of_gzip_zstd_and_brotli_never_panic() {
        change_every_byte("gzip.parquet", &[0xff]);
        change_every_byte("zstd.parquet", &[0xff]);
        change_every_byte("brotli.parquet", &[0xff]);
    }

    #[test]
    fn texts_in_a_delta_encoding_are_refused_with_a_remedy() {
        let error = read(&fixture("delta.parquet"), &FieldNames::default()).unwrap_err().to_string();
        assert!(error.contains("delta encoding") && error.contains("plain or dictionary"), "{error}");
    }
}

#[test]
fn other_files_under_these_names_are_refused() {
    let error = read(&fixture("version_1.feather"), &FieldNames::default()).unwrap_err();
    assert!(error.to_string().contains("Feather file of version 1"), "{error}");
    let refusal = |name, bytes: &[u8]| Case::new(name, bytes.to_vec()).refusal(&FieldNames::default());
    assert!(refusal("a.arrow", b"").contains("not a readable Arrow file"));
    assert!(refusal("a.arrow", b"{\"text\": \"a\"}\n").contains("impossible length"));
    assert!(refusal("a.feather", b"ARROW1\0\0").contains("too short"));
    assert!(refusal("a.feather", b"ARROW1\0\0ARROW1").contains("impossible length"));
    assert!(refusal("a.feather", b"ARROW1\0\0????ARROW2").contains("not those of an Arrow file"));
    if cfg!(feature = "parquet") {
        assert!(refusal("a.parquet", b"PAR1").contains("too short"));
        assert!(refusal("a.parquet", b"PAR1\xff\xff\xff\x7fPAR1").contains("impossible length"));
        assert!(refusal("a.pq", b"{\"text\": \"a\"}\n").contains("not those of a Parquet file"));
    } else {
        assert!(refusal("a.parquet", b"PAR1").contains("feature \"parquet\""));
    }
}

#[test]
fn a_stream_without_its_end_mark_is_cut_off() {
    let case = Case::of_fixture("stream.arrow");
    case.write(&case.bytes[..case.bytes.len() - 8]);
    let (documents, error) = drain(case.open(None).source.as_mut());
    assert_eq!(documents.len(), 5);
    assert!(error.unwrap().to_string().contains("without the mark of its end"));
}

#[test]
fn vectors_of_every_kind_of_number_are_read() {
    let list = |values: ArrayRef| -> ArrayRef {
        let field = Arc::new(arrow_schema::Field::new("item", values.data_type().clone(), true));
        let offsets = arrow_buffer::OffsetBuffer::from_lengths([values.len()]);
        Arc::new(ListArray::new(field, offsets, values, None))
    };
    let halves = Float16Array::from(vec![f16::from_f32(0.5), f16::from_f32(-2.0)]);
    for values in [
        list(Arc::new(halves)),
        list(Arc::new(Float32Array::from(vec![0.5, -2.0]))),
        list(Arc::new(Float64Array::from(vec![0.5, -2.0]))),
    ] {
        let rows = Case::of_columns("v.arrow", vec![("v", values)]).read(&only("v")).unwrap();
        assert_eq!(rows[0].vector, Some(vec![0.5, -2.0]));
    }
    let integers = list(Arc::new(Int32Array::from(vec![7, -1])));
    let rows = Case::of_columns("v.feather", vec![("v", integers)]).read(&only("v")).unwrap();
    assert_eq!(rows[0].vector, Some(vec![7.0, -1.0]));
    let refused = |values: ArrayRef| Case::of_columns("v.arrow", vec![("v", values)]).refusal(&only("v"));
    for (values, expected) in [
        (
            list(Arc::new(Float64Array::from(vec![0.0, 1e39]))),
            "row 1: value 2 of the vector in field \"v\" is 1e+39",
        ),
        (list(Arc::new(Float32Array::from(vec![f32::NAN]))), "value 1 of the vector in field \"v\" is NaN"),
        (
            list(Arc::new(Float32Array::from(vec![Some(1.0), None]))),
            "value 2 of the vector in field \"v\" is null",
        ),
        (list(Arc::new(StringArray::from(vec!["1"]))), "value 1 of the vector in field \"v\" is \"1\""),
        (list(Arc::new(Float32Array::from(Vec::<f32>::new()))), "has 0 values"),
        (list(Arc::new(Float32Array::from(vec![0.0; EMBEDDING_WIDTH_MAX + 1]))), "has 65537 values"),
        (Arc::new(StringArray::from(vec!["[1]"])), "the vector field \"v\" is a string; it must be a list"),
        (Arc::new(NullArray::new(1)), "the vector field \"v\" is null"),
    ] {
        // Columns of nulls take no bytes, and rows need some.
        let text = if values.data_type().is_null() {
            let rows: ArrayRef = Arc::new(Int32Array::from(vec![1]));
            Case::of_columns("v.arrow", vec![("v", values), ("n", rows)]).refusal(&only("v"))
        } else {
            refused(values)
        };
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn keys_and_texts_are_checked_as_in_json_lines() {
    let keyed = FieldNames { key: Some("id".into()), ..FieldNames::default() };
    let keys: ArrayRef = Arc::new(UInt64Array::from(vec![7, u64::MAX]));
    let rows = Case::of_columns("k.arrow", vec![("id", keys)]).read(&keyed).unwrap();
    assert_eq!(rows[1].key.as_deref(), Some("18446744073709551615"));
    for (array, expected) in [
        (Arc::new(StringArray::from(vec!["a", ""])) as ArrayRef, "row 2: the key field \"id\" is empty"),
        (Arc::new(LargeStringArray::from(vec![Some("a"), None])), "row 2: the key field \"id\" is null"),
        (Arc::new(Float64Array::from(vec![1.0, 2.5])), "row 1: the key field \"id\" is a number"),
    ] {
        let text = Case::of_columns("k.arrow", vec![("id", array)]).refusal(&keyed);
        assert!(text.contains(expected), "{text}");
    }
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let case = Case::of_columns("k.feather", vec![("n", Arc::clone(&numbers)), ("text", numbers)]);
    assert!(case.refusal(&keyed).contains("the key field \"id\" is missing, the fields are \"n\", \"text\""));
    assert!(case.refusal(&FieldNames::default()).contains("the text field \"text\" is a number"));
}

#[test]
fn values_without_a_place_in_metadata_are_refused_by_name() {
    let refused = |array: ArrayRef| {
        let rows: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        Case::of_columns("c.arrow", vec![("n", rows), ("image", array)]).refusal(&FieldNames::default())
    };
    for (array, expected) in [
        (Arc::new(BinaryArray::from(vec![b"x".as_slice()])) as ArrayRef, "field \"image\" is of type Binary"),
        (Arc::new(DurationSecondArray::from(vec![1])), "field \"image\" is of type Duration"),
        (Arc::new(Float64Array::from(vec![f64::NAN])), "row 1: the value of field \"image\" is NaN"),
        (Arc::new(Float32Array::from(vec![f32::INFINITY])), "row 1: the value of field \"image\" is inf"),
    ] {
        let text = refused(array);
        assert!(text.contains(expected), "{text}");
    }
    let keys =
        DictionaryArray::<UInt8Type>::new(vec![0].into(), Arc::new(BinaryArray::from(vec![b"x".as_slice()])));
    assert!(refused(Arc::new(keys)).contains("is of type Binary"));
    let twice: Vec<(&str, ArrayRef)> =
        vec![("n", Arc::new(Int32Array::from(vec![1]))), ("n", Arc::new(Int32Array::from(vec![1])))];
    assert!(
        Case::of_columns("c.arrow", twice).refusal(&FieldNames::default()).contains("\"n\" stands twice")
    );
}

#[test]
fn a_row_may_not_stand_for_far_more_than_its_bytes() {
    let mut many = ListBuilder::new(NullBuilder::new());
    many.values().append_nulls(2_000_000);
    many.append(true);
    let case = Case::of_columns("n.arrow", vec![("n", Arc::new(many.finish()))]);
    assert!(case.bytes.len() < 1024);
    assert!(case.refusal(&FieldNames::default()).contains("row 1: the row has more than"));
    let long = "x".repeat(40 * 1024 * 1024);
    let column = || -> ArrayRef {
        let keys = vec![0_i8; 2];
        Arc::new(DictionaryArray::<Int8Type>::new(
            keys.into(),
            Arc::new(StringArray::from(vec![long.as_str()])),
        ))
    };
    let case = Case::of_columns("d.arrow", vec![("a", column()), ("b", column())]);
    assert!(matches!(case.read(&FieldNames::default()), Err(SourceError::RowTooLarge { .. })));
}

#[test]
fn numbers_keep_their_kind() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("big", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("small", Arc::new(Float32Array::from(vec![0.5]))),
        ("half", Arc::new(Float16Array::from(vec![f16::from_f32(-1.25)]))),
        ("none", Arc::new(NullArray::new(1))),
    ];
    let rows = Case::of_columns("n.feather", columns).read(&FieldNames::default()).unwrap();
    assert_eq!(
        serde_json::Value::Object(rows[0].metadata.clone()),
        json!({"big": u64::MAX, "small": 0.5, "half": -1.25, "none": null})
    );
}
