//! Ctrl-C, a second writer, readers that go away.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scene::Scene;

const WAIT: Duration = Duration::from_secs(20);

fn start_ingest(place: &Scene, more: &[&str]) -> Child {
    let arguments = [&["ingest", "s", "-", "--key", "id", "--vector", "v"], more].concat();
    let mut command = place.command(&arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary runs")
}

fn send(child: &mut Child, first: usize, count: usize) {
    let rows: String =
        (first..first + count).map(|row| format!("{{\"id\": \"r{row}\", \"v\": [{row}]}}\n")).collect();
    child.stdin.as_mut().expect("a pipe").write_all(rows.as_bytes()).expect("the binary reads");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

/// The exit code, unless it takes too long.
fn code_of(child: &mut Child) -> i32 {
    let start = Instant::now();
    while start.elapsed() < WAIT {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    panic!("it did not end");
}

#[test]
fn ctrl_c_while_the_input_is_silent_keeps_what_is_committed() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:1"]).ok();
    let mut child = start_ingest(&place, &["--commit-rows", "10"]);
    send(&mut child, 0, 15);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("an acknowledgement");
    assert_eq!(line, "{\"committed\":10,\"last_key\":\"r9\"}\n");
    signal(&child, "-INT");
    assert_eq!(code_of(&mut child), 130);
    let mut message = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut message).expect("a message");
    assert!(message.starts_with("interrupted: 10 rows"), "{message}");
    assert_eq!(place.rows("s"), 10);
    place.verify("s");
    // The same input again, from its beginning.
    let mut child = start_ingest(&place, &["--on-duplicate", "skip"]);
    send(&mut child, 0, 15);
    drop(child.stdin.take());
    assert_eq!(code_of(&mut child), 0);
    assert_eq!(place.rows("s"), 15);
}

#[test]
fn rows_of_a_pausing_input_are_committed_in_time() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:1"]).ok();
    let mut child = start_ingest(&place, &["--commit-every", "100ms"]);
    send(&mut child, 0, 3);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("an acknowledgement");
    assert!(line.starts_with("{\"committed\":"), "{line}");
    drop(child.stdin.take());
    assert_eq!(code_of(&mut child), 0);
    assert_eq!(place.rows("s"), 3);
}

#[test]
fn a_killed_writer_leaves_a_store_that_opens() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:1"]).ok();
    let mut child = start_ingest(&place, &["--commit-rows", "10"]);
    send(&mut child, 0, 25);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("an acknowledgement");
    signal(&child, "-KILL");
    assert_eq!(code_of(&mut child), -1);
    let seen = place.rows("s");
    assert!(seen == 10 || seen == 20, "{seen}");
    // Opening for writing checks the catalog that was not closed, in a child process.
    let run = place.run_with_input(
        &["ingest", "s", "-", "--key", "id", "--vector", "v"],
        "{\"id\": \"z\", \"v\": [1]}\n",
    );
    run.ok();
    // The kill may have come between a commit and its publication, which opening for writing makes up for.
    let rows = place.rows("s") - 1;
    assert!((rows == 10 || rows == 20) && rows >= seen, "{seen}, then {rows}");
    place.verify("s");
}

#[test]
fn a_second_writer_is_told_and_readers_go_on() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:1"]).ok();
    let mut child = start_ingest(&place, &["--commit-rows", "2"]);
    send(&mut child, 0, 2);
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    lines.read_line(&mut line).expect("an acknowledgement");
    let second = place.run(&["delete", "s", "--key", "r0"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("another process"), "{second:?}");
    assert_eq!(place.rows("s"), 2);
    place.run(&["query", "s", "--key", "r1"]).ok();
    drop(child.stdin.take());
    assert_eq!(code_of(&mut child), 0);
    place.run(&["delete", "s", "--key", "r0"]).ok();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Scene::new().with_pets();
    for arguments in [
        &["query", "pets", "cat", "--format", "jsonl"][..],
        &["stats", "pets"],
        &["verify", "pets"],
        &["man"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut command = place.command(arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        drop(child.stdout.take());
        assert_eq!(code_of(&mut child), 0, "{arguments:?}");
        let mut message = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut message).expect("a message");
        assert_eq!(message, "", "{arguments:?}");
    }
}
