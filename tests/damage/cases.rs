//! Runs many damaged cases, each behind a wall for panics and under a bound on memory, and names those that fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crate::allocations::{Allocated, measure};

/// Failures that are described; more are only counted.
const DESCRIBED_FAILURES: usize = 20;

/// Bytes that opening and asking may allocate at once whatever the store's size. The undamaged store of these tests
/// takes 16 KiB as a reader (where the hashed encoder begins to search). The rest is room for the bounds that are
/// constants: the decoder of a small manifest stops at 64 KiB, that of deleted rows at four bytes for each of 65,536
/// containers. A length read from damaged bytes is almost always far beyond.
pub(crate) const READER_FLOOR_BYTES: usize = 260 * 1024;

/// The same for opening for writing, where redb allocates its cache's pages and the tables of its page allocator.
pub(crate) const WRITER_FLOOR_BYTES: usize = 4 * 1024 * 1024;

/// How many times the bound on one allocation all allocations together may hold.
const HELD_FACTOR: usize = 8;

/// One test at a time: what the allocator counts is that of the whole process. (nextest gives each its own.)
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

static QUIET: AtomicBool = AtomicBool::new(false);
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `work`; a panic that comes out of it is an error that says where it began. Panics that are caught further
/// inside are no failures, and do not fill the output.
pub(crate) fn walled<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if QUIET.load(Ordering::Relaxed) {
                *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
            } else {
                usual(panic);
            }
        }));
    });
    QUIET.store(true, Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.store(false, Ordering::Relaxed);
    result.map_err(|_| LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// The outcomes of a test's cases.
#[derive(Debug)]
pub(crate) struct Cases {
    limit_bytes: usize,
    count: usize,
    failed: usize,
    described: Vec<String>,
    most: Allocated,
}

impl Cases {
    /// Cases that may allocate `floor_bytes` at once, or as many bytes as the largest file has.
    pub(crate) fn new(floor_bytes: usize, largest_file_bytes: usize) -> Self {
        let limit_bytes = floor_bytes.max(largest_file_bytes);
        Self { limit_bytes, count: 0, failed: 0, described: Vec::new(), most: Allocated::default() }
    }

    /// Runs one case. It fails if it says so, panics, or allocates more than the bound.
    pub(crate) fn run(&mut self, label: impl FnOnce() -> String, case: impl FnOnce() -> Result<(), String>) {
        self.count += 1;
        let (outcome, allocated) = measure(|| walled(case));
        self.most.largest_bytes = self.most.largest_bytes.max(allocated.largest_bytes);
        self.most.peak_bytes = self.most.peak_bytes.max(allocated.peak_bytes);
        let failure = match outcome {
            Err(panic) => panic,
            Ok(Err(reason)) => reason,
            Ok(Ok(())) if allocated.largest_bytes > self.limit_bytes => {
                format!("{} bytes were allocated at once", allocated.largest_bytes)
            }
            Ok(Ok(())) if allocated.peak_bytes > HELD_FACTOR * self.limit_bytes => {
                format!("{} bytes were held at once", allocated.peak_bytes)
            }
            Ok(Ok(())) => return,
        };
        self.fail(format!("{}: {failure}", label()));
    }

    /// Counts a failure that was found elsewhere.
    pub(crate) fn fail(&mut self, failure: String) {
        self.failed += 1;
        if self.described.len() < DESCRIBED_FAILURES {
            self.described.push(failure);
        }
    }

    /// Fails the test if any case did, or if there were fewer cases than expected.
    pub(crate) fn finish(self, expected_at_least: usize) {
        println!("{} cases, at most {:?}, bound {} bytes", self.count, self.most, self.limit_bytes);
        let lines: String = self.described.iter().map(|line| format!("\n  {line}")).collect();
        assert_eq!(self.failed, 0, "{} of {} cases failed:{lines}\n", self.failed, self.count);
        assert!(self.count >= expected_at_least, "only {} cases ran", self.count);
    }
}
