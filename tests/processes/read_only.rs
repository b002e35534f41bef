//! A reader that cannot write a pin: the folder gives no right to, or it is mounted read-only.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ascribe::base::{Cancel, CommitSeq};
use ascribe::engine::{OpenError, OpenOptions, Reader, Store, Watch};
use ascribe::storage::OpenWriterError;

use crate::children::{Child, role, say};
use crate::input::{
    COMMIT_ROWS, Input, about, check_prefix, create, folder, ingest, input_path, store_path, words_column,
};

/// Commits that go on beside the reader.
const STEPS: usize = 12;

const ROWS: usize = (STEPS + 2) * COMMIT_ROWS;

/// A process that reads without being able to write, until it has seen the commit that its task names.
#[test]
fn child_read_only() {
    let Some((folder, task)) = role() else { return };
    let path = store_path(&folder);
    if std::fs::write(path.join("pins").join("probe"), "").is_ok() {
        say("not read-only");
        return;
    }
    let until = CommitSeq(task.parse().unwrap());
    let input = Input::new(ROWS, true);
    match Store::open_at(&path, OpenOptions::default()) {
        Err(OpenError::Writer(OpenWriterError::Io { .. })) => {}
        other => panic!("opened for writing, or another error: {other:?}"),
    }
    let mut reader = Reader::open_at(&path, OpenOptions::default()).unwrap();
    say(format!("reading {}", check_prefix(&reader.snapshot(), &input)));
    let (mut held, mut states) = (Vec::new(), 1);
    while reader.snapshot().commit() < until {
        if reader.refresh().unwrap() {
            states += 1;
            check_prefix(&reader.snapshot(), &input);
            held.push(reader.snapshot());
        }
    }
    // The column comes and goes; its files are gone by now for most of these states.
    for snapshot in &held {
        check_prefix(snapshot, &input);
        if snapshot.column_names().any(|name| name == "extra") {
            assert_eq!(about(snapshot, "extra", "bread").rows, snapshot.row_count());
        }
    }
    say(format!("saw {states}"));
}

/// Whether the user may write where no right allows it, as root may.
fn rights_bind(folder: &Path) -> bool {
    std::fs::write(folder.join("pins").join("probe"), "").is_err()
}

fn set_rights(path: &Path, may_write: bool) {
    let folders = [path.to_owned(), path.join("pins"), path.join("segments"), path.join("encoders")];
    for folder in folders {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let mode = if may_write { 0o644 } else { 0o444 };
                std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let mode = if may_write { 0o755 } else { 0o555 };
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn begin(folder: &Path) -> (Store, Input) {
    Input::new(2 * COMMIT_ROWS, true).write(&input_path(folder));
    let input = Input::new(ROWS, true);
    let mut store = create(folder);
    ingest(&mut store, folder, &input.field_names(), &mut |_| {});
    (store, input)
}

#[test]
fn a_store_without_rights_to_write_is_read() {
    let folder = folder();
    let (store, _) = begin(folder.path());
    let commit = store.snapshot().commit();
    drop(store);
    let path = store_path(folder.path());
    set_rights(&path, false);
    if rights_bind(&path) {
        let child = Child::start("read_only::child_read_only", folder.path(), &commit.to_string());
        let said = child.end();
        assert_eq!(said, [format!("reading {}", 2 * COMMIT_ROWS), "saw 1".to_owned()]);
    } else {
        println!("left out: this user may write where no right allows it");
    }
    set_rights(&path, true);
}

/// The store's folder again as a read-only mount that only the child sees.
fn behind_read_only_mount(store: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    command.args(["-m", "sh", "-c", script]).arg(store);
    command
}

fn can_mount(store: &Path) -> bool {
    let probe = behind_read_only_mount(store).arg("true").output();
    probe.is_ok_and(|output| output.status.success())
}

#[test]
fn a_read_only_mount_is_read_while_another_process_writes() {
    let folder = folder();
    let (mut store, input) = begin(folder.path());
    let path = store_path(folder.path());
    if !can_mount(&path) {
        println!("left out: this user may not mount");
        return;
    }
    // Each step is one commit of rows; every third also adds a column, every third drops it.
    let last = store.snapshot().commit().0 + (STEPS + 2 * (STEPS / 3)) as u64;
    let command = behind_read_only_mount(&path);
    let child = Child::start_behind(command, "read_only::child_read_only", folder.path(), &last.to_string());
    child.expect(&format!("reading {}", 2 * COMMIT_ROWS));
    let cancel = Cancel::new();
    for step in 0..STEPS {
        match step % 3 {
            0 => drop(store.add_column(words_column("extra"), Watch::silent(&cancel)).unwrap()),
            2 => drop(store.drop_column("extra").unwrap()),
            _ => {}
        }
        Input::new((step + 3) * COMMIT_ROWS, true).write(&input_path(folder.path()));
        ingest(&mut store, folder.path(), &input.field_names(), &mut |_| {});
    }
    assert_eq!(store.snapshot().commit(), CommitSeq(last));
    let said = child.end();
    let states: usize = said[0].trim_start_matches("saw ").parse().unwrap();
    println!("{states} states seen without a pin");
    assert!(states > 1, "{said:?}");
    assert_eq!(std::fs::read_dir(path.join("pins")).unwrap().count(), 0);
}
