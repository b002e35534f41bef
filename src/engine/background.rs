//! Work on a thread of its own, as long as there is some.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::options::Watch;
use crate::base::Cancel;

/// How often a wait looks whether it is still wanted.
const WAKE_UP: Duration = Duration::from_millis(50);

/// What a thread does with a job. It reports to the task and stops when that says so.
type Work<J, R, E> = Box<dyn Fn(J, &Task<'_, J, R, E>) -> Result<(), E> + Send + Sync>;

/// Does jobs `J` one after the other, adds what it did to a report `R`, and keeps the last error `E`. Of jobs that wait only
/// the newest is done: each stands for all that there is to do.
pub(super) struct Background<J, R, E> {
    shared: Arc<Shared<J, R, E>>,
    thread_name: &'static str,
    /// The thread that works or worked last.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<J, R, E> {
    state: Mutex<State<J, R, E>>,
    /// Told when the state changes.
    changed: Condvar,
    work: Work<J, R, E>,
}

struct State<J, R, E> {
    next: Option<J>,
    is_working: bool,
    /// Stops the job under way.
    cancel: Cancel,
    /// Rows to work on since somebody waited, and how many are done.
    total: u64,
    done: u64,
    /// What was done since then.
    report: R,
    /// What went wrong since then.
    error: Option<E>,
}

/// A job under way.
pub(super) struct Task<'a, J, R, E> {
    shared: &'a Shared<J, R, E>,
    cancel: Cancel,
}

impl<J, R, E> Task<'_, J, R, E> {
    /// Asks the job to stop.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Says that there are so many more rows to work on.
    pub(super) fn expect(&self, rows: u64) {
        self.shared.state().total += rows;
    }

    /// Says that so many more rows are done.
    pub(super) fn advance(&self, rows: u64) {
        self.shared.state().done += rows;
        self.shared.changed.notify_all();
    }

    /// Adds to what is reported.
    pub(super) fn report(&self, add: impl FnOnce(&mut R)) {
        add(&mut self.shared.state().report);
    }
}

/// Tells those who wait that the thread is over.
struct Ending<'a, J, R, E>(&'a Shared<J, R, E>);

impl<J, R, E> Drop for Ending<'_, J, R, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().is_working = false;
        }
        self.0.changed.notify_all();
    }
}

impl<J, R, E> Shared<J, R, E> {
    fn state(&self) -> MutexGuard<'_, State<J, R, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // A job that panics must not leave others waiting for it.
        let _ending = Ending(self);
        loop {
            let (job, cancel) = {
                let mut state = self.state();
                let Some(job) = state.next.take() else {
                    // In the same breath, so that a job which comes now finds nobody at work.
                    state.is_working = false;
                    return;
                };
                state.cancel = Cancel::new();
                (job, state.cancel.clone())
            };
            if let Err(error) = (self.work)(job, &Task { shared: self, cancel }) {
                self.state().error = Some(error);
            }
        }
    }
}

impl<J: Send + 'static, R: Default + Send + 'static, E: Send + 'static> Background<J, R, E> {
    pub(super) fn new(
        thread_name: &'static str,
        work: impl Fn(J, &Task<'_, J, R, E>) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            next: None,
            is_working: false,
            cancel: Cancel::new(),
            total: 0,
            done: 0,
            report: R::default(),
            error: None,
        };
        let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), work: Box::new(work) };
        Self { shared: Arc::new(shared), thread_name, thread: Mutex::new(None) }
    }

    /// Begins a job, or has it done after the one under way.
    pub(super) fn wake(&self, job: J) {
        let mut state = self.shared.state();
        state.next = Some(job);
        if state.is_working {
            return;
        }
        let mut last = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = last.take() {
            // It has nothing left to do but to end.
            let _ = ended.join();
        }
        let shared = Arc::clone(&self.shared);
        let thread = Builder::new().name(self.thread_name.to_owned()).spawn(move || shared.run());
        // Without a thread nothing is done now; the next call tries again.
        state.is_working = thread.is_ok();
        *last = thread.ok();
    }

    /// Waits until nothing is left to do, and takes the report of what was done since the last wait; `None` if the wait was
    /// cancelled. `stop` then stops the work too, otherwise it goes on.
    pub(super) fn wait(&self, watch: Watch<'_>, operation: &'static str, stop: bool) -> Option<Result<R, E>> {
        let mut state = self.shared.state();
        let mut shown_total = None;
        while state.is_working && !watch.cancel.is_cancelled() {
            // More work may turn up on the way.
            if shown_total != Some(state.total) {
                shown_total = Some(state.total);
                watch.progress.begin(operation, "rows", shown_total);
            }
            watch.progress.advance(state.done);
            let waited = self.shared.changed.wait_timeout(state, WAKE_UP);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if shown_total.is_some() {
            watch.progress.end();
        }
        if state.is_working {
            if stop {
                state.next = None;
                state.cancel.cancel();
            }
            return None;
        }
        (state.total, state.done) = (0, 0);
        let report = std::mem::take(&mut state.report);
        Some(state.error.take().map_or(Ok(report), Err))
    }
}

impl<J, R, E> Drop for Background<J, R, E> {
    /// What is half done is left: nobody can be kept waiting for it. What the work holds is released when this returns.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.next = None;
        state.cancel.cancel();
        drop(state);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in it was told when it happened.
            let _ = thread.join();
        }
    }
}

impl<J, R, E> std::fmt::Debug for Background<J, R, E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Background({})", self.thread_name)
    }
}
