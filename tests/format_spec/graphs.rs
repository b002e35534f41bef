//! Graph files: head, links, levels, and what they were made from; damage found at the first touch.

use std::sync::Arc;

use ascribe::base::{ColumnId, ElementType, SegmentId};
use ascribe::engine::{OpenOptions, Store};
use ascribe::format::{FileRecord, GraphHead, GraphMaker, GraphRecall, IndexHeader};
use ascribe::storage::{
    FileError, GraphContent, GraphFile, SimulatedStorage, Storage, graph_file_name, write_graph_file,
};

use super::indexes::indexed;
use super::pages::{cut, table};
use super::sealed::take_apart;

const NONE: u32 = u32::MAX;
const ORIGIN: FileRecord = FileRecord { length: 640, root: 0x1122_3344_5566_7788 };

fn column(row_count: u32) -> IndexHeader {
    IndexHeader { segment: SegmentId(3), row_count, column: ColumnId(2), width: 33 }
}

fn head() -> GraphHead {
    let recall = [(16, 0.99), (32, 1.0), (48, 0.5), (64, 0.75)];
    GraphHead {
        maker: GraphMaker::HnswRs,
        seed: 0x0102_0304_0506_0708,
        build_beam: 200,
        base_links: 3,
        upper_links: 2,
        entry: Some(4),
        graph_rows: 4,
        scanned_rows: 1,
        reachable_rows: 5,
        graph_norm: 1.5,
        least_norm: 0.25,
        largest_norm: f32::INFINITY,
        level_rows: vec![3, 1],
        recall: recall.map(|(beam, recall)| GraphRecall { beam, recall, is_coarse: beam > 20 && beam < 50 }),
    }
}

/// Five rows: 0, 1, 3 and 4 in the graph, 1, 3 and 4 on the level above the base, 4 on the next; 2 is scanned.
const LINKS: [u32; 15] = [1, NONE, NONE, 0, 3, 4, NONE, NONE, NONE, 1, 4, NONE, 3, 1, NONE];
const UPPER: [u32; 12] = [1, 3, 4, 2, 1, 0, NONE, 0, NONE, 4, NONE, NONE];

fn write(storage: &SimulatedStorage, upper: &[u32]) -> Result<(), FileError> {
    let head = head();
    let content = GraphContent { head: &head, links: &LINKS, upper, scanned: &[2] };
    write_graph_file(storage, &column(5), ORIGIN, &content)
}

fn medium() -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    storage
}

fn links(file: &GraphFile, level: u32, row: u32) -> Result<Vec<u32>, FileError> {
    let mut links = Vec::new();
    file.links().append(level, row, &mut links).map(|()| links)
}

#[test]
fn graph_files_are_as_documented() {
    let storage = medium();
    write(&storage, &UPPER).unwrap();
    let sealed = take_apart(&storage.read_file("segments/3.2.graph").unwrap());
    for (field, expected) in [
        ("file kind", 5),
        ("segment", 3),
        ("row count", 5),
        ("column", 2),
        ("element type", 0),
        ("encoding", 0),
        ("width", 33),
        ("members", 0),
    ] {
        assert_eq!(sealed.header.number(field), expected, "{field}");
    }
    let documented: Vec<u64> =
        table("graph-file.md", "Sections").rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(sealed.order, documented);
    let origin = cut("index-file.md", "Origin", &sealed.sections[&1]);
    assert_eq!((origin.number("length"), origin.number("root")), (ORIGIN.length, ORIGIN.root));
    let (bytes, expected) = (cut("graph-file.md", "Head", &sealed.sections[&2]), head());
    for (field, expected) in [
        ("seed", expected.seed),
        ("builder", 2),
        ("build beam", 200),
        ("base links", 3),
        ("upper links", 2),
        ("entry", 4),
        ("graph rows", 4),
        ("scanned rows", 1),
        ("reachable rows", 5),
        ("levels", 2),
        ("coarse", 0b0110),
        ("reserved", 0),
    ] {
        assert_eq!(bytes.number(field), expected, "{field}");
    }
    let numbers = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks(4).map(|number| u32::from_le_bytes(number.try_into().unwrap())).collect()
    };
    for (field, norm) in [("graph norm", 1.5), ("least norm", 0.25), ("largest norm", f32::INFINITY)] {
        assert_eq!(bytes.bytes(field), norm.to_le_bytes(), "{field}");
    }
    assert_eq!(numbers(bytes.bytes("level rows"))[..3], [3, 1, 0]);
    let recall = expected.recall.map(|measured| [measured.beam, measured.recall.to_bits()]);
    assert_eq!(numbers(bytes.bytes("recall")), recall.concat());
    assert_eq!(numbers(&sealed.sections[&3]), LINKS);
    assert_eq!(numbers(&sealed.sections[&4]), UPPER);
    assert_eq!(numbers(&sealed.sections[&5]), [2]);
    assert!(!storage.exists("segments/3.2.graph.unfinished").unwrap());
}

#[test]
fn what_was_written_is_read() {
    let storage = medium();
    assert!(GraphFile::open(&storage, &column(5), ORIGIN).unwrap().is_none());
    write(&storage, &UPPER).unwrap();
    let file = GraphFile::open(&storage, &column(5), ORIGIN).unwrap().unwrap();
    assert_eq!(file.head(), &head());
    for (level, row, expected) in [
        (0, 0, vec![1]),
        (0, 1, vec![0, 3, 4]),
        (0, 2, vec![]),
        (1, 1, vec![4, 3]),
        (1, 3, vec![1]),
        (1, 4, vec![1]),
        (1, 0, vec![]),
        (2, 4, vec![]),
        (2, 1, vec![]),
        (9, 4, vec![]),
    ] {
        assert_eq!(links(&file, level, row).unwrap(), expected, "{level} {row}");
    }
    assert!(links(&file, 0, 5).is_err() && links(&file, 0, u32::MAX).is_err());
    let mut scanned = Vec::new();
    file.scanned(&mut scanned).unwrap();
    assert_eq!(scanned, [2]);
    let other = FileRecord { root: 1, ..ORIGIN };
    assert!(matches!(GraphFile::open(&storage, &column(5), other), Err(FileError::Content { .. })));
    assert!(matches!(GraphFile::open(&storage, &column(6), ORIGIN), Err(FileError::Content { .. })));
}

#[test]
fn places_beyond_a_level_and_content_that_does_not_fit_are_refused() {
    let storage = medium();
    let mut upper = UPPER;
    upper[4] = 3;
    write(&storage, &upper).unwrap();
    let file = GraphFile::open(&storage, &column(5), ORIGIN).unwrap().unwrap();
    assert!(matches!(links(&file, 1, 1), Err(FileError::Content { .. })));
    assert_eq!(links(&file, 1, 3).unwrap(), [1]);
    assert!(matches!(write(&storage, &UPPER[1..]), Err(FileError::Content { .. })));
    // The one that was there stays.
    assert!(GraphFile::open(&storage, &column(5), ORIGIN).unwrap().is_some());
}

#[test]
fn a_damaged_block_is_found_when_it_is_touched_and_not_before() {
    let rows = 60_000;
    let head = GraphHead { base_links: 3, graph_rows: rows, entry: Some(0), ..GraphHead::default() };
    let all: Vec<u32> = (0..3 * rows).map(|place| place % rows).collect();
    let storage = medium();
    let content = GraphContent { head: &head, links: &all, upper: &[], scanned: &[] };
    write_graph_file(&storage, &column(rows), ORIGIN, &content).unwrap();
    let name = graph_file_name(SegmentId(3), ColumnId(2));
    let mut bytes = storage.read_file(&name).unwrap();
    // Somewhere in the fourth block: rows from about 16,000 on.
    bytes[64 + 3 * 65_536 + 100] ^= 1;
    storage.overwrite_file(&name, &bytes).unwrap();
    let file = GraphFile::open(&storage, &column(rows), ORIGIN).unwrap().unwrap();
    assert_eq!(links(&file, 0, 100).unwrap(), [300, 301, 302]);
    assert!(matches!(links(&file, 0, 17_000), Err(FileError::Damaged { .. })));
    assert_eq!(links(&file, 0, 50_000).unwrap(), [30_000, 30_001, 30_002]);
}

#[test]
fn graphs_stay_as_long_as_their_columns() {
    let storage = indexed(ElementType::F32);
    let names = ["segments/1.1.graph", "segments/1.1.graph.unfinished", "segments/7.1.graph"];
    for name in names {
        storage.create(name).unwrap().write(b"a graph").unwrap();
    }
    drop(Store::open(Arc::clone(&storage) as Arc<dyn Storage>, OpenOptions::default()).unwrap());
    assert_eq!(names.map(|name| storage.exists(name).unwrap()), [true, true, false]);
}
