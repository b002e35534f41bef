//! Held snapshots answer the same, and their files go when they do.

use std::path::Path;

use ascribe::base::Cancel;
use ascribe::engine::{
    Answer, DeleteSelection, OpenOptions, Query, QueryInput, Reader, Snapshot, Store, Watch,
};

use crate::children::{Child, role, say};
use crate::input::{
    COMMIT_ROWS, Input, VECTORS, WORDS, about, along, check_prefix, create, folder, ingest, input_path,
    key_of, store_path, words_column,
};

/// Rows of the state that is held.
const HELD_ROWS: usize = 3 * COMMIT_ROWS;

/// Rows in the end.
const ROWS: usize = 8 * COMMIT_ROWS;

/// What a snapshot answers, without the times. The text is asked last: its encoder is opened only then.
fn answers(snapshot: &Snapshot) -> Vec<String> {
    let columns: Vec<&str> = snapshot.column_names().collect();
    let shown = |answer: Answer| format!("{:?} {:?}", answer.proponents, answer.opponents);
    let by_key = Query {
        column: Some(VECTORS.to_owned()),
        filter: Some("number > 5".to_owned()),
        ..Query::new(QueryInput::Key(key_of(10)))
    };
    vec![
        format!("{columns:?} {}", snapshot.row_count()),
        shown(along(snapshot, 0, ROWS)),
        shown(along(snapshot, 1, 5)),
        shown(snapshot.query(&by_key, &Cancel::new()).unwrap()),
        format!("{:?} {:?}", snapshot.row(&key_of(10)).unwrap(), snapshot.row(&key_of(100)).unwrap()),
        shown(about(snapshot, WORDS, "cats and rain")),
    ]
}

/// A process that holds a state while others come and go, and answers from it whenever it is asked to.
#[test]
fn child_hold() {
    let Some((folder, _)) = role() else { return };
    let path = store_path(&folder);
    let mut reader = Reader::open_at(&path, OpenOptions::default()).unwrap();
    let held = reader.snapshot();
    // The same state opened apart: of `held` no encoder is open yet when the column is dropped.
    let expected = answers(&Reader::open_at(&path, OpenOptions::default()).unwrap().snapshot());
    say("holding");
    let mut held = Some(held);
    for request in std::io::stdin().lines() {
        match request.unwrap().as_str() {
            "refresh" => {
                assert!(reader.refresh().unwrap());
                say(reader.snapshot().row_count());
            }
            "compare" => {
                assert_eq!(answers(held.as_ref().unwrap()), expected);
                say("same");
            }
            "drop" => {
                drop(held.take());
                say("dropped");
            }
            other => panic!("unknown request {other:?}"),
        }
    }
}

/// Sealed files of the store, and pins.
fn files(folder: &Path) -> (Vec<String>, usize) {
    let names = |name: &str| -> Vec<String> {
        let entries = std::fs::read_dir(store_path(folder).join(name)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    ([names("segments"), names("encoders")].concat(), names("pins").len())
}

fn holds_of_column(files: &[String], column: &str) -> usize {
    files.iter().filter(|name| name.split('.').rev().nth(1) == Some(column) && name.ends_with(".col")).count()
        + files
            .iter()
            .filter(|name| name.starts_with(&format!("{column}.")) && name.ends_with(".enc"))
            .count()
}

/// A store with the first rows of the input; the rest of it comes with [`add_rows`].
fn begin(folder: &Path) -> (Store, Input) {
    Input::new(HELD_ROWS, true).write(&input_path(folder));
    let input = Input::new(ROWS, true);
    let mut store = create(folder);
    ingest(&mut store, folder, &input.field_names(), &mut |_| {});
    (store, input)
}

fn add_rows(store: &mut Store, folder: &Path, input: &Input) {
    input.write(&input_path(folder));
    let (_, report) = ingest(store, folder, &input.field_names(), &mut |_| {});
    assert_eq!(report.rows_added as usize, ROWS - HELD_ROWS);
}

/// One more commit, of the smallest kind.
fn commit_again(store: &mut Store, number: u64) {
    let report = store.delete(&DeleteSelection::Keys(vec![key_of(number)])).unwrap();
    assert_eq!(report.rows, 1);
}

/// Commits rows, deletes half of the held ones and drops the column of texts; `check` runs after each.
fn change_everything(store: &mut Store, folder: &Path, input: &Input, check: &mut dyn FnMut(u64)) {
    add_rows(store, folder, input);
    check(ROWS as u64);
    let deleted = store.delete(&DeleteSelection::Where("number < 30".to_owned())).unwrap();
    assert_eq!(deleted.rows, 30);
    check(ROWS as u64 - 30);
    store.drop_column(WORDS).unwrap();
    check(ROWS as u64 - 30);
    // A column under the old name, of which the held state must not see anything.
    let cancel = Cancel::new();
    store.add_column(words_column(WORDS), Watch::silent(&cancel)).unwrap();
    check(ROWS as u64 - 30);
}

#[test]
fn a_state_held_by_another_process_stays_and_its_files_go_with_it() {
    let folder = folder();
    let (mut store, input) = begin(folder.path());
    let mut child = Child::start("pins::child_hold", folder.path(), "");
    child.expect("holding");
    let mut doomed = Child::start("pins::child_hold", folder.path(), "");
    doomed.expect("holding");
    change_everything(&mut store, folder.path(), &input, &mut |rows| {
        child.ask("refresh");
        child.expect(&rows.to_string());
        child.ask("compare");
        child.expect("same");
    });
    // Column 1 of the segments that were held, and its encoder, are kept for the two readers and for nobody else.
    let held = HELD_ROWS / COMMIT_ROWS + 1;
    assert_eq!(holds_of_column(&files(folder.path()).0, "1"), held);

    child.ask("drop");
    child.expect("dropped");
    commit_again(&mut store, 40);
    assert_eq!(holds_of_column(&files(folder.path()).0, "1"), held, "another reader still holds them");
    doomed.ask("compare");
    doomed.expect("same");
    doomed.kill();
    commit_again(&mut store, 41);
    assert_eq!(holds_of_column(&files(folder.path()).0, "1"), 0, "nobody reads them any more");
    child.end();
    commit_again(&mut store, 42);
    assert_eq!(files(folder.path()).1, 0, "pins of readers that are gone");
}

#[test]
fn opening_for_writing_removes_what_readers_have_left() {
    let folder = folder();
    let (mut store, input) = begin(folder.path());
    let child = Child::start("pins::child_hold", folder.path(), "");
    child.expect("holding");
    change_everything(&mut store, folder.path(), &input, &mut |_| {});
    drop(store);
    child.kill();
    let held = HELD_ROWS / COMMIT_ROWS + 1;
    assert_eq!(holds_of_column(&files(folder.path()).0, "1"), held);
    let store = Store::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    let (files, pins) = files(folder.path());
    assert_eq!((holds_of_column(&files, "1"), pins), (0, 0));
    assert_eq!(store.snapshot().row_count(), ROWS as u64 - 30);
}

#[test]
fn a_snapshot_of_the_writer_itself_stays_too() {
    let folder = folder();
    let (store, input) = begin(folder.path());
    // Opened again: ingesting has made the encoders already.
    drop(store);
    let path = store_path(folder.path());
    let mut store = Store::open_at(&path, OpenOptions::default()).unwrap();
    let expected = answers(&Reader::open_at(&path, OpenOptions::default()).unwrap().snapshot());
    let (held, other) = (store.snapshot(), store.snapshots());
    store.drop_column(WORDS).unwrap();
    assert_eq!(other.latest().column_names().collect::<Vec<_>>(), [VECTORS]);
    assert_eq!(answers(&held), expected);
    let cancel = Cancel::new();
    store.add_column(words_column(WORDS), Watch::silent(&cancel)).unwrap();
    change_everything(&mut store, folder.path(), &input, &mut |_| {});
    assert_eq!(answers(&held), expected);
    let answer = about(&other.latest(), WORDS, "ships");
    assert_eq!(answer.rows, ROWS as u64 - 30);
}

#[test]
fn a_reader_opened_later_sees_only_the_new_state() {
    let folder = folder();
    let (mut store, input) = begin(folder.path());
    let held = Reader::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    add_rows(&mut store, folder.path(), &input);
    let reader = Reader::open_at(&store_path(folder.path()), OpenOptions::default()).unwrap();
    assert_eq!(check_prefix(&reader.snapshot(), &input), ROWS);
    assert_eq!(held.snapshot().row_count(), HELD_ROWS as u64);
}
