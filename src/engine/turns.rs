//! Changes to a store are made one transaction at a time.
//!
//! Whoever begins one has the turn until it is committed or given up. A merge of segments works without a turn and takes one
//! only to commit; a store that commits without a pause lets it pass.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::Cancel;

/// How often somebody who waits for a turn looks whether it is still wanted.
const WAKE_UP: Duration = Duration::from_millis(20);

/// Who may change the store.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<TurnState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TurnState {
    is_taken: bool,
    /// Whether somebody waits who must not be passed by.
    is_awaited: bool,
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn, when nobody else has it or waits for the next one.
    pub(super) fn take(this: &Arc<Self>) -> Turn {
        let mut state = this.state();
        while state.is_taken || state.is_awaited {
            state = this.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_taken = true;
        Turn(Arc::clone(this))
    }

    /// The next turn, whoever else waits; `None` if it is not wanted any more.
    pub(super) fn take_next(this: &Arc<Self>, cancel: &Cancel) -> Option<Turn> {
        let mut state = this.state();
        state.is_awaited = true;
        while state.is_taken && !cancel.is_cancelled() {
            state = this.changed.wait_timeout(state, WAKE_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_awaited = false;
        if state.is_taken {
            this.changed.notify_all();
            return None;
        }
        state.is_taken = true;
        Some(Turn(Arc::clone(this)))
    }
}

/// The right to change the store, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state().is_taken = false;
        self.0.changed.notify_all();
    }
}
