//! The tests that every storage passes: one suite, stamped on each.

use std::io::ErrorKind;

use super::{DiskOptions, DiskStorage, SimulatedStorage, Storage};

/// A storage, and what must live as long as it.
struct Place<S> {
    storage: S,
    _folder: Option<tempfile::TempDir>,
}

fn disk(memory_map: bool) -> Place<DiskStorage> {
    let folder = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(folder.path().join("store"), DiskOptions { memory_map });
    storage.create_folder("").unwrap();
    Place { storage, _folder: Some(folder) }
}

fn simulated() -> Place<SimulatedStorage> {
    Place { storage: SimulatedStorage::new(), _folder: None }
}

fn write(storage: &dyn Storage, name: &str, bytes: &[u8]) {
    let mut writer = storage.create(name).unwrap();
    writer.write(bytes).unwrap();
    writer.sync().unwrap();
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}

fn a_written_file_reads_back(storage: &dyn Storage) {
    let mut writer = storage.create("a").unwrap();
    writer.write(b"hello ").unwrap();
    writer.write(b"").unwrap();
    writer.write(b"world").unwrap();
    writer.sync().unwrap();
    writer.sync().unwrap();
    let file = storage.open("a").unwrap();
    assert_eq!((file.len(), file.is_empty()), (11, false));
    let mut part = [0; 5];
    file.read_at(6, &mut part).unwrap();
    assert_eq!(&part, b"world");
    assert_eq!(file.heap_bytes(), 0, "reading a part copies nothing");
    assert_eq!(file.bytes().unwrap(), b"hello world");
    assert_eq!(file.bytes().unwrap().as_ptr(), file.bytes().unwrap().as_ptr(), "one copy at most");
    file.read_at(11, &mut []).unwrap();
    for (offset, length) in [(7, 5), (11, 1), (12, 0), (u64::MAX, 2)] {
        assert_eq!(
            kind(file.read_at(offset, &mut vec![0; length])),
            ErrorKind::UnexpectedEof,
            "{offset} {length}"
        );
    }
}

fn an_empty_file_has_no_bytes(storage: &dyn Storage) {
    write(storage, "a", b"");
    let file = storage.open("a").unwrap();
    assert!(file.is_empty());
    assert_eq!(file.bytes().unwrap(), b"");
}

fn sealed_files_are_never_written_again(storage: &dyn Storage) {
    write(storage, "a", b"1");
    assert_eq!(kind(storage.create("a")), ErrorKind::AlreadyExists);
    assert_eq!(storage.open("a").unwrap().bytes().unwrap(), b"1");
}

fn hostile_names_are_refused_by_every_call(storage: &dyn Storage) {
    write(storage, "a", b"1");
    for name in ["../x", "/tmp/x", "s/../../x", "s\\x", "..", ".", "s//x", "s/", "a\0b", "C:x"] {
        let refused = [
            kind(storage.create(name)),
            kind(storage.open(name)),
            kind(storage.open_random(name)),
            kind(storage.exists(name)),
            kind(storage.list(name)),
            kind(storage.create_folder(name)),
            kind(storage.remove(name)),
            kind(storage.rename("a", name)),
            kind(storage.rename(name, "a")),
            kind(storage.sync_folder(name)),
            kind(storage.lock_exclusive(name)),
            kind(storage.lock_shared(name)),
        ];
        assert_eq!(refused, [ErrorKind::InvalidInput; 12], "{name:?}");
    }
    assert_eq!(kind(storage.create("")), ErrorKind::InvalidInput);
    assert_eq!(storage.list("").unwrap(), ["a"]);
}

fn folders_hold_files(storage: &dyn Storage) {
    assert_eq!(storage.list("s").unwrap(), [""; 0]);
    assert_eq!(kind(storage.create("s/2")), ErrorKind::NotFound);
    assert_eq!(kind(storage.sync_folder("s")), ErrorKind::NotFound);
    storage.create_folder("s").unwrap();
    storage.create_folder("s").unwrap();
    write(storage, "s/2", b"2");
    write(storage, "s/10", b"10");
    write(storage, "a", b"1");
    storage.create_folder("s/t").unwrap();
    write(storage, "s/t/x", b"x");
    assert_eq!(kind(storage.create_folder("u/v")), ErrorKind::NotFound);
    assert_eq!(storage.list("s").unwrap(), ["10", "2"]);
    assert_eq!(storage.list("").unwrap(), ["a"]);
    assert_eq!(storage.open("s/t/x").unwrap().bytes().unwrap(), b"x");
    for folder in ["", "s", "s/t"] {
        storage.sync_folder(folder).unwrap();
    }
    assert!(storage.exists("s/2").unwrap());
    assert!(!storage.exists("s").unwrap(), "a folder is no file");
    assert!(!storage.exists("nowhere/2").unwrap());
    assert!(storage.open("s").is_err());
    assert!(storage.remove("s").is_err());
    assert_eq!(kind(storage.create("s")), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.create_folder("a")), ErrorKind::AlreadyExists);
}

fn a_removed_file_stays_readable(storage: &dyn Storage) {
    write(storage, "a", b"bytes");
    let (file, later) = (storage.open("a").unwrap(), storage.open("a").unwrap());
    storage.remove("a").unwrap();
    assert!(!storage.exists("a").unwrap());
    assert_eq!(kind(storage.open("a")), ErrorKind::NotFound);
    assert_eq!(kind(storage.remove("a")), ErrorKind::NotFound);
    write(storage, "a", b"other");
    assert_eq!(file.bytes().unwrap(), b"bytes");
    let mut part = [0; 2];
    later.read_at(3, &mut part).unwrap();
    assert_eq!(&part, b"es");
}

fn a_rename_replaces(storage: &dyn Storage) {
    write(storage, "old", b"old");
    write(storage, "new", b"new");
    let file = storage.open("old").unwrap();
    storage.rename("new", "old").unwrap();
    assert_eq!(storage.list("").unwrap(), ["old"]);
    assert_eq!(storage.open("old").unwrap().bytes().unwrap(), b"new");
    assert_eq!(file.bytes().unwrap(), b"old");
    storage.rename("old", "old").unwrap();
    assert_eq!(storage.list("").unwrap(), ["old"]);
    assert_eq!(kind(storage.rename("new", "old")), ErrorKind::NotFound);
    storage.create_folder("s").unwrap();
    assert_eq!(kind(storage.rename("old", "s/old")), ErrorKind::InvalidInput);
    assert!(storage.rename("old", "s").is_err());
}

fn a_random_file_is_read_and_written_anywhere(storage: &dyn Storage) {
    let file = storage.open_random("catalog").unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(4, b"tail").unwrap();
    file.write_at(0, b"he").unwrap();
    file.sync().unwrap();
    let other = storage.open_random("catalog").unwrap();
    let mut bytes = [9; 8];
    other.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"he\0\0tail");
    other.set_len(5).unwrap();
    other.set_len(7).unwrap();
    assert_eq!(file.len().unwrap(), 7);
    file.read_at(0, &mut bytes[..7]).unwrap();
    assert_eq!(&bytes[..7], b"he\0\0t\0\0");
    assert_eq!(kind(file.read_at(0, &mut bytes)), ErrorKind::UnexpectedEof);
    file.sync().unwrap();
}

fn locks_exclude(storage: &dyn Storage) {
    let first = storage.lock_shared("pin").unwrap().unwrap();
    assert!(storage.exists("pin").unwrap());
    let second = storage.lock_shared("pin").unwrap().unwrap();
    assert!(storage.lock_exclusive("pin").unwrap().is_none());
    drop(first);
    assert!(storage.lock_exclusive("pin").unwrap().is_none());
    drop(second);
    let writer = storage.lock_exclusive("pin").unwrap().unwrap();
    assert!(storage.lock_exclusive("pin").unwrap().is_none());
    assert!(storage.lock_shared("pin").unwrap().is_none());
    assert!(storage.lock_exclusive("other").unwrap().is_some(), "a lock is on one file");
    drop(writer);
    assert!(storage.lock_shared("pin").unwrap().is_some());
}

fn a_lock_is_on_the_file_not_on_its_name(storage: &dyn Storage) {
    let held = storage.lock_exclusive("pin").unwrap().unwrap();
    storage.remove("pin").unwrap();
    let other = storage.lock_shared("pin").unwrap();
    assert!(other.is_some(), "the name leads to a new file");
    drop(held);
    assert!(storage.lock_exclusive("pin").unwrap().is_none(), "dropping the old lock frees nothing");
}

macro_rules! laws {
    ($place:expr; $($law:ident)*) => {
        $(#[test] fn $law() { super::$law(&$place.storage); })*
    };
}

macro_rules! storages {
    ($($name:ident: $place:expr,)*) => {
        $(mod $name {
            laws! { $place;
                a_written_file_reads_back an_empty_file_has_no_bytes sealed_files_are_never_written_again
                hostile_names_are_refused_by_every_call folders_hold_files a_removed_file_stays_readable
                a_rename_replaces a_random_file_is_read_and_written_anywhere locks_exclude
                a_lock_is_on_the_file_not_on_its_name
            }
        })*
    };
}

storages! {
    mapped_disk: super::disk(true),
    unmapped_disk: super::disk(false),
    simulated: super::simulated(),
}
