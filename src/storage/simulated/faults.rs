//! Counts of operations, and the errors and crashes that were ordered.

use std::io;

/// How long an ordered failure lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One operation fails, the next works again.
    Once,
    /// That operation and every later one that changes the medium or syncs fail.
    Forever,
}

/// Whether an operation makes something durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Change,
    Sync,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    operations: u64,
    syncs: u64,
    syncs_until_crash: Option<u64>,
    failure: Option<(u64, Failure)>,
    crashed: bool,
}

impl Faults {
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn syncs(&self) -> u64 {
        self.syncs
    }

    pub(super) fn crashed(&self) -> bool {
        self.crashed
    }

    pub(super) fn crash(&mut self) {
        self.crashed = true;
    }

    pub(super) fn crash_at_sync(&mut self, count: u64) {
        self.crashed |= count == 0;
        self.syncs_until_crash = Some(count);
    }

    pub(super) fn fail_operation(&mut self, count: u64, failure: Failure) {
        self.failure = Some((count.max(1), failure));
    }

    /// What every use of the medium asks first.
    pub(super) fn check_alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("simulated crash")) } else { Ok(()) }
    }

    /// Counts an operation and says whether it goes ahead.
    pub(super) fn admit(&mut self, kind: Kind) -> io::Result<()> {
        self.check_alive()?;
        if kind == Kind::Sync {
            if let Some(left) = &mut self.syncs_until_crash {
                *left -= 1;
                self.crashed = *left == 0;
            }
            self.check_alive()?;
            self.syncs += 1;
        }
        self.operations += 1;
        let Some((left, failure)) = &mut self.failure else { return Ok(()) };
        if *left > 1 {
            *left -= 1;
            return Ok(());
        }
        if *failure == Failure::Once {
            self.failure = None;
        }
        Err(io::Error::other("simulated failure of the medium"))
    }
}
