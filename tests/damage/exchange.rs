//! Files that are missing, stand under each other's names, or are those of an earlier commit.

use std::sync::Arc;

use ascribe::storage::{SimulatedStorage, Storage};

use crate::answers::{judge, problems, read, write};
use crate::cases::{Cases, WRITER_FLOOR_BYTES, alone};
use crate::flips::{Damage, largest_file_bytes};
use crate::small_store::{history, simulated};

#[test]
fn files_under_the_name_of_another() {
    let _alone = alone();
    let mut damage = Damage::new();
    let names = damage.names(|_| true);
    for name in &names {
        for other in names.iter().filter(|other| *other != name) {
            let bytes = damage.base.read_file(other).unwrap();
            damage.replace(name, &bytes, || format!("{other} under the name {name}"));
        }
    }
    damage.cases.finish(15 * 14);
}

#[test]
fn missing_files() {
    let _alone = alone();
    let mut damage = Damage::new();
    for name in damage.names(|_| true) {
        let left = damage.base.duplicate();
        left.remove(&name).unwrap();
        let left: Arc<dyn Storage> = Arc::new(left);
        let Damage { expected, cases, .. } = &mut damage;
        cases.run(
            || format!("{name} is missing"),
            || {
                judge(expected, &read(Arc::clone(&left)))?;
                if problems(&left) == 0 { Err("verify finds nothing".to_owned()) } else { Ok(()) }
            },
        );
    }
    damage.cases.finish(15);
}

/// The files of `state` whose bytes `newest` lacks or has otherwise.
fn other_files(state: &SimulatedStorage, newest: &SimulatedStorage) -> Vec<(String, Vec<u8>)> {
    let files = state.names().into_iter().map(|name| {
        let bytes = state.read_file(&name).unwrap();
        (name, bytes)
    });
    files.filter(|(name, bytes)| newest.read_file(name).ok().as_ref() != Some(bytes)).collect()
}

/// Each file of an earlier state in place of the newest one, alone: readers and the writer refuse or do not care. And
/// each earlier manifest under the newest one's name.
#[test]
fn files_of_an_earlier_commit() {
    let _alone = alone();
    let newest = simulated();
    let expected = read(Arc::new(newest.duplicate())).unwrap();
    let manifest = newest.names().into_iter().find(|name| name.starts_with("MANIFEST-")).unwrap();
    let mut cases = Cases::new(WRITER_FLOOR_BYTES, largest_file_bytes(&newest));
    let states = history();
    assert_eq!(states.len(), 4);
    for (commit, state) in states.iter().enumerate() {
        for (name, bytes) in other_files(state, &newest) {
            let mut places = vec![name.clone()];
            places.extend(name.starts_with("MANIFEST-").then(|| manifest.clone()));
            for place in places {
                let mixed = newest.duplicate();
                mixed.overwrite_file(&place, &bytes).unwrap();
                let label = |who: &str| format!("{name} of state {commit} as {place}, {who}");
                cases.run(|| label("read"), || judge(&expected, &read(Arc::new(mixed.duplicate()))));
                cases.run(|| label("write"), || judge(&expected, &write(Arc::new(mixed.duplicate()))));
            }
        }
    }
    cases.finish(30);
}

/// A catalog of an earlier commit, closed cleanly, is refused: the manifest knows of rows that it does not.
#[test]
fn an_earlier_catalog_with_its_checksum_is_refused() {
    let _alone = alone();
    let newest = simulated();
    let states = history();
    // While the store was being built its catalog was open, so that these states have none of their own checksum.
    for state in &states {
        let closed = state.duplicate();
        write(Arc::new(closed.clone())).unwrap();
        let mixed = newest.duplicate();
        for name in ["catalog.redb", "catalog.sum"] {
            mixed.overwrite_file(name, &closed.read_file(name).unwrap()).unwrap();
        }
        let refused = write(Arc::new(mixed)).unwrap_err();
        assert!(refused.contains("contradict each other"), "{refused}");
    }
    assert_eq!(states.len(), 4);
}
