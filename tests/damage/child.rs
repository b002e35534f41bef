//! The processes in which damaged catalogs are opened: this test binary again, with a limit on its address space. The
//! child opens a store for writing, and lets the check of the catalog run in a grandchild, which may die of it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ascribe::base::CommitSeq;
use ascribe::engine::OpenOptions;
use ascribe::format::{Manifest, decode_manifest, encode_manifest};
use ascribe::storage::{CATALOG_NAME, CatalogCheck, CatalogError, check_catalog_bytes};

use crate::small_store::options;

/// Says what the process is to do; it does nothing without.
pub(crate) const ROLE: &str = "ASCRIBE_DAMAGE_ROLE";

/// Address space of a child, in KiB: the binary, its threads' stacks and the arenas of the system's allocator take
/// about 300 MiB of addresses; a store of two megabytes has no need of the rest.
const ADDRESS_SPACE_KIB: u64 = 640 * 1024;

/// Printed before the first answer, after whatever the test harness prints.
const READY: &[u8] = b"\x01ready\x01";

/// Catalogs that the grandchild does not survive: it aborts, or asks for more memory than there is.
const DIE: &[u8] = b"die";
const DEVOUR: &[u8] = b"devour";

/// A check that takes longer goes round in circles.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// This binary as a process that only plays `role`.
pub(crate) fn process(role: &str) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    let script = format!(
        "ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" --exact child::child_entry --nocapture --test-threads 1"
    );
    command.arg("-c").arg(script).arg(binary).env(ROLE, role).env("RUST_BACKTRACE", "0");
    // glibc reserves 64 MiB of addresses for each thread's arena; and it maps and unmaps every copy of a catalog, which
    // takes as long as everything else.
    command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_MMAP_THRESHOLD_", "33554432");
    command.env("MALLOC_TRIM_THRESHOLD_", "268435456").env("MALLOC_TOP_PAD_", "16777216");
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Where children begin. As an ordinary test it has nothing to do.
#[test]
fn child_entry() {
    match std::env::var(ROLE).as_deref() {
        Ok("catalog") => crate::catalog::play_child(),
        Ok("check") => play_grandchild(),
        _ => {}
    }
}

/// Checks catalogs that come in one after the other, each after its length, until the input ends.
fn play_grandchild() {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    output.write_all(READY).unwrap();
    output.flush().unwrap();
    let mut length = [0; 8];
    while input.read_exact(&mut length).is_ok() {
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        input.read_exact(&mut bytes).unwrap();
        match &bytes[..] {
            DIE => std::process::abort(),
            DEVOUR => drop(std::hint::black_box(vec![1_u8; 2 * 1024 * ADDRESS_SPACE_KIB as usize])),
            _ => {}
        }
        let (kind, body) = match check_catalog_bytes(bytes) {
            Ok(Some(state)) => match encode_manifest(&state) {
                Ok(bytes) => (b's', bytes),
                Err(error) => (b'e', error.to_string().into_bytes()),
            },
            Ok(None) => (b'n', Vec::new()),
            Err(error) => (b'e', error.to_string().into_bytes()),
        };
        output.write_all(&[kind]).unwrap();
        output.write_all(&(body.len() as u64).to_le_bytes()).unwrap();
        output.write_all(&body).unwrap();
        output.flush().unwrap();
    }
}

/// A grandchild that waits for catalogs.
struct Grandchild {
    process: Child,
    input: ChildStdin,
    answers: Receiver<(u8, Vec<u8>)>,
}

impl Grandchild {
    fn start() -> Self {
        let mut process = process("check").stdin(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let mut output = process.stdout.take().unwrap();
        let (sender, answers) = sync_channel(1);
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(READY) && output.read_exact(&mut byte).is_ok() {
                seen.push(byte[0]);
            }
            let mut head = [0; 9];
            while output.read_exact(&mut head).is_ok() {
                let length = u64::from_le_bytes(head[1..].try_into().unwrap());
                let mut body = Vec::new();
                let whole = output.by_ref().take(length).read_to_end(&mut body).is_ok();
                if !whole || body.len() as u64 != length || sender.send((head[0], body)).is_err() {
                    break;
                }
            }
        });
        Self { process, input, answers }
    }

    /// The answer; `None` if the process died or does not answer.
    fn ask(&mut self, bytes: &[u8]) -> Option<(u8, Vec<u8>)> {
        let sent = self.input.write_all(&(bytes.len() as u64).to_le_bytes());
        sent.and_then(|()| self.input.write_all(bytes)).and_then(|()| self.input.flush()).ok()?;
        self.answers.recv_timeout(CHECK_TIME).ok()
    }
}

impl Drop for Grandchild {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks in a grandchild; one that dies says that the catalog is damaged. The next check gets a new one.
#[derive(Default)]
pub(crate) struct CheckInGrandchild {
    grandchild: Mutex<Option<Grandchild>>,
    /// Checks, and grandchildren that died of one.
    counts: Mutex<(u64, u64)>,
}

impl std::fmt::Debug for CheckInGrandchild {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CheckInGrandchild")
    }
}

impl CheckInGrandchild {
    /// Checks so far, and grandchildren that died of one.
    pub(crate) fn counts(&self) -> (u64, u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(self: &Arc<Self>) -> OpenOptions {
        OpenOptions { catalog_check: Arc::clone(self) as Arc<dyn CatalogCheck>, ..options() }
    }
}

impl CatalogCheck for CheckInGrandchild {
    fn check(&self, bytes: Vec<u8>) -> Result<Option<Manifest>, CatalogError> {
        let damaged = |reason: String| CatalogError::Damaged { reason };
        let mut slot = self.grandchild.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = slot.get_or_insert_with(Grandchild::start).ask(&bytes);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 += 1;
        let Some((kind, body)) = answer else {
            *slot = None;
            counts.1 += 1;
            return Err(damaged("the process that checked it died".to_owned()));
        };
        match kind {
            b's' => {
                let commit = body[16..24].try_into().unwrap();
                let state = decode_manifest(&body, CommitSeq(u64::from_le_bytes(commit)));
                state.map(Some).map_err(|error| damaged(error.to_string()))
            }
            b'n' => Ok(None),
            _ => Err(damaged(String::from_utf8_lossy(&body).into_owned())),
        }
    }
}

/// A process that dies, of an abort or of its limit on memory, is a damaged catalog; the next check has a new one.
#[test]
fn a_grandchild_that_dies_is_a_damaged_catalog() {
    let _alone = crate::cases::alone();
    let check = CheckInGrandchild::default();
    let catalog = crate::small_store::simulated().read_file(CATALOG_NAME).unwrap();
    for (round, fatal) in [DIE, DEVOUR, DIE].into_iter().enumerate() {
        let error = check.check(fatal.to_vec()).unwrap_err();
        assert!(error.to_string().contains("the process that checked it died"), "{error}");
        assert_eq!(check.counts(), (2 * round as u64 + 1, round as u64 + 1));
        assert_eq!(check.check(catalog.clone()).unwrap().map(|state| state.segments.len()), Some(3));
    }
    assert!(check.check(b"no catalog".to_vec()).is_err());
    assert_eq!(check.counts(), (7, 3));
}
