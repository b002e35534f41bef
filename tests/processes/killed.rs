//! An ingesting process killed fifty times, with a reader beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ascribe::base::{Cancel, RandomStream};
use ascribe::engine::{OpenOptions, Reader, Store, Watch, verify};
use ascribe::sources::Resumed;
use ascribe::storage::{CheckInProcess, DiskOptions, DiskStorage, Storage};

use crate::children::{Child, role, say};
use crate::input::{
    COMMIT_ROWS, Input, along, check_prefix, create, folder, ingest, input_path, key_of, store_path,
};

/// Kills in all.
const KILLS: usize = 50;

/// Kills of one ingest; then it may finish.
const KILLS_OF_ONE: usize = 25;

/// Ingests at most, should the machine be so fast that one finishes before all its kills.
const ROUNDS_MAX: usize = 8;

/// Rows of the input: more than all the kills of one ingest let through, and no whole number of commits.
const ROWS: usize = 2007;

/// Rounds that the reader makes at least while one ingest goes on.
const READER_ROUNDS_MIN: u64 = 40;

/// Different states that the reader sees at least.
const READER_STATES_MIN: u64 = 20;

const SIGKILL: i32 = 9;

fn input_of(task: &str) -> Input {
    Input::new(ROWS, task == "keys")
}

/// A process that ingests what is left, and tells how far it is.
#[test]
fn child_ingest() {
    let Some((folder, task)) = role() else { return };
    let input = input_of(&task);
    say("opening");
    let mut store = Store::open_at(&store_path(&folder), OpenOptions::default()).unwrap();
    let before = store.snapshot().row_count();
    say(format!("opened {before}"));
    let on_commit = &mut |commit: &ascribe::engine::IngestCommit| {
        say(format!("committed {}", before + commit.committed));
    };
    let (resumed, _) = ingest(&mut store, &folder, &input.field_names(), on_commit);
    // Rows and position are of one commit: one is never ahead of the other.
    let expected = if before == 0 { Resumed::Fresh } else { Resumed::Continued { records: before } };
    assert_eq!(resumed, expected);
    say("finished");
}

/// A process that reads all along, until a file tells it to stop.
#[test]
fn child_read() {
    let Some((folder, task)) = role() else { return };
    let input = input_of(&task);
    let open = || Reader::open_at(&store_path(&folder), OpenOptions::default()).unwrap();
    let mut reader = open();
    let (mut rounds, mut states, mut count) = (0_u64, 0_u64, 0);
    let mut is_last = false;
    loop {
        let held = reader.snapshot();
        let before = along(&held, 1, 5);
        if rounds % 4 == 3 {
            reader = open();
        } else {
            reader.refresh().unwrap();
        }
        let snapshot = reader.snapshot();
        assert!(snapshot.commit() >= held.commit(), "the reader went back");
        states += u64::from(snapshot.commit() > held.commit());
        let now = check_prefix(&snapshot, &input);
        assert!(now >= count, "{} rows are gone", count - now);
        count = now;
        // The state before, which by now may be many commits old, still gives the same answer.
        let again = along(&held, 1, 5);
        assert_eq!((again.proponents, again.opponents), (before.proponents, before.opponents));
        rounds += 1;
        if is_last {
            break;
        }
        is_last = folder.join("stop").exists();
        std::thread::sleep(Duration::from_millis(1));
    }
    say(format!("{rounds} {states} {count}"));
}

/// What the killed processes were doing, and what was found after them.
#[derive(Default, Debug)]
struct Tally {
    kills: usize,
    /// Kills by the last thing that the process had said.
    during: BTreeMap<String, usize>,
    /// Restarts that found a commit whose process had not lived to tell of it.
    untold: usize,
}

/// How long the stages of an ingesting process take on this machine, as far as they were seen.
struct Pace {
    open: Duration,
    commit: Duration,
}

/// One process: lets it come to a random moment, and kills it. Returns the rows that it said were committed; `None`
/// if it finished first.
fn run_and_kill(
    folder: &Path,
    task: &str,
    told: u64,
    stream: &mut RandomStream,
    pace: &mut Pace,
    tally: &mut Tally,
) -> Option<u64> {
    let child = Child::start("killed::child_ingest", folder, task);
    // Line 0 is `opening`, line 1 `opened`, the others are commits. A quarter dies while opening.
    let last_line = if stream.below(4) == 0 { 0 } else { 1 + stream.below(5) };
    let mut lines = Vec::new();
    while lines.len() as u64 <= last_line {
        let Some(line) = child.hear() else { break };
        lines.push(line);
    }
    let span = if last_line == 0 { pace.open } else { pace.commit };
    std::thread::sleep(span.mul_f64(stream.unit()));
    let (rest, status) = child.kill();
    lines.extend(rest);

    learn(&lines, pace);
    let rows = |line: &str| line.split_once(' ').map(|(_, rows)| rows.parse::<u64>().unwrap());
    let found = lines.iter().find(|(_, line)| line.starts_with("opened")).and_then(|(_, line)| rows(line));
    if let Some(found) = found {
        assert!(found >= told, "{} acknowledged rows are gone", told - found);
        tally.untold += usize::from(found > told);
    }
    let last = lines.last().map(|(_, line)| line.clone()).unwrap_or_default();
    if status.success() || last == "finished" {
        return None;
    }
    assert_eq!(status.signal(), Some(SIGKILL), "it ended by itself, see its output above: {lines:?}");
    tally.kills += 1;
    let stage = last.split(' ').next().unwrap_or_default().to_owned();
    *tally.during.entry(stage).or_default() += 1;
    Some(lines.iter().filter_map(|(_, line)| rows(line)).max().unwrap_or(told))
}

fn learn(lines: &[(Instant, String)], pace: &mut Pace) {
    for pair in lines.windows(2) {
        let [(begun, before), (ended, after)] = pair else { continue };
        let took = *ended - *begun;
        match (before.split(' ').next(), after.split(' ').next()) {
            (Some("opening"), Some("opened")) => pace.open = took,
            (Some("committed"), Some("committed")) => pace.commit = took,
            _ => {}
        }
    }
}

/// After the last process: every row is there exactly once, and every file is whole.
fn check_finished(folder: &Path, input: &Input) {
    let path = store_path(folder);
    let reader = Reader::open_at(&path, OpenOptions::default()).unwrap();
    assert_eq!(check_prefix(&reader.snapshot(), input), ROWS);
    if input.has_keys {
        for row in &input.rows {
            let found = reader.snapshot().row(&key_of(row.number)).unwrap().unwrap();
            assert_eq!(
                (found.text.as_str(), &found.metadata["number"]),
                (row.text.as_str(), &row.number.into())
            );
        }
    }
    let statistics = reader.snapshot().statistics();
    // Many of the commits' segments are merged by now.
    assert!(statistics.segments < ROWS.div_ceil(COMMIT_ROWS) / 2, "{}", statistics.segments);
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(path.clone(), DiskOptions::default()));
    let cancel = Cancel::new();
    let report = verify(&storage, true, &CheckInProcess, Watch::silent(&cancel)).unwrap();
    assert!(report.catalog && report.problems.is_empty(), "{report:?}");
    assert_eq!(report.rows, ROWS as u64);
    drop(reader);
    drop(Store::open_at(&path, OpenOptions { compact: false, ..OpenOptions::default() }).unwrap());
    // Nothing is left of what the killed processes had begun, nor of segments that were merged under a reader.
    let files = std::fs::read_dir(path.join("segments")).unwrap();
    let files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    // Segments that were merged from many may be indexed; no index is left of one that is gone.
    let (indexes, own): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| file.ends_with(".idx"));
    assert_eq!(own.len(), 3 * statistics.segments);
    let segment_of = |file: &str| file.split('.').next().unwrap().to_owned();
    let segments: BTreeSet<String> = own.iter().map(|file| segment_of(file)).collect();
    assert_eq!(segments.len(), statistics.segments);
    assert!(indexes.iter().all(|file| segments.contains(&segment_of(file))), "{files:?}");
}

#[test]
fn an_ingest_killed_fifty_times_leaves_every_row_once_and_never_disturbs_a_reader() {
    let mut stream = RandomStream::new(20_260_805);
    let mut tally = Tally::default();
    let mut pace = Pace { open: Duration::from_millis(20), commit: Duration::from_millis(20) };
    let begun = Instant::now();
    for round in 0.. {
        assert!(round < ROUNDS_MAX, "the ingests finish before they can be killed: {tally:?}");
        let task = if round % 2 == 0 { "keys" } else { "no keys" };
        let (folder, input) = (folder(), input_of(task));
        input.write(&input_path(folder.path()));
        drop(create(folder.path()));
        let reader = Child::start("killed::child_read", folder.path(), task);
        let mut told = 0;
        for _ in 0..KILLS_OF_ONE.min(KILLS - tally.kills) {
            match run_and_kill(folder.path(), task, told, &mut stream, &mut pace, &mut tally) {
                Some(rows) => told = rows,
                None => break,
            }
        }
        let last = Child::start("killed::child_ingest", folder.path(), task).end();
        assert_eq!(last.last().map(String::as_str), Some("finished"));
        std::fs::write(folder.path().join("stop"), "").unwrap();
        let said = reader.end();
        let counts: Vec<u64> = said[0].split(' ').map(|count| count.parse().unwrap()).collect();
        assert_eq!(counts[2], ROWS as u64);
        println!(
            "{task}: {told} of {ROWS} rows while being killed; {} rounds of reading, {} states seen",
            counts[0], counts[1]
        );
        assert!(counts[0] >= READER_ROUNDS_MIN && counts[1] >= READER_STATES_MIN, "{said:?}");
        check_finished(folder.path(), &input);
        if tally.kills == KILLS {
            break;
        }
    }
    println!("{tally:?} in {:?}", begun.elapsed());
    let during = |stage: &str| tally.during.get(stage).copied().unwrap_or_default();
    assert!(during("opening") >= 3 && during("opened") >= 3 && during("committed") >= 15, "{tally:?}");
}
