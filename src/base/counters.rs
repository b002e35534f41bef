//! Counters of the stages of long work: what went through each, and what its time was spent on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Clock;

/// What a stage does with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its own work.
    Busy,
    /// Waiting for the stage before it.
    InputWait,
    /// Waiting for the stage behind it.
    OutputWait,
}

/// Counts the work of one stage; shared by the threads that do it and those that look on.
///
/// ```
/// use std::time::Duration;
/// use ascribe::base::{Spent, StageCounter};
/// let stage = StageCounter::new("encode cpu");
/// stage.add(2, 30, 3072);
/// stage.spend(Spent::Busy, Duration::from_millis(5));
/// let count = stage.count();
/// assert_eq!((count.items, count.tokens, count.busy), (2, 30, Duration::from_millis(5)));
/// ```
#[derive(Debug, Default)]
pub struct StageCounter {
    name: String,
    items: AtomicU64,
    tokens: AtomicU64,
    bytes: AtomicU64,
    busy_ns: AtomicU64,
    input_wait_ns: AtomicU64,
    output_wait_ns: AtomicU64,
}

/// What a stage has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageCount {
    /// Name of the stage, such as `read` or `encode cuda:0`.
    pub name: String,
    /// Documents, texts, rows or commits that went through.
    pub items: u64,
    /// Tokens of the texts; 0 where a stage does not count them.
    pub tokens: u64,
    /// Bytes read, handed on or written.
    pub bytes: u64,
    /// Time at work.
    pub busy: Duration,
    /// Time spent waiting for the stage before.
    pub input_wait: Duration,
    /// Time spent waiting for the stage behind.
    pub output_wait: Duration,
}

impl StageCount {
    /// Adds what the same stage did another time.
    pub fn add(&mut self, other: &Self) {
        self.items += other.items;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.busy += other.busy;
        self.input_wait += other.input_wait;
        self.output_wait += other.output_wait;
    }

    /// Items per second at work; `None` where there was no work.
    pub fn items_per_second(&self) -> Option<f64> {
        let rate = self.items as f64 / self.busy.as_secs_f64();
        (self.items > 0 && rate.is_finite()).then_some(rate)
    }
}

impl StageCounter {
    /// A stage that has done nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Counts what went through.
    pub fn add(&self, items: u64, tokens: u64, bytes: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts time.
    pub fn spend(&self, on: Spent, time: Duration) {
        let counter = match on {
            Spent::Busy => &self.busy_ns,
            Spent::InputWait => &self.input_wait_ns,
            Spent::OutputWait => &self.output_wait_ns,
        };
        counter.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Does `work` and counts the time that it takes.
    pub fn timed<T>(&self, clock: &dyn Clock, on: Spent, work: impl FnOnce() -> T) -> T {
        let begun = clock.elapsed();
        let result = work();
        self.spend(on, clock.elapsed().saturating_sub(begun));
        result
    }

    /// What was counted so far.
    pub fn count(&self) -> StageCount {
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        StageCount {
            name: self.name.clone(),
            items: self.items.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            busy: time(&self.busy_ns),
            input_wait: time(&self.input_wait_ns),
            output_wait: time(&self.output_wait_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that is one second later at every look.
    #[derive(Debug, Default)]
    struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
        }

        fn unix_ms(&self) -> u64 {
            0
        }
    }

    #[test]
    fn time_and_work_add_up_each_in_its_place() {
        let stage = StageCounter::new("write");
        let clock = Ticking::default();
        assert_eq!(stage.timed(&clock, Spent::Busy, || 7), 7);
        stage.timed(&clock, Spent::Busy, || ());
        stage.spend(Spent::InputWait, Duration::from_millis(3));
        stage.spend(Spent::OutputWait, Duration::from_millis(4));
        stage.add(1, 2, 3);
        stage.add(10, 20, 30);
        let expected = StageCount {
            name: "write".to_owned(),
            items: 11,
            tokens: 22,
            bytes: 33,
            busy: Duration::from_secs(2),
            input_wait: Duration::from_millis(3),
            output_wait: Duration::from_millis(4),
        };
        assert_eq!(stage.count(), expected);
        assert_eq!(expected.items_per_second(), Some(5.5));
        assert_eq!(StageCount::default().items_per_second(), None);
        let mut twice = stage.count();
        twice.add(&expected);
        assert_eq!((twice.items, twice.tokens, twice.bytes), (22, 44, 66));
        assert_eq!((twice.busy, twice.input_wait), (Duration::from_secs(4), Duration::from_millis(6)));
        assert_eq!(twice.output_wait, Duration::from_millis(8));
    }
}
