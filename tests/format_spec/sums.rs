//! Sums files: head, sums, and what they were made from.

use std::sync::Arc;

use ascribe::base::{ColumnId, ElementType, SegmentId};
use ascribe::engine::{OpenOptions, Store};
use ascribe::format::{FileRecord, SumsHeader, SumsKind};
use ascribe::storage::{FileError, SimulatedStorage, Storage, SumsFile, sums_file_name, write_sums_file};

use super::indexes::indexed;
use super::pages::{cut, table};
use super::sealed::take_apart;

const ORIGIN: FileRecord = FileRecord { length: 640, root: 0x1122_3344_5566_7788 };

/// Sums of two members with three parameters each.
const OUTER: [&[f64]; 2] = [&[1.0, -0.5, 2.0, 0.25, 0.125, 3.0], &[4.0, 0.0, 5.0, -1.5, 1.0, 6.0]];
const SQUARES: [&[f64]; 2] = [&[1.0, 2.0, 3.0], &[4.0, 5.0, 1e-300]];

fn header(kind: SumsKind) -> SumsHeader {
    let (segment, column) = (SegmentId(3), ColumnId(2));
    SumsHeader { segment, row_count: 9, column, width: 7, members: 2, kind, parameters: 3 }
}

fn sums(kind: SumsKind) -> [&'static [f64]; 2] {
    if kind == SumsKind::Diagonal { SQUARES } else { OUTER }
}

fn written(kind: SumsKind) -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    write_sums_file(&storage, &header(kind), ORIGIN, &sums(kind)).unwrap();
    storage
}

#[test]
fn sums_files_are_as_documented() {
    let kinds = table("sums-file.md", "Kinds").map("code", "kind");
    assert_eq!(kinds.len(), SumsKind::ALL.len());
    for kind in SumsKind::ALL {
        assert_eq!(kinds[&kind.code().to_string()], kind.name());
        let storage = written(kind);
        let sealed = take_apart(&storage.read_file(&format!("segments/3.2.{}.sums", kind.name())).unwrap());
        for (field, expected) in [
            ("file kind", 7),
            ("segment", 3),
            ("row count", 9),
            ("column", 2),
            ("element type", 0),
            ("encoding", 0),
            ("width", 7),
            ("members", 2),
        ] {
            assert_eq!(sealed.header.number(field), expected, "{field}");
        }
        let documented: Vec<u64> =
            table("sums-file.md", "Sections").rows.iter().map(|row| row[0].parse().unwrap()).collect();
        assert_eq!(sealed.order, documented);
        let origin = cut("index-file.md", "Origin", &sealed.sections[&1]);
        assert_eq!((origin.number("length"), origin.number("root")), (ORIGIN.length, ORIGIN.root));
        let head = cut("sums-file.md", "Head", &sealed.sections[&2]);
        for (field, expected) in [("kind", u64::from(kind.code())), ("reserved", 0), ("parameters", 3)] {
            assert_eq!(head.number(field), expected, "{field}");
        }
        let bytes: Vec<u8> = sums(kind).concat().iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sealed.sections[&3], bytes);
        assert!(!storage.names().iter().any(|name| name.ends_with(".unfinished")));
    }
}

#[test]
fn what_was_written_is_read_and_other_sums_are_refused() {
    for kind in SumsKind::ALL {
        let storage = written(kind);
        let file = SumsFile::open(&storage, &header(kind), ORIGIN).unwrap().unwrap();
        for (member, expected) in sums(kind).into_iter().enumerate() {
            assert_eq!(file.member(member as u32).unwrap(), expected);
        }
        assert!(file.member(2).is_err() && file.member(u32::MAX).is_err());
        file.verify().unwrap();
        for other in SumsKind::ALL.into_iter().filter(|other| *other != kind) {
            assert!(SumsFile::open(&storage, &header(other), ORIGIN).unwrap().is_none());
            // Under the name of another kind it is not taken for it.
            let renamed = storage.duplicate();
            let name = |kind| sums_file_name(SegmentId(3), ColumnId(2), kind);
            renamed.rename(&name(kind), &name(other)).unwrap();
            let opened = SumsFile::open(&renamed, &header(other), ORIGIN);
            assert!(matches!(opened, Err(FileError::Content { .. })), "{opened:?}");
        }
        let wrong = [
            (header(kind), FileRecord { root: 1, ..ORIGIN }),
            (header(kind), FileRecord { length: 1, ..ORIGIN }),
            (SumsHeader { row_count: 10, ..header(kind) }, ORIGIN),
            (SumsHeader { width: 8, ..header(kind) }, ORIGIN),
            (SumsHeader { members: 1, ..header(kind) }, ORIGIN),
            (SumsHeader { parameters: 4, ..header(kind) }, ORIGIN),
            (SumsHeader { parameters: u64::MAX, ..header(kind) }, ORIGIN),
        ];
        for (header, origin) in wrong {
            let opened = SumsFile::open(&storage, &header, origin);
            assert!(matches!(opened, Err(FileError::Content { .. })), "{header:?}: {opened:?}");
        }
        for sums in [&SQUARES[..1], &[&[1.0], &[2.0]]] {
            let refused = write_sums_file(&storage, &header(kind), ORIGIN, sums);
            assert!(matches!(refused, Err(FileError::Content { .. })), "{refused:?}");
        }
    }
}

#[test]
fn a_sum_that_is_not_finite_is_found_when_it_is_read() {
    for value in [f64::NAN, f64::INFINITY] {
        let storage = written(SumsKind::Diagonal);
        let sums: [&[f64]; 2] = [&[1.0, 2.0, 3.0], &[4.0, value, 6.0]];
        write_sums_file(&storage, &header(SumsKind::Diagonal), ORIGIN, &sums).unwrap();
        let file = SumsFile::open(&storage, &header(SumsKind::Diagonal), ORIGIN).unwrap().unwrap();
        assert_eq!(file.member(0).unwrap(), sums[0]);
        for refused in [file.member(1).map(drop), file.verify()] {
            assert!(matches!(&refused, Err(FileError::Content { .. })), "{refused:?}");
        }
    }
}

#[test]
fn sums_stay_as_long_as_their_columns() {
    let storage = indexed(ElementType::F32);
    let names =
        ["segments/1.1.margin.sums", "segments/1.1.fisher.sums.unfinished", "segments/7.1.margin.sums"];
    for name in names {
        storage.create(name).unwrap().write(b"sums").unwrap();
    }
    drop(Store::open(Arc::clone(&storage) as Arc<dyn Storage>, OpenOptions::default()).unwrap());
    assert_eq!(names.map(|name| storage.exists(name).unwrap()), [true, true, false]);
}
