//! Row files and encoder files.

use arrow_array::Array;
use arrow_ipc::reader::StreamReader;
use ascribe::base::{ColumnId, FieldType, Fingerprint, RowId, SegmentId, limits};
use ascribe::encoder::{Encoder, HashedEncoder};
use ascribe::storage::{
    RowFile, RowFileContent, SimulatedStorage, Storage, read_encoder_file, write_encoder_file, write_row_file,
};
use twox_hash::XxHash3_64;

use super::pages::{cut, mark, table};
use super::sample;
use super::sealed::take_apart;

fn storage() -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    storage.create_folder("encoders").unwrap();
    storage
}

fn numbers(bytes: &[u8], size: usize) -> Vec<u64> {
    assert_eq!(bytes.len() % size, 0);
    bytes
        .chunks(size)
        .map(|word| word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        .collect()
}

fn strings(offsets: &[u8], bytes: &[u8]) -> Vec<String> {
    let offsets = numbers(offsets, 8);
    assert_eq!((offsets[0], *offsets.last().unwrap()), (0, bytes.len() as u64));
    let piece = |pair: &[u64]| String::from_utf8(bytes[pair[0] as usize..pair[1] as usize].to_vec()).unwrap();
    offsets.windows(2).map(piece).collect()
}

#[test]
fn row_files_are_as_documented() {
    let (storage, content) = (storage(), sample::row_content());
    let record = write_row_file(&storage, SegmentId(1), &content).unwrap();
    let bytes = storage.read_file("segments/1.rows").unwrap();
    let sealed = take_apart(&bytes);
    assert_eq!(sealed.record(&bytes), record);
    let documented: Vec<u64> =
        table("row-file.md", "Sections").rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(sealed.order, documented);
    for (field, expected) in
        [("file kind", 1), ("segment", 1), ("row count", 3), ("column", 0), ("element type", 0), ("width", 0)]
    {
        assert_eq!(sealed.header.number(field), expected, "{field}");
    }

    let section = |tag| sealed.sections[&tag].as_slice();
    assert_eq!(strings(section(1), section(2)), content.keys);
    assert_eq!(strings(section(3), section(4)), content.texts);
    assert_eq!(strings(section(6), section(7)), content.extras);
    let mut index: Vec<(u64, u64)> =
        content.keys.iter().zip(0..).map(|(key, row)| (XxHash3_64::oneshot(key.as_bytes()), row)).collect();
    index.sort_unstable();
    let found: Vec<(u64, u64)> = numbers(section(8), 8).into_iter().zip(numbers(section(9), 4)).collect();
    assert_eq!(found, index);

    let file = RowFile::open(&storage, SegmentId(1), 3, record).unwrap();
    file.verify(&sample::fields()).unwrap();
    for (row, key) in content.keys.iter().enumerate() {
        assert_eq!(file.find(key).unwrap(), Some(RowId(row as u32)));
        assert_eq!(file.text(RowId(row as u32)).unwrap(), content.texts[row]);
    }
}

#[test]
fn metadata_has_the_documented_arrow_types() {
    let (storage, content) = (storage(), sample::row_content());
    write_row_file(&storage, SegmentId(1), &content).unwrap();
    let sealed = take_apart(&storage.read_file("segments/1.rows").unwrap());
    let mut reader = StreamReader::try_new(sealed.sections[&5].as_slice(), None).unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    assert_eq!(batch.num_rows(), 3);
    let documented = table("row-file.md", "Metadata").map("field type", "Arrow type");
    assert_eq!(documented.len(), FieldType::ALL.len());
    for ((declared, values), (field, column)) in
        sample::fields().iter().zip(sample::values()).zip(batch.schema().fields().iter().zip(batch.columns()))
    {
        assert_eq!(*field.name(), declared.name);
        assert!(field.is_nullable());
        let expected = documented[declared.kind.name()].replace(['(', ')', ',', '"'], " ");
        let found = format!("{:?}", field.data_type()).replace(['(', ')', ',', '"'], " ").replace("Some", "");
        assert_eq!(
            found.split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>(),
            "{}",
            declared.name
        );
        for (row, value) in values.iter().enumerate() {
            assert_eq!(column.is_null(row), value.is_none(), "{} of row {row}", declared.name);
        }
    }
}

#[test]
fn a_segment_without_fields_has_no_metadata_and_one_without_rows_is_possible() {
    let storage = storage();
    let content = RowFileContent { metadata: None, ..sample::row_content() };
    write_row_file(&storage, SegmentId(1), &content).unwrap();
    write_row_file(&storage, SegmentId(2), &RowFileContent::default()).unwrap();
    let sealed = take_apart(&storage.read_file("segments/1.rows").unwrap());
    assert_eq!(sealed.order, [1, 2, 3, 4, 6, 7, 8, 9]);
    let empty = take_apart(&storage.read_file("segments/2.rows").unwrap());
    assert_eq!(empty.sections[&1], [0; 8]);
    assert!(empty.sections[&8].is_empty() && empty.sections[&9].is_empty());
}

#[test]
fn encoder_files_are_as_documented() {
    let storage = storage();
    let fingerprint = Fingerprint::of(b"encoder");
    let record = write_encoder_file(&storage, ColumnId(3), &fingerprint, sample::ENCODER_STATE).unwrap();
    let name = format!("encoders/3.{fingerprint}.enc");
    let bytes = storage.read_file(&name).unwrap();
    let sealed = take_apart(&bytes);
    assert_eq!(sealed.record(&bytes), record);
    assert_eq!(sealed.order, [1]);
    assert_eq!(sealed.sections[&1], sample::ENCODER_STATE);
    for (field, expected) in [("file kind", 3), ("segment", 0), ("row count", 0), ("column", 3), ("width", 0)]
    {
        assert_eq!(sealed.header.number(field), expected, "{field}");
    }
    let read = read_encoder_file(&storage, ColumnId(3), &fingerprint, record).unwrap();
    assert_eq!(read, sample::ENCODER_STATE);
}

#[test]
fn the_state_of_the_hashed_encoder_is_as_documented() {
    let documents = ["a red house by the sea", "the red boat", "rain over the sea"];
    let encoder = HashedEncoder::fit(16, documents.into_iter()).unwrap();
    let bytes = encoder.to_bytes();
    let state = cut("encoder-file.md", "State of `hashed:<width>`", &bytes);
    assert_eq!(state.bytes("mark"), mark("ASCRHASH"));
    let entries = state.bytes("entries");
    for (field, expected) in
        [("version", 1), ("width", 16), ("documents", 3), ("entry count", entries.len() as u64 / 8)]
    {
        assert_eq!(state.number(field), expected, "{field}");
    }
    assert!(entries.len() >= 16 && entries.len().is_multiple_of(8), "words in common make entries");
    let mut below = 0;
    for entry in entries.chunks(8) {
        let entry = cut("encoder-file.md", "Entry", entry);
        let (bucket, frequency) = (entry.number("bucket"), entry.number("document frequency"));
        assert!((below..1 << 20).contains(&bucket) && (2..=3).contains(&frequency), "{bucket} {frequency}");
        below = bucket + 1;
    }
    let fingerprint = Fingerprint::of(&[b"ascribe-encoder-1/hashed/", bytes.as_slice()].concat());
    assert_eq!(encoder.fingerprint(), fingerprint);
    assert_eq!(
        (limits::HASHED_WIDTH_MIN, limits::HASHED_WIDTH_MAX, limits::HASHED_BUCKETS),
        (8, 4096, 1 << 20)
    );
    assert_eq!(HashedEncoder::from_bytes(&bytes).unwrap().fingerprint(), fingerprint);
}
