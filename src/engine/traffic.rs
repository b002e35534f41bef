//! Queries go before work that nobody waits for.
//!
//! Merging and indexing keep processors busy for seconds, and a query that shares these with them is answered late. So such
//! work is done in pieces of a millisecond. While queries are under way a piece is done each time one of them ends, or after
//! a while if none does: the work goes on, and a query meets about one piece. Rejected: a lower priority for its threads;
//! the system then still lets them run for several milliseconds before it looks again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time after which background work looks whether queries are under way.
const PIECE: Duration = Duration::from_millis(1);

/// Longest time that it waits for one of them to end.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// Queries under way.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    state: Mutex<State>,
    /// Told when a query ends.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    ended: u64,
}

impl Traffic {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a query is under way, as long as the returned value lives.
    pub(super) fn enter(&self) -> Passage<'_> {
        self.state().under_way += 1;
        Passage(self)
    }

    /// Waits until a query ends, if any is under way.
    fn give_way(&self) {
        let state = self.state();
        let ended = state.ended;
        let is_waiting = |state: &mut State| state.under_way > 0 && state.ended == ended;
        // Whether the time was up or a query ended, the next piece is due.
        let _ = self.ended.wait_timeout_while(state, WAIT_MAX, is_waiting);
    }
}

/// A query under way.
#[derive(Debug)]
pub(super) struct Passage<'a>(&'a Traffic);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        state.ended += 1;
        drop(state);
        self.0.ended.notify_all();
    }
}

/// Keeps work in the background to pieces of a millisecond, between which queries go first.
#[derive(Debug)]
pub(super) struct Pace {
    traffic: Arc<Traffic>,
    /// When the piece under way began.
    begun: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(traffic: &Arc<Traffic>) -> Self {
        Self { traffic: Arc::clone(traffic), begun: Mutex::new(Instant::now()) }
    }

    /// To be called between steps of a millisecond or two at most: a step is never interrupted.
    pub(super) fn keep(&self) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.elapsed() >= PIECE {
            self.traffic.give_way();
            *begun = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_waits_for_a_query_to_end_and_not_for_the_one_after_it() {
        let traffic = Arc::new(Traffic::default());
        let first = traffic.enter();
        let second = traffic.enter();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                traffic.give_way();
                sender.send(()).unwrap();
            });
            drop(first);
            receiver.recv().unwrap();
            worker.join().unwrap();
        });
        assert_eq!(traffic.state().under_way, 1);
        drop(second);
        traffic.give_way();
        let state = traffic.state();
        assert_eq!((state.under_way, state.ended), (0, 2));
    }

    #[test]
    fn work_goes_on_while_one_query_takes_for_ever() {
        let traffic = Arc::new(Traffic::default());
        let _endless = traffic.enter();
        let pace = Pace::new(&traffic);
        *pace.begun.lock().unwrap() = Instant::now() - PIECE;
        pace.keep();
        assert!(pace.begun.lock().unwrap().elapsed() < PIECE);
    }
}
