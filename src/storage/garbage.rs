//! Removes files that neither the committed state nor a pinned manifest names.

use std::collections::BTreeSet;

use super::column_file::column_file_name;
use super::curvature_file::curvature_file_name;
use super::encoder_file::encoder_file_name;
use super::graph_file::graph_file_name;
use super::index_file::{finished_index_name, index_file_name};
use super::medium::Storage;
use super::published::{
    CURVATURE_FOLDER, ENCODERS_FOLDER, PINS_FOLDER, SEGMENTS_FOLDER, pinned_commit, read_manifest,
};
use super::row_file::row_file_name;
use super::segment_numbers::{SegmentNumbers, segment_of_file};
use super::sums_file::sums_file_name;
use crate::base::CommitSeq;
use crate::format::{ColumnKind, Manifest, SumsKind, manifest_sequence};

/// Names of the sealed files of a state, with those of index, graph and sums files that may stand beside its columns.
pub(super) fn referenced_files(state: &Manifest) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for segment in &state.segments {
        names.insert(row_file_name(segment.id));
        for column in &segment.columns {
            names.insert(column_file_name(segment.id, column.column));
            names.insert(index_file_name(segment.id, column.column));
            names.insert(graph_file_name(segment.id, column.column));
            names.extend(SumsKind::ALL.map(|kind| sums_file_name(segment.id, column.column, kind)));
        }
    }
    for column in &state.store.columns {
        if let ColumnKind::Embedding(encoder) = &column.kind
            && let (Some(fingerprint), Some(_)) = (encoder.fingerprint, encoder.state)
        {
            names.insert(encoder_file_name(column.id, &fingerprint));
        }
        if let ColumnKind::Sketch { fingerprint, head: Some(_), .. } = &column.kind {
            names.insert(encoder_file_name(column.id, fingerprint));
        }
    }
    names.extend(state.store.curvatures.iter().map(|curvature| curvature_file_name(curvature.version)));
    names
}

/// Commits that some reader pins. Pin files whose readers are gone are removed.
fn pinned_commits(storage: &dyn Storage) -> std::io::Result<BTreeSet<CommitSeq>> {
    let mut pinned = BTreeSet::new();
    for file in storage.list(PINS_FOLDER)? {
        let name = format!("{PINS_FOLDER}/{file}");
        match storage.lock_exclusive(&name)? {
            Some(_nobody) => {
                let _ = storage.remove(&name);
            }
            None => {
                pinned.extend(pinned_commit(&file));
            }
        }
    }
    Ok(pinned)
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files removed.
    pub removed: usize,
    /// Whether readers pin older commits, so that files which only these name may be left.
    pub has_readers: bool,
}

/// Removes old manifests and, if `sealed_files_too`, sealed files that nobody names. Only the writer may call it, after
/// publishing `state`.
///
/// Files of segments that `numbers` holds for somebody stay.
///
/// A file that cannot be removed now stays for the next time; if a pinned manifest cannot be read, nothing is removed.
///
/// # Errors
/// The folders cannot be listed.
///
/// # Complexity
/// Without `sealed_files_too` O(pins + manifests), with it O(files).
pub fn collect_garbage(
    storage: &dyn Storage,
    state: &Manifest,
    numbers: &SegmentNumbers,
    sealed_files_too: bool,
) -> std::io::Result<Collected> {
    let pinned = pinned_commits(storage)?;
    let has_readers = pinned.iter().any(|commit| *commit != state.store.commit);
    let mut collected = Collected { removed: 0, has_readers };
    let mut kept = referenced_files(state);
    for file in storage.list("")? {
        let Some(commit) = manifest_sequence(&file) else { continue };
        if commit == state.store.commit {
            continue;
        }
        if !pinned.contains(&commit) {
            collected.removed += usize::from(storage.remove(&file).is_ok());
        } else if sealed_files_too {
            let Ok(manifest) = read_manifest(storage, commit) else { return Ok(collected) };
            kept.extend(referenced_files(&manifest));
        }
    }
    if !sealed_files_too {
        return Ok(collected);
    }
    for folder in [SEGMENTS_FOLDER, ENCODERS_FOLDER, CURVATURE_FOLDER] {
        for file in storage.list(folder)? {
            let name = format!("{folder}/{file}");
            let is_held = folder == SEGMENTS_FOLDER
                && segment_of_file(&file).is_some_and(|segment| numbers.is_held(segment));
            // An index, a graph or sums that are being written now stay, if they will.
            if !is_held && !kept.contains(finished_index_name(&name)) {
                collected.removed += usize::from(storage.remove(&name).is_ok());
            }
        }
    }
    Ok(collected)
}
