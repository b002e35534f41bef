//! Manifest, CURRENT and pins.

use std::sync::Arc;

use ascribe::base::{ColumnId, CommitSeq, SegmentId};
use ascribe::format::{
    Manifest, SegmentRecord, decode_current, decode_manifest, encode_current, encode_manifest,
};
use ascribe::storage::{CommitError, SimulatedStorage, Storage, Writer, pin_current};
use twox_hash::XxHash3_64;

use super::body::decode;
use super::pages::{cut, mark, page, table};
use super::records::{COMMIT_LINES, SEGMENT_LINES, SOURCE_LINES, STORE_LINES};
use super::sample;

#[test]
fn manifests_are_as_documented() {
    let manifest = sample::manifest();
    let bytes = encode_manifest(&manifest).unwrap();
    let (head, body) = bytes.split_at(48);
    let header = cut("manifest.md", "Manifest header", head);
    assert_eq!(header.bytes("mark"), mark("ASCRMAN\\0"));
    for (field, expected) in [
        ("format version", 0),
        ("least reader version", 0),
        ("reserved", 0),
        ("commit", 7),
        ("body length", body.len() as u64),
        ("body checksum", XxHash3_64::oneshot(body)),
        ("header checksum", XxHash3_64::oneshot(&head[..40])),
    ] {
        assert_eq!(header.number(field), expected, "{field}");
    }
    let mut expected = Vec::new();
    let mut add =
        |path: &str, lines: &[&str]| expected.extend(lines.iter().map(|line| format!("{path}{line}")));
    add("store.", &STORE_LINES);
    add("segments", &[".count = 1"]);
    add("segments[0].", &SEGMENT_LINES);
    add(
        "deleted",
        &[".count = 1", "[0].segment = 49", "[0].rows = 3a300000010000000000020010000000010002002800"],
    );
    add("sources", &[".count = 1"]);
    add("sources[0].", &SOURCE_LINES);
    add("last.", &COMMIT_LINES);
    assert_eq!(decode("Manifest", body), expected);
    assert_eq!(decode_manifest(&bytes, CommitSeq(7)), Ok(manifest));
}

type Breakage = fn(&mut Manifest);

/// A change that breaks each rule of the page, and no other.
const BREAKAGES: [(&str, Breakage); 20] = [
    ("segments ascend strictly by number", |state| state.segments.push(state.segments[0].clone())),
    ("deleted rows ascend strictly by segment", |state| state.deleted.push(state.deleted[0].clone())),
    ("sources ascend strictly by the bytes of their paths", |state| {
        state.sources.push(state.sources[0].clone());
    }),
    ("columns ascend strictly by number", |state| state.store.columns.swap(1, 2)),
    ("column files of a segment ascend strictly by column", |state| state.segments[0].columns.swap(0, 1)),
    ("the column of a column file is one of the columns", |state| {
        state.segments[0].columns[1].column = ColumnId(3);
    }),
    ("a segment with deleted rows is one of the segments", |state| state.deleted[0].segment = SegmentId(2)),
    ("a segment's number is below next_segment", |state| state.store.next_segment = SegmentId(49)),
    ("a segment's place is not above its number", |state| state.segments[0].place = SegmentId(50)),
    ("no two segments have the same place", |state| {
        state.segments.push(SegmentRecord { id: SegmentId(50), ..state.segments[0].clone() });
    }),
    ("a segment has at most 4294967294 rows", |state| state.segments[0].row_count = u32::MAX),
    ("a column's number is below next_column", |state| state.store.next_column = ColumnId(4)),
    ("a column's width is at least 1", |state| state.store.columns[2].width = 0),
    ("names of fields and columns are names", |state| state.store.fields[1].name = "1st".into()),
    ("curvatures ascend strictly by version", |state| {
        state.store.curvatures.push(state.store.curvatures[0].clone());
    }),
    ("a curvature's version is below next_curvature", |state| state.store.next_curvature = 33),
    ("the column of a curvature is one of sketches", |state| {
        state.store.curvatures[0].column = ColumnId(1);
    }),
    ("next_segment, next_counter, next_curvature and commit are below 2^62", |state| {
        state.store.next_counter = 1 << 62;
    }),
    ("next_column is below 2^32 - 1", |state| state.store.next_column = ColumnId(u32::MAX)),
    ("commit is the same in store and last", |state| state.last.commit = CommitSeq(6)),
];

#[test]
fn a_state_that_breaks_a_rule_is_neither_read_nor_committed() {
    let page = table("manifest.md", "What must hold");
    let rules: Vec<&str> = page.rows.iter().map(|row| page.cell(row, "rule")).collect();
    assert_eq!(rules, BREAKAGES.map(|(rule, _)| rule));
    let storage = SimulatedStorage::new();
    let mut writer = Writer::create(Arc::new(storage.clone()), sample::first_state()).unwrap();
    let (names, operations) = (storage.names(), storage.operations());
    assert_eq!(sample::manifest().check(), Ok(()));
    for (rule, breakage) in BREAKAGES {
        let mut state = sample::manifest();
        breakage(&mut state);
        assert!(state.check().is_err(), "{rule}");
        assert!(decode_manifest(&encode_manifest(&state).unwrap(), CommitSeq(7)).is_err(), "{rule}");
        let error = writer.commit(state).unwrap_err();
        assert!(matches!(error, CommitError::State { .. }), "{rule}: {error}");
        assert!(!writer.is_poisoned(), "{rule}");
    }
    assert_eq!((storage.names(), storage.operations()), (names, operations), "nothing was touched");
}

#[test]
fn current_is_as_documented() {
    let text = page("manifest.md");
    let line = text.lines().find(|line| line.starts_with("MANIFEST-")).unwrap();
    let (name, sum) = line.split_once(' ').unwrap();
    assert_eq!(format!("{:016x}", XxHash3_64::oneshot(name.as_bytes())), sum);
    let bytes = format!("{line}\n").into_bytes();
    assert_eq!(encode_current(CommitSeq(7)), bytes);
    assert_eq!(decode_current(&bytes), Ok(CommitSeq(7)));
    for other in
        [line.to_owned(), format!("{line}\r\n"), format!("{line}\n\n"), format!("{}\n", line.to_uppercase())]
    {
        assert!(decode_current(other.as_bytes()).is_err(), "{other:?}");
    }
}

#[test]
fn a_store_holds_the_documented_names_and_nothing_else() {
    let (storage, _) = sample::store();
    let encoder = format!("encoders/1.{}.enc", "ab".repeat(32));
    let expected = [
        "CURRENT",
        "LOCK",
        "MANIFEST-00000000000000000002",
        "catalog.redb",
        "catalog.sum",
        encoder.as_str(),
        "segments/1.1.col",
        "segments/1.2.col",
        "segments/1.rows",
    ];
    assert_eq!(storage.names(), expected);
}

#[test]
fn pins_are_as_documented() {
    let (storage, _) = sample::store();
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let (_, pin) = pin_current(&shared).unwrap();
    assert!(pin.is_some());
    let pins = storage.list("pins").unwrap();
    let [name] = pins.as_slice() else { panic!("{pins:?}") };
    let (reader, commit) = name.rsplit_once('-').unwrap();
    let (process, number) = reader.split_once('.').unwrap();
    assert_eq!((process.parse(), commit), (Ok(std::process::id()), "2"));
    assert!(number.parse::<u64>().is_ok(), "{name}");
    assert!(storage.read_file(&format!("pins/{name}")).unwrap().is_empty());
    drop(pin);
    assert!(storage.list("pins").unwrap().is_empty());
}
