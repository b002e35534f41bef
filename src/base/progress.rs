//! What long work reports to and asks: progress, cancellation, the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Receives the progress of long work. Calls come from the working thread and must be cheap.
pub trait Progress: Send + Sync {
    /// A stage begins. `total` counts `unit`s if it is known beforehand (`bytes`, `rows`, `files`).
    fn begin(&self, stage: &str, unit: &str, total: Option<u64>);

    /// `done` units of the stage are done in all.
    fn advance(&self, done: u64);

    /// A short remark on the stage, such as its pace and what holds it up; it takes the place of the one before.
    fn remark(&self, _text: &str) {}

    /// The stage is over.
    fn end(&self);
}

/// Progress that goes nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _stage: &str, _unit: &str, _total: Option<u64>) {}
    fn advance(&self, _done: u64) {}
    fn end(&self) {}
}

/// A request to stop, shared between threads. Work stops at the next safe point and leaves nothing half done.
///
/// ```
/// let cancel = ascribe::base::Cancel::new();
/// let other = cancel.clone();
/// other.cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A request not made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request. It cannot be taken back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the request was made.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the time comes from. Tests give their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Time since an arbitrary fixed moment; never goes backwards.
    fn elapsed(&self) -> Duration;

    /// Milliseconds since 1970-01-01 UTC, for the commit history only.
    fn unix_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose fixed moment is now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
