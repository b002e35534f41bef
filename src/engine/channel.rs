//! A channel between two stages, bounded by items and by bytes.
//!
//! One item is always let in, however large it is: otherwise it could never pass.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// One of the two ends is gone.
    is_closed: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    items_max: usize,
    bytes_max: usize,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }
}

/// The end that items go in at.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The end that items come out of.
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<T> {
    Item(T),
    /// Nothing in time.
    Late,
    /// Nothing is left, and the sender is gone.
    Closed,
}

/// A channel that holds at most `items_max` items of `bytes_max` bytes together.
pub(super) fn channel<T>(items_max: usize, bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), bytes: 0, is_closed: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), items_max, bytes_max };
    let shared = Arc::new(shared);
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Waits for room and sends; false if the receiver is gone.
    pub(super) fn send(&self, item: T, bytes: usize) -> bool {
        let shared = &self.0;
        let mut state = shared.state();
        loop {
            if state.is_closed {
                return false;
            }
            let fits =
                state.items.len() < shared.items_max && state.bytes.saturating_add(bytes) <= shared.bytes_max;
            if fits || state.items.is_empty() {
                break;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes = state.bytes.saturating_add(bytes);
        state.items.push_back((item, bytes));
        drop(state);
        shared.changed.notify_one();
        true
    }
}

impl<T> Receiver<T> {
    /// The next item, waiting for it at most `wait`.
    pub(super) fn receive(&self, wait: Duration) -> Received<T> {
        let shared = &self.0;
        let begun = Instant::now();
        let mut state = shared.state();
        loop {
            if let Some((item, bytes)) = state.items.pop_front() {
                state.bytes = state.bytes.saturating_sub(bytes);
                drop(state);
                shared.changed.notify_one();
                return Received::Item(item);
            }
            if state.is_closed {
                return Received::Closed;
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Received::Late;
            }
            (state, _) = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
        // What nobody will take is given back at once, not when the other end goes.
        self.0.state().items.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    /// Sends `items` on a thread; what is received from the answer is how many of them are through.
    fn send_all(sender: Sender<u32>, items: Vec<(u32, usize)>) -> mpsc::Receiver<u32> {
        let (through, seen) = mpsc::channel();
        std::thread::spawn(move || {
            for (item, bytes) in items {
                if !sender.send(item, bytes) {
                    break;
                }
                through.send(item).unwrap();
            }
        });
        seen
    }

    #[test]
    fn items_come_out_in_order_and_then_the_end() {
        let (sender, receiver) = channel(2, 100);
        let seen = send_all(sender, (0..50).map(|item| (item, 10)).collect());
        let received: Vec<_> = (0..50).map(|_| receiver.receive(LONG)).collect();
        assert_eq!(received, (0..50).map(Received::Item).collect::<Vec<_>>());
        assert_eq!(receiver.receive(LONG), Received::Closed);
        assert_eq!(seen.iter().count(), 50);
    }

    #[test]
    fn a_sender_waits_for_room_in_items_and_in_bytes() {
        for (items_max, bytes_max) in [(2, usize::MAX), (usize::MAX, 20)] {
            let (sender, receiver) = channel(items_max, bytes_max);
            let seen = send_all(sender, vec![(1, 10), (2, 10), (3, 10)]);
            assert_eq!((seen.recv_timeout(LONG), seen.recv_timeout(LONG)), (Ok(1), Ok(2)));
            assert_eq!(seen.recv_timeout(SHORT), Err(mpsc::RecvTimeoutError::Timeout), "no room for a third");
            assert_eq!(receiver.receive(LONG), Received::Item(1));
            assert_eq!(seen.recv_timeout(LONG), Ok(3));
        }
    }

    #[test]
    fn an_item_larger_than_the_bound_passes_alone() {
        let (sender, receiver) = channel(9, 20);
        let seen = send_all(sender, vec![(1, 1), (2, 1000), (3, 1)]);
        assert_eq!(seen.recv_timeout(LONG), Ok(1));
        assert_eq!(seen.recv_timeout(SHORT), Err(mpsc::RecvTimeoutError::Timeout));
        assert_eq!(receiver.receive(LONG), Received::Item(1));
        assert_eq!(seen.recv_timeout(LONG), Ok(2));
        assert_eq!(seen.recv_timeout(SHORT), Err(mpsc::RecvTimeoutError::Timeout));
        assert_eq!((receiver.receive(LONG), receiver.receive(LONG)), (Received::Item(2), Received::Item(3)));
    }

    #[test]
    fn a_sender_is_told_when_the_receiver_goes_and_a_receiver_may_give_up_waiting() {
        let (sender, receiver) = channel::<u32>(1, 1);
        assert_eq!(receiver.receive(SHORT), Received::Late);
        assert!(sender.send(1, 1));
        let waiting = std::thread::spawn(move || sender.send(2, 1));
        std::thread::sleep(SHORT);
        drop(receiver);
        assert!(!waiting.join().unwrap());
    }
}
