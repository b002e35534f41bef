//! Whether a state contradicts itself. Its bytes may be what somebody wrote on purpose: everything that the engine
//! relies on, such as order and limits, is checked where a state is read, once, instead of wherever it is used.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{ColumnKind, ColumnRecord, DeletedRecord, SegmentRecord, SourceRecord, StoreRecord};
use crate::base::check_name;
use crate::base::limits::{
    COLUMNS_MAX, EMBEDDING_WIDTH_MAX, FIELDS_MAX, SEGMENT_ROWS_MAX, SEQUENCE_MAX, SKETCH_WIDTH_MAX,
};

/// A state that nobody could have committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the state contradicts itself: {reason}")]
pub struct ConsistencyError {
    /// What is not possible.
    pub reason: String,
}

fn refuse(reason: impl Into<String>) -> Result<(), ConsistencyError> {
    Err(ConsistencyError { reason: reason.into() })
}

fn ascend<T: Ord>(what: &str, values: impl Iterator<Item = T>) -> Result<(), ConsistencyError> {
    if values.is_sorted_by(|left, right| left < right) {
        return Ok(());
    }
    refuse(format!("{what} are not in ascending order"))
}

/// What [`Manifest::check_consistency`](super::Manifest::check_consistency) says, of the parts of a state.
pub(super) fn check(
    store: &StoreRecord,
    segments: &[SegmentRecord],
    deleted: &[DeletedRecord],
    sources: &[SourceRecord],
) -> Result<(), ConsistencyError> {
    check_numbers(store)?;
    check_schema(store)?;
    ascend("segments", segments.iter().map(|segment| segment.id))?;
    ascend("deleted rows of segments", deleted.iter().map(|deleted| deleted.segment))?;
    ascend("inputs", sources.iter().map(|source| &source.path))?;
    segments.iter().try_for_each(check_segment)
}

/// Numbers that only count up leave room to do so.
fn check_numbers(store: &StoreRecord) -> Result<(), ConsistencyError> {
    let numbers = [
        ("commit", store.commit.0, SEQUENCE_MAX),
        ("next segment", store.next_segment.0, SEQUENCE_MAX),
        ("next counter", store.next_counter, SEQUENCE_MAX),
        ("next column", u64::from(store.next_column.0), u64::from(u32::MAX / 2)),
    ];
    match numbers.into_iter().find(|(_, number, limit)| number > limit) {
        Some((what, number, _)) => refuse(format!("{what} has number {number}")),
        None => Ok(()),
    }
}

fn check_schema(store: &StoreRecord) -> Result<(), ConsistencyError> {
    if store.fields.len() > FIELDS_MAX || store.columns.len() > COLUMNS_MAX {
        return refuse(format!("{} fields and {} columns", store.fields.len(), store.columns.len()));
    }
    let fields = store.fields.iter().map(|field| ("field", &field.name));
    let columns = store.columns.iter().map(|column| ("column", &column.name));
    let mut names = BTreeSet::new();
    for (what, name) in fields.chain(columns) {
        if check_name(name).is_err() || !names.insert((what, name)) {
            return refuse(format!("a {what} has a name that it cannot have, or one that another has too"));
        }
    }
    let mut numbers = BTreeSet::new();
    if !store.columns.iter().all(|column| numbers.insert(column.id)) {
        return refuse("two columns have one number");
    }
    store.columns.iter().try_for_each(check_column)
}

fn check_column(column: &ColumnRecord) -> Result<(), ConsistencyError> {
    let width_max = match column.kind {
        ColumnKind::Embedding(_) => EMBEDDING_WIDTH_MAX,
        ColumnKind::Sketch { .. } => SKETCH_WIDTH_MAX,
    };
    if column.width == 0 || column.width as usize > width_max {
        return refuse(format!("column {:?} has {} values a row", column.name, column.width));
    }
    Ok(())
}

fn check_segment(segment: &SegmentRecord) -> Result<(), ConsistencyError> {
    if segment.row_count > SEGMENT_ROWS_MAX || segment.id.0 > SEQUENCE_MAX {
        return refuse(format!("segment {} has {} rows", segment.id, segment.row_count));
    }
    let columns = segment.columns.iter().map(|column| column.column);
    ascend(&format!("columns of segment {}", segment.id), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        ColumnId, CommitSeq, ElementType, FieldDeclaration, FieldType, Fingerprint, SegmentId,
    };
    use crate::format::{CommitRecord, EncoderRecord, FileRecord, Manifest, SegmentColumnRecord};

    fn column(id: u32, name: &str) -> ColumnRecord {
        let encoder = EncoderRecord { specification: "vectors:4".to_owned(), fingerprint: None, state: None };
        ColumnRecord {
            id: ColumnId(id),
            name: name.to_owned(),
            element: ElementType::F32,
            width: 4,
            kind: ColumnKind::Embedding(encoder),
        }
    }

    fn state() -> Manifest {
        let commit = CommitSeq(9);
        let file = FileRecord { length: 1, root: 2 };
        let columns = [1, 2].map(|id| SegmentColumnRecord { column: ColumnId(id), file }).to_vec();
        let segment =
            |id: u64| SegmentRecord { id: SegmentId(id), row_count: 4, rows: file, columns: columns.clone() };
        let source = |path: &str| SourceRecord {
            path: path.to_owned(),
            consumed_bytes: 1,
            prefix: Fingerprint([0; 32]),
            consumed_records: 1,
        };
        let store = StoreRecord {
            store: [0; 16],
            commit,
            next_segment: SegmentId(3),
            next_column: ColumnId(3),
            next_counter: 1,
            fields: ["a", "b"]
                .map(|name| FieldDeclaration { name: name.into(), kind: FieldType::Text })
                .to_vec(),
            // A field and a column may have the same name.
            columns: vec![column(1, "a"), column(2, "c")],
        };
        Manifest {
            store,
            segments: vec![segment(1), segment(2)],
            deleted: [1, 2].map(|id| DeletedRecord { segment: SegmentId(id), rows: Vec::new() }).to_vec(),
            sources: vec![source("/a"), source("/b")],
            last: CommitRecord { commit, unix_ms: 0, operation: "x".into(), rows_added: 0, rows_deleted: 0 },
        }
    }

    #[test]
    fn a_sound_state_is_consistent() {
        assert_eq!(state().check_consistency(), Ok(()));
    }

    type Change = (&'static str, fn(&mut Manifest));

    #[test]
    fn every_contradiction_is_refused() {
        let changes: [Change; 18] = [
            ("commit", |state| state.store.commit = CommitSeq(u64::MAX)),
            ("next segment", |state| state.store.next_segment = SegmentId(SEQUENCE_MAX + 1)),
            ("next counter", |state| state.store.next_counter = u64::MAX),
            ("next column", |state| state.store.next_column = ColumnId(u32::MAX)),
            ("257 fields", |state| state.store.fields = vec![state.store.fields[0].clone(); 257]),
            ("65 columns", |state| state.store.columns = vec![column(1, "a"); 65]),
            ("a field has a name", |state| state.store.fields[1].name = "a".to_owned()),
            ("a column has a name", |state| state.store.columns[0].name = "c".to_owned()),
            ("a column has a name", |state| state.store.columns[0].name = "../c".to_owned()),
            ("one number", |state| state.store.columns[1].id = ColumnId(1)),
            ("0 values", |state| state.store.columns[1].width = 0),
            ("65537 values", |state| state.store.columns[1].width = 65_537),
            ("segments are not", |state| state.segments.reverse()),
            ("segments are not", |state| state.segments[1].id = SegmentId(1)),
            ("deleted rows of segments are not", |state| state.deleted.reverse()),
            ("inputs are not", |state| state.sources.reverse()),
            ("segment 2 has 4294967295 rows", |state| state.segments[1].row_count = u32::MAX),
            ("columns of segment 1 are not", |state| state.segments[0].columns.reverse()),
        ];
        for (expected, change) in changes {
            let mut state = state();
            change(&mut state);
            let reason = state.check_consistency().unwrap_err().reason;
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    }
}
