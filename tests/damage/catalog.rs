//! One byte in each 64 of `catalog.redb`, after a clean close and after a kill, opened for writing in child processes
//! with a limit on memory: an error, or the answers of the whole store. redb may die of a damaged page; then it is the
//! process that checks the catalog that dies, never the one that opens the store.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ascribe::base::{Cancel, RandomStream};
use ascribe::engine::{DeleteSelection, IngestOptions, Reader, Store, Watch};
use ascribe::storage::{CATALOG_NAME, DiskOptions, DiskStorage, SimulatedStorage, Storage};

use crate::allocations::measure;
use crate::answers::{Replies, ask, judge, read};
use crate::cases::{Cases, WRITER_FLOOR_BYTES, alone, walled};
use crate::child::{CheckInGrandchild, process};
use crate::flips::{largest_file_bytes, save};
use crate::small_store::{build, lines, options};

/// Bytes of the catalog of which one is changed.
const STRIDE_BYTES: u64 = 64;

/// Written bytes of the catalog of which one is changed.
const WRITTEN_STRIDE_BYTES: usize = 67;

/// Children that share the work of one state.
const CHILDREN: u64 = 2;

/// Changes that a child makes between two that it also writes to afterwards.
const WRITE_EVERY: u64 = 16;

/// A child that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(60);

const FOLDER: &str = "ASCRIBE_DAMAGE_FOLDER";
const NUMBERS: &str = "ASCRIBE_DAMAGE_NUMBERS";
const KIND: &str = "ASCRIBE_DAMAGE_KIND";

/// What happens to a catalog.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A byte is changed.
    Flip,
    /// It is cut off.
    Cut,
    /// A byte is changed, and the store lies on a disk.
    FlipOnDisk,
    /// A byte that is not zero is changed: most of a small catalog was never written, and says nothing.
    FlipWritten,
}

impl Kind {
    const ALL: [Kind; 4] = [Self::Flip, Self::Cut, Self::FlipOnDisk, Self::FlipWritten];

    /// Changes that there are of a catalog.
    fn count(self, catalog: &[u8]) -> u64 {
        match self {
            Self::FlipWritten => written(catalog).len() as u64,
            _ => (catalog.len() as u64).div_ceil(STRIDE_BYTES),
        }
    }
}

/// Positions of some of the bytes that are not zero.
fn written(catalog: &[u8]) -> Vec<usize> {
    (0..catalog.len()).filter(|position| catalog[*position] != 0).step_by(WRITTEN_STRIDE_BYTES).collect()
}

/// Change number `number` of a catalog: which byte, and which bits of it; or where it ends.
fn damage(catalog: &mut Vec<u8>, kind: Kind, number: u64) {
    if kind == Kind::Cut {
        return catalog.truncate((number * STRIDE_BYTES) as usize);
    }
    let mut random = RandomStream::new(number);
    if kind == Kind::FlipWritten {
        let position = written(catalog)[number as usize];
        catalog[position] ^= [0x01, 0x80, 0xff, 1 << random.below(8)][random.below(4) as usize];
        return;
    }
    let within = random.below(STRIDE_BYTES).min(catalog.len() as u64 - 1 - number * STRIDE_BYTES);
    let flip = [0x01, 0x80, 0xff, 1 << random.below(8)][random.below(4) as usize];
    catalog[(number * STRIDE_BYTES + within) as usize] ^= flip;
}

fn disk(path: &Path) -> DiskStorage {
    DiskStorage::new(path.to_path_buf(), DiskOptions { memory_map: true })
}

/// The store in `path` as it was left, in memory.
fn load(path: &Path) -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    let from = disk(path);
    for folder in ["", "segments", "encoders", "pins"] {
        if !folder.is_empty() {
            storage.create_folder(folder).unwrap();
        }
        for file in from.list(folder).unwrap() {
            let name = if folder.is_empty() { file } else { format!("{folder}/{file}") };
            storage.overwrite_file(&name, from.open(&name).unwrap().bytes().unwrap()).unwrap();
        }
    }
    storage
}

/// Opens a store whose catalog is damaged, for writing, and compares; then, if asked to, writes.
fn open(
    damaged: Arc<dyn Storage>,
    expected: &Replies,
    check: &Arc<CheckInGrandchild>,
    and_write: bool,
) -> Result<&'static str, String> {
    let store = Store::open(damaged, check.options());
    let mut store = match store {
        Ok(store) => store,
        Err(error) => {
            let text = error.to_string();
            return if text.is_empty() { Err("an error without text".to_owned()) } else { Ok("error") };
        }
    };
    let replies = ask(&store.snapshot());
    if replies.iter().any(Result::is_err) {
        return Err("the catalog is open, but an answer is an error".to_owned());
    }
    judge(expected, &Ok(replies))?;
    if and_write {
        store.delete(&DeleteSelection::Keys(vec!["a".to_owned()])).map_err(|error| error.to_string())?;
        if store.snapshot().row("a").map_err(|error| error.to_string())?.is_some() {
            return Err("a deleted row is still there".to_owned());
        }
    }
    Ok("ok")
}

/// Opens the store with each change that the environment names, and prints what came of each.
pub(crate) fn play_child() {
    let folder = std::env::var(FOLDER).unwrap();
    let base = load(Path::new(&folder));
    let limit = WRITER_FLOOR_BYTES.max(largest_file_bytes(&base));
    let expected = read(Arc::new(base.duplicate())).unwrap();
    let whole = base.read_file(CATALOG_NAME).unwrap();
    let name = std::env::var(KIND).unwrap();
    let kind = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name).unwrap();
    let check = Arc::new(CheckInGrandchild::default());
    let numbers: Vec<u64> =
        std::env::var(NUMBERS).unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
    let [first, last, step] = numbers[..] else { panic!("numbers are first, last, step") };
    for number in (first..last).step_by(step as usize) {
        println!("\ndamage begin {number}");
        let mut catalog = whole.clone();
        damage(&mut catalog, kind, number);
        let damaged = base.duplicate();
        damaged.overwrite_file(CATALOG_NAME, &catalog).unwrap();
        drop(catalog);
        let place = tempfile::tempdir().unwrap();
        let damaged: Arc<dyn Storage> = if kind == Kind::FlipOnDisk {
            save(&damaged, place.path());
            Arc::new(disk(place.path()))
        } else {
            Arc::new(damaged)
        };
        let and_write = number / step % WRITE_EVERY == 0;
        let work = || walled(|| open(damaged, &expected, &check, and_write));
        let (outcome, allocated) = measure(work);
        match outcome {
            Ok(Ok(_)) if allocated.largest_bytes > limit => {
                println!("\ndamage wrong {number} {} bytes were allocated at once", allocated.largest_bytes);
            }
            Ok(Ok(outcome)) => println!("\ndamage {outcome} {number}"),
            Ok(Err(reason)) | Err(reason) => {
                println!("\ndamage wrong {number} {}", reason.replace('\n', " "))
            }
        }
    }
    let (checks, deaths) = check.counts();
    println!("\ndamage end {checks} checks, {deaths} deaths");
}

/// What children said.
#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    errors: u64,
    wrong: Vec<String>,
    ends: Vec<String>,
}

/// Runs one child over the changes `first..last`, `step` apart; goes on behind one that it died of.
fn run_child(folder: &Path, kind: Kind, mut first: u64, last: u64, step: u64) -> Tally {
    let mut tally = Tally::default();
    while first < last && tally.wrong.len() < 20 {
        let mut child = process("catalog")
            .env(FOLDER, folder)
            .env(KIND, format!("{kind:?}"))
            .env(NUMBERS, format!("{first} {last} {step}"))
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut begun = None;
        let ended = loop {
            let line = match lines.recv_timeout(SILENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break "died",
                Err(RecvTimeoutError::Timeout) => break "hangs",
            };
            let mut words = line.splitn(4, ' ');
            if words.next() != Some("damage") {
                continue;
            }
            let kind = words.next().unwrap_or_default();
            let number = words.next().unwrap_or_default().parse::<u64>().ok();
            match kind {
                "begin" => begun = number,
                "ok" => tally.ok += 1,
                "error" => tally.errors += 1,
                "wrong" => tally.wrong.push(line.clone()),
                _ => tally.ends.push(line.clone()),
            }
            if kind == "end" {
                break "ended";
            }
        };
        if ended == "ended" {
            first = last;
        } else {
            tally.wrong.push(format!("the child {ended} at change {begun:?}"));
            first = begun.unwrap_or(last) + step;
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    tally
}

/// Opens the store in `path` with every change of this kind that is `sparsity` from the one before, in children.
fn change_catalog(path: &Path, kind: Kind, sparsity: u64) {
    let begun = Instant::now();
    let catalog = std::fs::read(path.join(CATALOG_NAME)).unwrap();
    let changes = kind.count(&catalog);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let children: Vec<_> = (0..CHILDREN)
            .map(|part| {
                scope.spawn(move || run_child(path, kind, part * sparsity, changes, CHILDREN * sparsity))
            })
            .collect();
        children.into_iter().map(|child| child.join().unwrap()).collect()
    });
    let (mut ok, mut errors, mut wrong) = (0, 0, Vec::new());
    for tally in tallies {
        println!("{} ok, {} errors, {:?}", tally.ok, tally.errors, tally.ends);
        ok += tally.ok;
        errors += tally.errors;
        wrong.extend(tally.wrong);
    }
    println!("{} bytes, {} changes in {:?}", catalog.len(), ok + errors, begun.elapsed());
    let lines: String = wrong.iter().map(|line| format!("\n  {line}")).collect();
    assert!(wrong.is_empty(), "{} changes went wrong:{lines}\n", wrong.len());
    assert_eq!(ok + errors, changes.div_ceil(sparsity));
    assert!(kind == Kind::FlipOnDisk || errors > 0, "no change was noticed");
}

/// A store on disk, closed.
fn on_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    build(Arc::new(disk(folder.path())), || {});
    folder
}

/// A store on disk whose writer was killed after its last commit: the catalog as it was then.
fn killed_on_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join(CATALOG_NAME);
    let mut as_left = Vec::new();
    build(Arc::new(disk(folder.path())), || as_left = std::fs::read(&catalog).unwrap());
    assert_ne!(std::fs::read(&catalog).unwrap(), as_left);
    std::fs::write(&catalog, as_left).unwrap();
    std::fs::remove_file(folder.path().join("catalog.sum")).unwrap();
    folder
}

#[test]
fn catalog_changes_after_a_clean_close() {
    let _alone = alone();
    change_catalog(on_disk().path(), Kind::Flip, 1);
}

#[test]
fn catalog_changes_after_a_kill() {
    let _alone = alone();
    change_catalog(killed_on_disk().path(), Kind::Flip, 1);
}

#[test]
fn written_bytes_of_the_catalog() {
    let _alone = alone();
    change_catalog(on_disk().path(), Kind::FlipWritten, 1);
    change_catalog(killed_on_disk().path(), Kind::FlipWritten, 1);
}

#[test]
fn catalogs_that_are_cut_off() {
    let _alone = alone();
    change_catalog(on_disk().path(), Kind::Cut, 61);
    change_catalog(killed_on_disk().path(), Kind::Cut, 61);
}

#[test]
fn catalog_changes_on_a_disk() {
    let _alone = alone();
    change_catalog(killed_on_disk().path(), Kind::FlipOnDisk, 97);
}

/// Readers answer without a catalog and with any other bytes in its place, and leave them as they are.
#[test]
fn readers_do_not_touch_the_catalog() {
    let _alone = alone();
    let folder = on_disk();
    let expected = read(Arc::new(disk(folder.path()))).unwrap();
    let catalog = folder.path().join(CATALOG_NAME);
    let whole = std::fs::read(&catalog).unwrap();
    let mut cases = Cases::new(WRITER_FLOOR_BYTES, 0);
    for number in (0..whole.len() as u64 / STRIDE_BYTES).step_by(997) {
        let mut bytes = whole.clone();
        damage(&mut bytes, Kind::Flip, number);
        std::fs::write(&catalog, &bytes).unwrap();
        cases.run(
            || format!("change {number}"),
            || {
                if read(Arc::new(disk(folder.path())))? == expected {
                    Ok(())
                } else {
                    Err("wrong".to_owned())
                }
            },
        );
        assert_eq!(std::fs::read(&catalog).unwrap(), bytes);
    }
    std::fs::remove_file(&catalog).unwrap();
    assert_eq!(read(Arc::new(disk(folder.path()))).unwrap(), expected);
    assert!(!catalog.exists());
    cases.finish(9);
}

/// After a repair all rows are there, writing goes on, and the store opens again without another one.
#[test]
fn a_repair_brings_all_rows_back() {
    let _alone = alone();
    for (number, bytes) in [b"no catalog at all".to_vec(), Vec::new(), vec![0xff; 100_000]].iter().enumerate()
    {
        let folder = on_disk();
        let path = folder.path();
        let expected = read(Arc::new(disk(path))).unwrap();
        let whole = std::fs::read(path.join(CATALOG_NAME)).unwrap();
        let mut damaged = whole.clone();
        damaged[..bytes.len().max(4096)].fill(0x5a);
        damaged[..bytes.len()].copy_from_slice(bytes);
        let damaged = if bytes.is_empty() { Vec::new() } else { damaged };
        std::fs::write(path.join(CATALOG_NAME), damaged).unwrap();
        let check = Arc::new(CheckInGrandchild::default());
        let refused = Store::open(Arc::new(disk(path)), check.options()).unwrap_err();
        assert!(!refused.to_string().is_empty());
        let mut store = Store::repair(Arc::new(disk(path)), check.options()).unwrap();
        assert_eq!(ask(&store.snapshot()), expected, "{number}");
        let more = "{\"key\":\"k\",\"text\":\"cat\"}\n";
        let cancel = Cancel::new();
        let watch = Watch::silent(&cancel);
        let ready = IngestOptions { column: Some("ready".to_owned()), ..IngestOptions::default() };
        store.ingest(lines(more), &ready, watch, &mut |_| {}).unwrap();
        drop(store);
        let store = Store::open(Arc::new(disk(path)), options()).unwrap();
        assert_eq!(store.snapshot().row_count(), 10);
        let reader = Reader::open(Arc::new(disk(path)), options()).unwrap();
        assert!(reader.snapshot().row("k").unwrap().is_some());
    }
}
