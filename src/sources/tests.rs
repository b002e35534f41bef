//! Suites over all readers of documents: round trips, resuming, cut-off and changed bytes.

use std::fs;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::sample_file::SampleFile;
use super::*;
use crate::base::Fingerprint;

/// Every document up to the end or the first refusal.
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

fn read(bytes: &[u8], format: InputFormat, fields: &FieldNames) -> (Vec<Document>, Option<SourceError>) {
    match from_reader(std::io::Cursor::new(bytes.to_vec()), "in", format, fields) {
        Ok(mut source) => drain(source.as_mut()),
        Err(error) => (Vec::new(), Some(error)),
    }
}

fn all_roles() -> FieldNames {
    FieldNames { key: Some("id".into()), text: Some("body".into()), vector: Some("v".into()) }
}

/// An input of each format with everything that is tolerated, and its number of documents.
fn samples() -> [(InputFormat, &'static str, FieldNames, &'static str, usize); 4] {
    [
        (
            InputFormat::JsonLines,
            "in.jsonl",
            all_roles(),
            "\u{feff}{\"id\":1,\"body\":\"a\\u00e9\",\"v\":[1,2]}\r\n\n{\"id\":\"b\",\"body\":\"\",\"v\":[-0.5,1e3],\"m\":{\"x\":[null,true]}}\n \n{\"id\":\"c\",\"body\":\"\u{e9}\",\"v\":[0,0]}",
            3,
        ),
        (
            InputFormat::Csv,
            "in.csv",
            all_roles(),
            "\u{feff}id,\"bo\"\"dy\",body,v\r\n1,x,\"a,\n\n\"\"b\"\"\",\"[1, 2]\"\n\n2,\"\",\"\u{e9}\",[3]\r\n3,y,,[4]",
            3,
        ),
        (InputFormat::Tsv, "in.tsv", FieldNames::default(), "text\tn\na,b\t1\n\"c\td\"\t2\n", 2),
        (InputFormat::TextLines, "in.txt", FieldNames::default(), "\u{feff}a\r\n\n\nb \u{e9}\nc\n\n", 3),
    ]
}

/// The position behind the first `count` documents.
fn position_behind(file: &SampleFile, fields: &FieldNames, count: usize) -> Position {
    let mut source = file.open(fields, None).source;
    for _ in 0..count {
        source.next().unwrap().unwrap();
    }
    source.position().unwrap()
}

#[test]
fn going_on_behind_any_document_gives_the_same_as_one_pass() {
    for (_, name, fields, text, count) in samples() {
        let case = SampleFile::new(name, text.as_bytes());
        let (whole, error) = drain(case.open(&fields, None).source.as_mut());
        assert!(error.is_none() && whole.len() == count, "{name}: {error:?}");
        for split in 0..=count {
            let position = position_behind(&case, &fields, split);
            let consumed = position.consumed_bytes as usize;
            assert_eq!(position.prefix, Fingerprint::of(&text.as_bytes()[..consumed]), "{name}");
            let mut opened = case.open(&fields, Some(&position));
            let expected = match split {
                0 => Resumed::Fresh,
                _ => Resumed::Continued { records: split as u64 },
            };
            assert_eq!(opened.resumed, expected, "{name}");
            assert_eq!(opened.source.position().unwrap(), position, "{name}");
            let (rest, error) = drain(opened.source.as_mut());
            assert!(error.is_none(), "{name}: {error:?}");
            assert_eq!(rest, whole[split..], "{name} from document {split}");
            assert_eq!(opened.source.position().unwrap(), position_behind(&case, &fields, count), "{name}");
            assert_eq!(opened.source.consumed_bytes(), text.len() as u64);
            assert_eq!(opened.source.total_bytes(), Some(text.len() as u64));
        }
    }
}

#[test]
fn a_file_that_grew_goes_on_behind_the_consumed_part() {
    let fields = FieldNames::default();
    for (name, old, more) in [
        ("in.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n", "{\"text\":\"c\"}\n"),
        ("in.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"}", "\n{\"text\":\"c\"}\n"),
        ("in.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"}", "\r\n{\"text\":\"c\"}"),
        ("in.csv", "text\na\n\"b\"\n", "c\n"),
        ("in.csv", "text\na\n\"b\"", "\r\nc\r\n"),
        ("in.txt", "a\n\nb", "\nc"),
        ("in.txt", "a\n\nb\r", "\nc"),
    ] {
        let case = SampleFile::new(name, old.as_bytes());
        let position = position_behind(&case, &fields, 2);
        case.write(format!("{old}{more}").as_bytes());
        let (whole, _) = drain(case.open(&fields, None).source.as_mut());
        let mut opened = case.open(&fields, Some(&position));
        assert_eq!(opened.resumed, Resumed::Continued { records: 2 }, "{old:?} + {more:?}");
        let (rest, error) = drain(opened.source.as_mut());
        assert!(error.is_none(), "{error:?}");
        assert_eq!((rest.as_slice(), rest.len()), (&whole[2..], 1), "{old:?} + {more:?}");
        assert_eq!(opened.source.position().unwrap().consumed_records, 3);
        // The new position holds too.
        let again = case.open(&fields, opened.source.position().as_ref());
        assert_eq!(again.resumed, Resumed::Continued { records: 3 });
    }
}

#[test]
fn a_last_line_that_was_added_to_is_a_change() {
    for (name, old, more) in
        [("in.txt", "a\nb", "c\n"), ("in.csv", "text\na\nb", "b"), ("in.jsonl", "{}\n{}", " {}\n")]
    {
        let case = SampleFile::new(name, old.as_bytes());
        let fields = FieldNames::default();
        let position = position_behind(&case, &fields, 2);
        case.write(format!("{old}{more}").as_bytes());
        let opened = case.open(&fields, Some(&position));
        assert_eq!(opened.resumed, Resumed::Changed, "{name}");
        let position = opened.source.position().unwrap();
        assert_eq!((position.consumed_bytes, position.consumed_records), (0, 0));
    }
}

#[test]
fn a_changed_or_shorter_prefix_starts_again() {
    for (_, name, fields, text, count) in samples() {
        let case = SampleFile::new(name, text.as_bytes());
        let position = position_behind(&case, &fields, count);
        let (whole, _) = drain(case.open(&fields, None).source.as_mut());
        // The last line end does not matter to the documents, but one consumed byte less does.
        case.write(&text.as_bytes()[..position.consumed_bytes as usize - 1]);
        let shorter = open_path(&case.path(), None, &fields, Some(&position)).unwrap();
        assert_eq!(shorter.resumed, Resumed::Changed, "{name}");
        let changed = text.replacen('1', "7", 1).replacen("\nb", "\nB", 1);
        assert_ne!(changed, text);
        case.write(changed.as_bytes());
        let mut opened = case.open(&fields, Some(&position));
        assert_eq!(opened.resumed, Resumed::Changed, "{name}");
        let (documents, _) = drain(opened.source.as_mut());
        assert_eq!(documents.len(), count);
        assert_ne!(documents, whole);
    }
}

#[test]
fn a_position_inside_the_header_or_beyond_the_file_is_a_change() {
    let case = SampleFile::new("in.csv", b"text\na\n");
    for consumed in [1, 4, u64::MAX] {
        let prefix = Fingerprint::of(&b"text\na\n"[..consumed.min(7) as usize]);
        let position = Position { consumed_bytes: consumed, prefix, consumed_records: 1 };
        assert_eq!(case.open(&FieldNames::default(), Some(&position)).resumed, Resumed::Changed);
    }
}

#[test]
fn a_position_does_not_move_for_a_refused_record() {
    let case = SampleFile::new("in.jsonl", b"{}\n\n?\n");
    let mut source = case.open(&FieldNames::default(), None).source;
    source.next().unwrap();
    source.next().unwrap_err();
    assert_eq!(source.position().unwrap().consumed_bytes, 3);
    source.next().unwrap_err();
    assert_eq!(source.position().unwrap().consumed_bytes, 3);
}

#[test]
fn paths_that_cannot_be_read_are_refused_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let refused = |name: &str, format| {
        let path = folder.path().join(name);
        open_path(&path, format, &FieldNames::default(), None).err().map(|error| error.to_string())
    };
    for name in ["a.parquet.gz", "a.ARROW.zst"] {
        fs::write(folder.path().join(name), "x").unwrap();
        let text = refused(name, None).unwrap();
        assert!(text.contains("decompress it first") && text.contains(name), "{text}");
    }
    assert!(refused("", None).unwrap().contains("is a folder; name the files in it"));
    assert!(refused("none.csv", None).unwrap().contains("cannot open"));
    for name in ["a", "a.xlsx", "a.gz", "a.xlsx.zst"] {
        fs::write(folder.path().join(name), "x").unwrap();
        assert!(refused(name, None).unwrap().contains("name it .jsonl, .csv, .tsv, .txt, .parquet or"));
        if !name.contains('z') {
            assert_eq!(refused(name, Some(InputFormat::TextLines)), None);
        }
    }
    for format in [InputFormat::Arrow, InputFormat::Parquet] {
        let stream = from_reader(std::io::empty(), "stdin", format, &FieldNames::default());
        assert!(
            stream.err().unwrap().to_string().contains("stdin: Arrow and Parquet are read from files only")
        );
    }
    fs::write(folder.path().join("a.json"), " \n [1]").unwrap();
    let mut source =
        open_path(&folder.path().join("a.json"), None, &FieldNames::default(), None).unwrap().source;
    assert!(source.next().unwrap_err().to_string().contains("line 2 begins a JSON list"));
}

#[test]
fn cut_off_inputs_give_a_prefix_or_a_refusal() {
    for (format, name, fields, text, count) in samples() {
        let (whole, error) = read(text.as_bytes(), format, &fields);
        assert!(error.is_none() && whole.len() == count, "{name}: {error:?}");
        for length in 0..text.len() {
            let (documents, error) = read(&text.as_bytes()[..length], format, &fields);
            // The last JSON object is complete or refused; a last cell or text may be cut short without a trace.
            let sure = match format {
                InputFormat::JsonLines => documents.len(),
                _ => documents.len().saturating_sub(1),
            };
            assert_eq!(documents[..sure], whole[..sure], "{name} cut at {length}: {error:?}");
            assert!(documents.len() <= count);
        }
    }
}

#[test]
fn changed_bytes_never_panic() {
    for (format, name, fields, text, _) in samples() {
        let original = read(text.as_bytes(), format, &fields).0;
        let mut refused = 0;
        for (offset, change) in (0..text.len())
            .flat_map(|offset| [1, 2, 4, 8, 16, 32, 64, 128, 255].map(|change| (offset, change)))
        {
            let mut bytes = text.as_bytes().to_vec();
            bytes[offset] ^= change;
            let (documents, error) = read(&bytes, format, &fields);
            refused += usize::from(error.is_some());
            assert!(documents.len() <= original.len() + 1, "{name}, byte {offset} ^ {change}");
        }
        assert!(refused > 0, "{name}: not one change was noticed");
    }
}

fn text_strategy(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    // Characters that formats care about come often.
    let character = prop_oneof![
        3 => prop::sample::select(vec!['"', ',', '\\', ' ', '\t', '\u{feff}', '\'', '{', '[', '\0', '\u{2028}']),
        2 => prop::sample::select(vec!['\n', '\r']),
        5 => any::<char>(),
    ];
    prop::collection::vec(character, length).prop_map(|characters| characters.into_iter().collect())
}

fn value_strategy() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i16>().prop_map(|value| json!(f64::from(value) / 64.0)),
        text_strategy(0..8).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text_strategy(0..4), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Clone, Debug)]
struct Row {
    key: String,
    text: String,
    vector: Vec<f32>,
    metadata: Vec<Value>,
}

fn rows_strategy(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<Row>> {
    let finite = any::<f32>().prop_filter("finite", |value| value.is_finite());
    let row = (
        text_strategy(1..6),
        text_strategy(0..12),
        prop::collection::vec(finite, 1..4),
        prop::collection::vec(value, 2),
    )
        .prop_map(|(key, text, vector, metadata)| Row { key, text, vector, metadata });
    prop::collection::vec(row, 0..6)
}

/// The names of the two metadata fields of every row.
const METADATA_NAMES: [&str; 2] = ["z \"1\"", "a,\n2"];

fn check_rows(rows: &[Row], bytes: &[u8], format: InputFormat) {
    let (documents, error) = read(bytes, format, &all_roles());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(documents.len(), rows.len());
    for (document, row) in documents.iter().zip(rows) {
        assert_eq!(document.key.as_ref(), Some(&row.key));
        assert_eq!(document.text.as_ref(), Some(&row.text));
        assert_eq!(document.vector.as_ref(), Some(&row.vector));
        let metadata: Map<_, _> =
            METADATA_NAMES.iter().map(|name| (*name).to_owned()).zip(row.metadata.clone()).collect();
        assert!(document.metadata.iter().eq(metadata.iter()), "{:?}", document.metadata);
    }
}

fn vector_text(vector: &[f32]) -> String {
    let values: Vec<_> = vector.iter().map(|value| format!("{value:e}")).collect();
    format!("[{}]", values.join(", "))
}

proptest! {
    #[test]
    fn documents_written_as_json_lines_come_back(rows in rows_strategy(value_strategy())) {
        let mut input = String::new();
        for row in &rows {
            let fields = [
                (METADATA_NAMES[0], row.metadata[0].to_string()),
                ("id", Value::from(row.key.as_str()).to_string()),
                ("body", Value::from(row.text.as_str()).to_string()),
                ("v", vector_text(&row.vector)),
                (METADATA_NAMES[1], row.metadata[1].to_string()),
            ];
            let members: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
            input += &format!("{{{}}}\n", members.join(","));
        }
        check_rows(&rows, input.as_bytes(), InputFormat::JsonLines);
    }

    #[test]
    fn documents_written_as_csv_come_back(
        rows in rows_strategy(text_strategy(0..8).prop_map(Value::from)),
        tabs in any::<bool>(),
        carriage_returns in any::<bool>(),
    ) {
        let terminator = if carriage_returns { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let (separator, format) = if tabs { (b'\t', InputFormat::Tsv) } else { (b',', InputFormat::Csv) };
        let mut writer =
            csv::WriterBuilder::new().delimiter(separator).terminator(terminator).from_writer(Vec::new());
        writer.write_record([METADATA_NAMES[0], "id", "body", "v", METADATA_NAMES[1]]).unwrap();
        for row in &rows {
            let vector = vector_text(&row.vector);
            let [first, second] = [0, 1].map(|index| row.metadata[index].as_str().unwrap());
            writer.write_record([first, &row.key, &row.text, &vector, second]).unwrap();
        }
        check_rows(&rows, &writer.into_inner().unwrap(), format);
    }

    #[test]
    fn any_bytes_give_documents_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [InputFormat::JsonLines, InputFormat::Csv, InputFormat::Tsv, InputFormat::TextLines] {
            let (documents, _) = read(&bytes, format, &FieldNames::default());
            prop_assert!(documents.len() <= bytes.len());
        }
        prop_assert!(Matrix::from_npy(&bytes, "in").is_err());
        prop_assert!(Matrix::from_safetensors(&bytes, "in").is_err());
    }
}
