//! A second writer is refused while the first lives.

use ascribe::engine::{OpenError, OpenOptions, Reader, Store};
use ascribe::storage::{DiskOptions, DiskStorage, OpenWriterError, read_idle_catalog};

use crate::children::{Child, role, say};
use crate::input::{Input, check_prefix, create, folder, ingest, input_path, store_path};

const ROWS: usize = 60;

/// A process that opens the store for writing and keeps it open until it is asked to close it.
#[test]
fn child_writer() {
    let Some((folder, _)) = role() else { return };
    let store = Store::open_at(&store_path(&folder), OpenOptions::default()).unwrap();
    say("open");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(store);
    say("closed");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn assert_locked(folder: &std::path::Path) {
    let refused = Store::open_at(&store_path(folder), OpenOptions::default());
    match refused {
        Err(OpenError::Writer(error @ OpenWriterError::Locked { .. })) => {
            let text = error.to_string();
            assert!(text.contains("store is open for writing in another process"), "{text}");
        }
        other => panic!("a second writer got in, or another error: {other:?}"),
    }
    let storage = DiskStorage::new(store_path(folder), DiskOptions::default());
    assert_eq!(read_idle_catalog(&storage).unwrap(), None);
}

#[test]
fn a_second_writer_is_refused_until_the_first_closes_or_dies() {
    let (folder, input) = (folder(), Input::new(ROWS, true));
    input.write(&input_path(folder.path()));
    drop(create(folder.path()));
    let first = Child::start("locks::child_writer", folder.path(), "");
    first.expect("open");
    assert_locked(folder.path());
    // Readers do not care.
    let mut reader = Reader::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    let (_, status) = first.kill();
    assert!(!status.success());

    let mut second = Store::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    ingest(&mut second, folder.path(), &input.field_names(), &mut |_| {});
    assert_locked(folder.path());
    drop(second);
    assert!(reader.refresh().unwrap());
    assert_eq!(check_prefix(&reader.snapshot(), &input), ROWS);

    let mut third = Child::start("locks::child_writer", folder.path(), "");
    third.expect("open");
    assert_locked(folder.path());
    third.ask("close");
    third.expect("closed");
    let fourth = Store::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    assert_eq!(check_prefix(&fourth.snapshot(), &input), ROWS);
    third.end();
}

#[test]
fn two_writers_of_one_process_are_refused_too() {
    let folder = folder();
    let store = create(folder.path());
    assert_locked(folder.path());
    drop(store);
    drop(Store::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap());
}
