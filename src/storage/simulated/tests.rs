//! The laws of the simulation.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use proptest::prelude::*;

use super::super::{FileWriter, Storage};
use super::survival::SECTOR_BYTES;
use super::{Failure, SimulatedStorage};

const SEEDS: u64 = 400;

fn outcomes(storage: &SimulatedStorage) -> impl Iterator<Item = SimulatedStorage> {
    (0..SEEDS).map(|seed| storage.crash(seed))
}

/// Every content of `name` that a crash can leave; `None` for no such file.
fn contents(storage: &SimulatedStorage, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    outcomes(storage).map(|left| left.read_file(name).ok()).collect()
}

fn names(storage: &SimulatedStorage) -> BTreeSet<Vec<String>> {
    outcomes(storage).map(|left| left.names()).collect()
}

fn write(storage: &SimulatedStorage, name: &str, bytes: &[u8]) -> Box<dyn FileWriter> {
    let mut writer = storage.create(name).unwrap();
    writer.write(bytes).unwrap();
    writer
}

fn write_durable(storage: &SimulatedStorage, name: &str, bytes: &[u8]) {
    write(storage, name, bytes).sync().unwrap();
    storage.sync_folder("").unwrap();
}

fn is_crash<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.to_string() == "simulated crash")
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_seed() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "a", b"bytes");
    write(&storage, "b", b"others");
    assert_eq!(contents(&storage, "a"), BTreeSet::from([Some(b"bytes".to_vec())]));
}

#[test]
fn a_synced_name_does_not_keep_bytes_and_synced_bytes_do_not_keep_a_name() {
    let storage = SimulatedStorage::new();
    let _writer = write(&storage, "a", b"bytes");
    storage.sync_folder("").unwrap();
    write(&storage, "b", b"bytes").sync().unwrap();
    let all = [b"".to_vec(), vec![0; 5], b"bytes".to_vec()];
    assert_eq!(contents(&storage, "a"), all.into_iter().map(Some).collect());
    assert_eq!(contents(&storage, "b"), BTreeSet::from([None, Some(b"bytes".to_vec())]));
}

#[test]
fn extremes_keep_and_lose_everything() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "old", &[1; 2000]);
    let file = storage.open_random("old").unwrap();
    file.write_at(700, &[2; 3000]).unwrap();
    file.set_len(1500).unwrap();
    file.write_at(1600, &[3; 10]).unwrap();
    storage.rename("old", "renamed").unwrap();
    storage.create_folder("s").unwrap();
    write(&storage, "s/new", b"new");
    let kept = storage.crash(8);
    assert_eq!(kept.names(), ["renamed", "s/new"]);
    assert_eq!(kept.read_file("renamed").unwrap(), storage.read_file("renamed").unwrap());
    assert_eq!(kept.read_file("s/new").unwrap(), b"new");
    let lost = storage.crash(9);
    assert_eq!(lost.names(), ["old"]);
    assert_eq!(lost.read_file("old").unwrap(), [1; 2000]);
    assert_eq!(kept.list("s").unwrap(), ["new"]);
    assert!(lost.create("s/new").is_err(), "the folder is lost too");
}

#[test]
fn a_write_tears_between_sectors_and_nowhere_else() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "a", &[1; 2048]);
    storage.open_random("a").unwrap().write_at(100, &[2; 1500]).unwrap();
    let mut patterns = BTreeSet::new();
    for left in outcomes(&storage) {
        let bytes = left.read_file("a").unwrap();
        assert_eq!(bytes.len(), 2048);
        assert!(bytes[..100].iter().chain(&bytes[1600..]).all(|byte| *byte == 1), "nothing else changes");
        let parts = [&bytes[100..512], &bytes[512..1024], &bytes[1024..1536], &bytes[1536..1600]];
        for part in parts {
            assert!(part.iter().all(|byte| *byte == part[0]), "a sector is old or new");
        }
        patterns.insert(parts.map(|part| part[0]));
    }
    assert_eq!(patterns.len(), 16, "every legal tear happens: {patterns:?}");
}

#[test]
fn a_sector_with_a_later_write_has_the_earlier_one_too() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "a", &[1; 512]);
    let file = storage.open_random("a").unwrap();
    file.write_at(0, &[2; 300]).unwrap();
    file.write_at(200, &[3; 200]).unwrap();
    let seen: BTreeSet<[u8; 3]> = outcomes(&storage)
        .map(|left| left.read_file("a").unwrap())
        .map(|bytes| [bytes[0], bytes[250], bytes[350]])
        .collect();
    assert_eq!(seen, BTreeSet::from([[1, 1, 1], [2, 2, 1], [2, 3, 3]]));
}

#[test]
fn lengths_survive_or_not_and_read_as_zeros() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "a", &[1; 600]);
    storage.open_random("a").unwrap().set_len(100).unwrap();
    storage.open_random("a").unwrap().set_len(1000).unwrap();
    let cut = [vec![1; 100], vec![0; 900]].concat();
    let all = [vec![1; 600], vec![1; 100], cut];
    assert_eq!(contents(&storage, "a"), all.into_iter().map(Some).collect());
}

#[test]
fn a_rename_is_atomic() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "CURRENT", b"1");
    write(&storage, "temporary", b"2").sync().unwrap();
    storage.rename("temporary", "CURRENT").unwrap();
    let states: BTreeSet<(Vec<String>, Vec<u8>)> =
        outcomes(&storage).map(|left| (left.names(), left.read_file("CURRENT").unwrap())).collect();
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = [
        (named(&["CURRENT"]), b"1".to_vec()),
        (named(&["CURRENT", "temporary"]), b"1".to_vec()),
        (named(&["CURRENT"]), b"2".to_vec()),
    ];
    assert_eq!(states, BTreeSet::from(expected));
}

#[test]
fn names_change_independently_but_each_in_order() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "a", b"1");
    storage.remove("a").unwrap();
    write(&storage, "a", b"2").sync().unwrap();
    write(&storage, "b", b"3").sync().unwrap();
    let seen: BTreeSet<_> =
        outcomes(&storage).map(|left| (left.read_file("a").ok(), left.exists("b").unwrap())).collect();
    let all = [Some(b"1".to_vec()), None, Some(b"2".to_vec())];
    let expected = all.into_iter().flat_map(|a| [(a.clone(), false), (a, true)]);
    assert_eq!(seen, expected.collect(), "a removed name may come back, b does not depend on a");
}

#[test]
fn a_name_that_was_renamed_away_is_not_lost_to_its_successor() {
    let storage = SimulatedStorage::new();
    write_durable(&storage, "a", b"1");
    storage.rename("a", "b").unwrap();
    write(&storage, "a", b"2").sync().unwrap();
    let seen: BTreeSet<_> =
        outcomes(&storage).map(|left| (left.read_file("a").ok(), left.read_file("b").ok())).collect();
    let (first, second) = (Some(b"1".to_vec()), Some(b"2".to_vec()));
    let expected = [(first.clone(), None), (None, first.clone()), (second, first)];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_synced_folder_keeps_its_names_only_with_its_own() {
    let storage = SimulatedStorage::new();
    storage.create_folder("s").unwrap();
    write(&storage, "s/a", b"1").sync().unwrap();
    storage.sync_folder("s").unwrap();
    assert_eq!(names(&storage), BTreeSet::from([vec![], vec!["s/a".to_owned()]]));
    let storage = storage.crash(0);
    assert_eq!(names(&storage), BTreeSet::from([vec!["s/a".to_owned()]]), "what survived is durable");
}

#[test]
fn after_a_crash_every_old_handle_fails_and_locks_are_gone() {
    let storage = SimulatedStorage::new();
    let mut writer = write(&storage, "a", b"1");
    let file = storage.open("a").unwrap();
    let random = storage.open_random("a").unwrap();
    let lock = storage.lock_exclusive("lock").unwrap().unwrap();
    storage.sync_folder("").unwrap();
    let left = storage.crash(0);
    assert!(storage.has_crashed() && !left.has_crashed());
    let clone = storage.clone();
    assert!(is_crash(writer.write(b"2")) && is_crash(writer.sync()));
    assert!(is_crash(file.read_at(0, &mut [0])) && is_crash(file.bytes()));
    assert!(is_crash(random.read_at(0, &mut [0])) && is_crash(random.write_at(0, b"2")));
    assert!(is_crash(random.len()) && is_crash(random.set_len(0)) && is_crash(random.sync()));
    assert!(is_crash(clone.create("b")) && is_crash(clone.open("a")) && is_crash(clone.open_random("a")));
    assert!(is_crash(clone.exists("a")) && is_crash(clone.list("")) && is_crash(clone.create_folder("s")));
    assert!(
        is_crash(clone.remove("a")) && is_crash(clone.rename("a", "b")) && is_crash(clone.sync_folder(""))
    );
    assert!(is_crash(clone.lock_exclusive("x")) && is_crash(clone.lock_shared("x")));
    assert!(left.lock_exclusive("lock").unwrap().is_some());
    drop(lock);
    assert_eq!((left.read_file("a").unwrap(), left.operations(), left.syncs()), (b"1".to_vec(), 0, 0));
    assert_eq!(storage.read_file("a").unwrap(), b"1", "a crashed medium can still be looked at");
}

#[test]
fn the_ordered_sync_crashes_before_it_takes_effect() {
    let storage = SimulatedStorage::new();
    storage.crash_at_sync(2);
    let mut writer = write(&storage, "a", b"1");
    writer.sync().unwrap();
    assert!(!storage.has_crashed());
    assert!(is_crash(storage.sync_folder("")));
    assert!(storage.has_crashed());
    assert!(is_crash(writer.write(b"2")));
    assert_eq!((storage.operations(), storage.syncs()), (3, 1));
    assert_eq!(names(&storage), BTreeSet::from([vec![], vec!["a".to_owned()]]));
    let storage = SimulatedStorage::new();
    storage.crash_at_sync(0);
    assert!(is_crash(storage.exists("a")));
}

#[test]
fn operations_are_counted() {
    let storage = SimulatedStorage::new();
    storage.create_folder("s").unwrap();
    storage.create_folder("s").unwrap();
    let mut writer = write(&storage, "s/a", b"1");
    writer.sync().unwrap();
    storage.rename("s/a", "s/b").unwrap();
    storage.sync_folder("s").unwrap();
    storage.remove("s/b").unwrap();
    let random = storage.open_random("catalog").unwrap();
    storage.open_random("catalog").unwrap();
    random.write_at(0, b"1").unwrap();
    random.set_len(0).unwrap();
    random.sync().unwrap();
    storage.lock_shared("pin").unwrap();
    assert_eq!((storage.operations(), storage.syncs()), (12, 3));
    storage.list("s").unwrap();
    storage.exists("catalog").unwrap();
    storage.open("catalog").unwrap().bytes().unwrap();
    assert_eq!(storage.operations(), 12, "reading is no operation");
}

#[test]
fn an_ordered_failure_comes_once_or_stays_and_has_no_effect() {
    let storage = SimulatedStorage::new();
    storage.fail_operation(2, Failure::Once);
    let mut writer = storage.create("a").unwrap();
    assert!(writer.write(b"1").is_err());
    writer.write(b"2").unwrap();
    assert_eq!(storage.read_file("a").unwrap(), b"2");
    storage.fail_operation(1, Failure::Forever);
    assert!(storage.remove("a").is_err() && storage.rename("a", "b").is_err());
    assert!(storage.create("b").is_err() && storage.sync_folder("").is_err());
    assert_eq!(storage.names(), ["a"]);
    assert_eq!(storage.open("a").unwrap().bytes().unwrap(), b"2", "reading still works");
}

#[test]
fn a_failed_sync_makes_nothing_durable_and_is_not_to_be_repeated() {
    let storage = SimulatedStorage::new();
    let mut writer = write(&storage, "a", b"bytes");
    let random = storage.open_random("b").unwrap();
    random.write_at(0, b"bytes").unwrap();
    storage.sync_folder("").unwrap();
    storage.fail_operation(1, Failure::Once);
    assert!(writer.sync().is_err());
    storage.fail_operation(1, Failure::Once);
    assert!(random.sync().is_err());
    assert!(writer.sync().is_err() && random.sync().is_err(), "a second sync does not claim success");
    for name in ["a", "b"] {
        assert!(contents(&storage, name).contains(&Some(Vec::new())), "{name}");
    }
}

#[test]
fn a_full_medium_takes_what_fits() {
    let storage = SimulatedStorage::new();
    storage.set_capacity_bytes(Some(10));
    write(&storage, "a", &[1; 6]);
    let mut writer = storage.create("b").unwrap();
    assert_eq!(writer.write(&[2; 6]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(storage.read_file("b").unwrap(), [2; 4]);
    let random = storage.open_random("a").unwrap();
    random.write_at(2, &[3; 4]).unwrap();
    assert_eq!(random.write_at(6, &[3]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(random.set_len(7).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(storage.read_file("a").unwrap(), [1, 1, 3, 3, 3, 3]);
    storage.remove("b").unwrap();
    random.write_at(6, &[4; 4]).unwrap();
    storage.set_capacity_bytes(None);
    random.write_at(10, &[5]).unwrap();
}

#[test]
fn wild_offsets_are_errors() {
    let random = SimulatedStorage::new().open_random("a").unwrap();
    for offset in [u64::MAX, 1 << 40] {
        assert_eq!(random.write_at(offset, &[1]).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(random.set_len(offset).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}

#[test]
fn surgery_is_durable_at_once_and_copies_are_apart() {
    let storage = SimulatedStorage::new();
    storage.overwrite_file("new", b"0").unwrap();
    let _writer = write(&storage, "a", b"bytes");
    let before = storage.open("a").unwrap();
    storage.overwrite_file("a", b"damaged").unwrap();
    assert_eq!(before.bytes().unwrap(), b"bytes");
    assert_eq!((storage.operations(), storage.syncs()), (2, 0));
    storage.create_folder("s").unwrap();
    write(&storage, "s/a", b"1");
    let copy = storage.duplicate();
    storage.remove("a").unwrap();
    let left = copy.crash(1);
    assert_eq!(left.names(), ["a", "new", "s/a"]);
    assert_eq!(left.read_file("a").unwrap(), b"damaged");
    assert_eq!(storage.crash(1).names(), ["a", "new"], "an unsynced removal comes back");
    assert!(storage.overwrite_file("nowhere/a", b"1").is_err());
    assert!(storage.overwrite_file("../a", b"1").is_err());
}

/// A change of one file, for sequences that nobody thought of.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    SetLength(usize),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3000_usize, 1..2000_usize).prop_map(|(offset, length)| Step::Write(offset, length)),
        1 => (0..4000_usize).prop_map(Step::SetLength),
        1 => Just(Step::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every surviving byte stood at its place at the last sync or later, or is a zero of a length that arrived alone;
    /// the extremes are the last sync and the moment of the crash.
    #[test]
    fn nothing_survives_that_was_not_written(steps in prop::collection::vec(step(), 1..12), seed: u64) {
        let storage = SimulatedStorage::new();
        let file = storage.open_random("a").unwrap();
        storage.sync_folder("").unwrap();
        let mut states = vec![Vec::new()];
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Write(offset, length) => file.write_at(*offset as u64, &vec![number as u8 + 1; *length]).unwrap(),
                Step::SetLength(length) => file.set_len(*length as u64).unwrap(),
                Step::Sync => {
                    file.sync().unwrap();
                    states.clear();
                }
            }
            states.push(storage.read_file("a").unwrap());
        }
        let left = storage.crash(seed).read_file("a").unwrap();
        prop_assert!(left.len() <= states.iter().map(Vec::len).max().unwrap());
        for (at, byte) in left.iter().enumerate() {
            let possible = *byte == 0 || states.iter().any(|state| state.get(at) == Some(byte));
            prop_assert!(possible, "byte {byte} at {at}");
        }
        for sector in (0..left.len()).step_by(SECTOR_BYTES) {
            let part = &left[sector..left.len().min(sector + SECTOR_BYTES)];
            let as_then = |state: &Vec<u8>| part.iter().enumerate().all(|(at, byte)| {
                let then = state.get(sector + at).copied().unwrap_or(0);
                then == *byte || *byte == 0
            });
            prop_assert!(states.iter().any(as_then), "the sector at {sector} is a mixture");
        }
        prop_assert_eq!(&storage.crash(0).read_file("a").unwrap(), states.last().unwrap());
        prop_assert_eq!(&storage.crash(1).read_file("a").unwrap(), states.first().unwrap());
    }
}

#[test]
fn an_overwritten_file_survives_even_where_one_of_its_name_was_removed() {
    let storage = SimulatedStorage::new();
    storage.overwrite_file("a", b"old").unwrap();
    storage.remove("a").unwrap();
    storage.overwrite_file("a", b"new").unwrap();
    for seed in 0..8 {
        assert_eq!(storage.crash(seed).read_file("a").unwrap(), b"new", "seed {seed}");
    }
}
