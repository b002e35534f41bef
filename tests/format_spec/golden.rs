//! Files of format version 0, byte for byte. Whoever changes the format on purpose writes them again with
//! `ASCRIBE_WRITE_GOLDEN=1 cargo test --test format_spec golden` and shows the difference.

use std::path::PathBuf;

use ascribe::base::{ColumnId, CommitSeq, Fingerprint, RowId, SegmentId};
use ascribe::format::{
    CommitRecord, DeletedRecord, FileRecord, SegmentRecord, SourceRecord, StoreRecord, decode_current,
    decode_manifest, encode_current, encode_manifest, open_record, seal_record,
};
use ascribe::storage::{ColumnFile, RowFile, SimulatedStorage, Storage, read_encoder_file};

use super::sample;
use super::sealed::take_apart;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "version-0", name].iter().collect()
}

fn golden(name: &str) -> Vec<u8> {
    let path = path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn encoder_name() -> String {
    format!("encoders/1.{}.enc", Fingerprint([0xab; 32]))
}

/// Names of golden files, and what the code writes now.
fn written() -> Vec<(&'static str, Vec<u8>)> {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    storage.create_folder("encoders").unwrap();
    sample::write_segment(&storage, &sample::first_state());
    let file = |name: &str| storage.read_file(name).unwrap();
    vec![
        ("rows", file("segments/1.rows")),
        ("embedding.col", file("segments/1.1.col")),
        ("sketch.col", file("segments/1.2.col")),
        ("encoder.enc", file(&encoder_name())),
        ("manifest", encode_manifest(&sample::manifest()).unwrap()),
        ("current", encode_current(CommitSeq(7))),
        ("store.record", seal_record(&sample::store_record(7)).unwrap()),
        ("segment.record", seal_record(&sample::segment_record()).unwrap()),
        ("deleted.record", seal_record(&sample::deleted_record()).unwrap()),
        ("source.record", seal_record(&sample::source_record()).unwrap()),
        ("commit.record", seal_record(&sample::commit_record(7)).unwrap()),
    ]
}

#[test]
fn golden_files_are_written_byte_for_byte() {
    let rewrite = std::env::var_os("ASCRIBE_WRITE_GOLDEN").is_some_and(|value| value == "1");
    for (name, bytes) in written() {
        if rewrite {
            std::fs::create_dir_all(path("")).unwrap();
            std::fs::write(path(name), &bytes).unwrap();
        }
        let expected = golden(name);
        let first = bytes.iter().zip(&expected).position(|(now, then)| now != then);
        assert_eq!((first, bytes.len()), (None, expected.len()), "{name}: first other byte, length");
    }
}

fn open_golden(name: &str, golden_name: &str) -> (SimulatedStorage, FileRecord) {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    storage.create_folder("encoders").unwrap();
    let bytes = golden(golden_name);
    storage.overwrite_file(name, &bytes).unwrap();
    let record = take_apart(&bytes).record(&bytes);
    (storage, record)
}

#[test]
fn golden_files_are_read() {
    let content = sample::row_content();
    let (storage, record) = open_golden("segments/1.rows", "rows");
    let rows = RowFile::open(&storage, SegmentId(1), 3, record).unwrap();
    rows.verify(&sample::fields()).unwrap();
    for (row, key) in content.keys.iter().enumerate() {
        assert_eq!(rows.find(key).unwrap(), Some(RowId(row as u32)));
    }
    let batch = rows.metadata(&sample::fields()).unwrap().unwrap();
    for (field, values) in sample::fields().iter().zip(sample::values()) {
        for (row, value) in values.into_iter().enumerate() {
            assert_eq!(ascribe::format::metadata_value(batch, &field.name, RowId(row as u32)), value);
        }
    }

    for (name, golden_name, column, modules) in [
        ("segments/1.1.col", "embedding.col", 1, Vec::new()),
        ("segments/1.2.col", "sketch.col", 2, sample::modules()),
    ] {
        let (storage, record) = open_golden(name, golden_name);
        let file = ColumnFile::open(&storage, SegmentId(1), ColumnId(column), 3, record).unwrap();
        file.verify().unwrap();
        assert_eq!(file.modules(), modules);
        let (terms, outcomes) = sample::beside(file.header(), &modules);
        assert_eq!(file.terms(RowId(0), 3).unwrap().unwrap_or_default(), terms);
        assert_eq!(file.outcomes(RowId(0), 3).unwrap().unwrap_or_default(), outcomes);
        let width = file.width();
        let (values, scales) =
            sample::stored(file.element(), width, &modules, &sample::plain_values(3 * width));
        assert_eq!(file.values(RowId(0), 3).unwrap(), values);
        assert_eq!(file.scales(RowId(0), 3).unwrap().unwrap_or_default(), scales);
    }

    let (storage, record) = open_golden(&encoder_name(), "encoder.enc");
    let state = read_encoder_file(&storage, ColumnId(1), &Fingerprint([0xab; 32]), record).unwrap();
    assert_eq!(state, sample::ENCODER_STATE);

    assert_eq!(decode_manifest(&golden("manifest"), CommitSeq(7)), Ok(sample::manifest()));
    assert_eq!(decode_current(&golden("current")), Ok(CommitSeq(7)));
    assert_eq!(open_record::<StoreRecord>(&golden("store.record")), Ok(sample::store_record(7)));
    assert_eq!(open_record::<SegmentRecord>(&golden("segment.record")), Ok(sample::segment_record()));
    assert_eq!(open_record::<DeletedRecord>(&golden("deleted.record")), Ok(sample::deleted_record()));
    assert_eq!(open_record::<SourceRecord>(&golden("source.record")), Ok(sample::source_record()));
    assert_eq!(open_record::<CommitRecord>(&golden("commit.record")), Ok(sample::commit_record(7)));
}
