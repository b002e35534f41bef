//! Every byte of every file that readers open with one bit flipped, some set to 0xff; and every length that each of
//! these files can be cut to.

use std::path::Path;
use std::sync::Arc;

use ascribe::storage::{DiskOptions, DiskStorage, SimulatedStorage, Storage};

use crate::answers::{Replies, judge, problems, read};
use crate::cases::{Cases, READER_FLOOR_BYTES, alone};
use crate::small_store;

/// Bytes of which one is set to 0xff too.
const FILLED_APART: usize = 4;

/// The store without catalog: readers must not need it.
pub(crate) fn without_catalog() -> SimulatedStorage {
    let storage = small_store::simulated();
    for name in ["catalog.redb", "catalog.sum", "LOCK"] {
        storage.remove(name).unwrap();
    }
    storage.duplicate()
}

/// Writes the files of a store to a disk.
pub(crate) fn save(storage: &SimulatedStorage, folder: &Path) {
    for name in ["segments", "encoders", "pins"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for name in storage.names() {
        std::fs::write(folder.join(&name), storage.read_file(&name).unwrap()).unwrap();
    }
}

/// The largest file of the store.
pub(crate) fn largest_file_bytes(storage: &SimulatedStorage) -> usize {
    storage.names().iter().map(|name| storage.read_file(name).unwrap().len()).max().unwrap()
}

/// What is done to the files of one store.
pub(crate) struct Damage {
    pub(crate) base: SimulatedStorage,
    pub(crate) expected: Replies,
    pub(crate) cases: Cases,
}

impl Damage {
    pub(crate) fn new() -> Self {
        let base = without_catalog();
        let expected = read(Arc::new(base.duplicate())).unwrap();
        let cases = Cases::new(READER_FLOOR_BYTES, largest_file_bytes(&base));
        Self { base, expected, cases }
    }

    /// Names of the files that `wanted` chooses.
    pub(crate) fn names(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.base.names().into_iter().filter(|name| wanted(name)).collect()
    }

    /// Asks the store with `bytes` in place of file `name`, and checks it. Both must see the damage, or, as for the
    /// answers, not be touched by it.
    pub(crate) fn replace(&mut self, name: &str, bytes: &[u8], label: impl FnOnce() -> String) {
        let damaged = self.base.duplicate();
        damaged.overwrite_file(name, bytes).unwrap();
        let damaged: Arc<dyn Storage> = Arc::new(damaged);
        let Self { expected, cases, .. } = self;
        cases.run(label, || {
            judge(expected, &read(Arc::clone(&damaged)))?;
            if problems(&damaged) == 0 { Err("verify finds nothing".to_owned()) } else { Ok(()) }
        });
    }
}

fn flip_every_byte(wanted: impl Fn(&str) -> bool, files: usize) {
    let _alone = alone();
    let mut damage = Damage::new();
    let names = damage.names(wanted);
    assert_eq!(names.len(), files, "{names:?}");
    let mut bytes_seen = 0;
    for name in names {
        let whole = damage.base.read_file(&name).unwrap();
        bytes_seen += whole.len();
        for position in 0..whole.len() {
            let flipped = whole[position] ^ (1 << (position % 8));
            let filled = (position % FILLED_APART == 0 && whole[position] != 0xff).then_some(0xff);
            for value in std::iter::once(flipped).chain(filled) {
                let mut bytes = whole.clone();
                bytes[position] = value;
                damage.replace(&name, &bytes, || format!("{name}, byte {position} = {value:#04x}"));
            }
        }
    }
    damage.cases.finish(bytes_seen);
}

#[test]
fn every_byte_of_row_files() {
    flip_every_byte(|name| name.ends_with(".rows"), 3);
}

#[test]
fn every_byte_of_column_files() {
    flip_every_byte(|name| name.ends_with(".col"), 8);
}

#[test]
fn every_byte_of_encoder_files() {
    flip_every_byte(|name| name.ends_with(".enc"), 2);
}

#[test]
fn every_byte_of_manifest_and_current() {
    flip_every_byte(|name| name == "CURRENT" || name.starts_with("MANIFEST-"), 2);
}

/// The same on a disk, with memory maps and without, for some bytes and lengths of every file.
#[test]
fn bytes_and_lengths_on_a_disk() {
    let _alone = alone();
    let damage = Damage::new();
    let mut cases = Cases::new(READER_FLOOR_BYTES, largest_file_bytes(&damage.base));
    for memory_map in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        save(&damage.base, path);
        let storage: Arc<dyn Storage> =
            Arc::new(DiskStorage::new(path.to_path_buf(), DiskOptions { memory_map }));
        for (number, name) in damage.names(|_| true).into_iter().enumerate() {
            let whole = damage.base.read_file(&name).unwrap();
            for position in (number..whole.len()).step_by(29) {
                let mut flipped = whole.clone();
                flipped[position] ^= 1 << (position % 8);
                for bytes in [&flipped[..], &whole[..position]] {
                    // A new file: nobody writes into one that is mapped.
                    std::fs::remove_file(path.join(&name)).unwrap();
                    std::fs::write(path.join(&name), bytes).unwrap();
                    cases.run(
                        || format!("{name}, byte {position}, {} bytes, map {memory_map}", bytes.len()),
                        || {
                            judge(&damage.expected, &read(Arc::clone(&storage)))?;
                            if problems(&storage) == 0 {
                                Err("verify finds nothing".to_owned())
                            } else {
                                Ok(())
                            }
                        },
                    );
                }
            }
            std::fs::write(path.join(&name), &whole).unwrap();
        }
        assert_eq!(problems(&storage), 0);
    }
    cases.finish(1000);
}

#[test]
fn every_length_that_a_file_can_be_cut_to() {
    let _alone = alone();
    let mut damage = Damage::new();
    let names = damage.names(|_| true);
    assert_eq!(names.len(), 15, "{names:?}");
    for name in names {
        let whole = damage.base.read_file(&name).unwrap();
        for length in 0..whole.len() {
            damage.replace(&name, &whole[..length], || format!("{name} cut to {length} bytes"));
        }
        for more in [1, 8, 512] {
            let mut bytes = whole.clone();
            bytes.resize(whole.len() + more, 0);
            damage.replace(&name, &bytes, || format!("{name} with {more} bytes more"));
        }
    }
    damage.cases.finish(10_000);
}
