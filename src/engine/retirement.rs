//! Letting go of segments on a thread of its own.
//!
//! Whoever holds a segment last unmaps its files, and where these were removed meanwhile gives their pages back to the
//! system: tens of milliseconds for a merged segment. That would be in the middle of a query, the last one on a snapshot
//! that was replaced while it ran.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::segment::Segment;
use crate::base::limits::RETIRED_BYTES_MIN;

/// Drops segments that nobody holds any more. The thread begins with the first large one.
#[derive(Debug, Default)]
pub(super) struct Retirement(Mutex<Option<Retiring>>);

#[derive(Debug)]
struct Retiring {
    sender: Sender<Segment>,
    thread: JoinHandle<()>,
}

impl Retirement {
    /// Drops a segment: on the thread if that takes long.
    pub(super) fn drop_later(&self, segment: Segment) {
        if segment.record.length() < RETIRED_BYTES_MIN {
            return;
        }
        let mut retiring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if retiring.is_none() {
            let (sender, receiver) = channel();
            let drop_all = move || receiver.into_iter().for_each(drop);
            let thread = Builder::new().name("ascribe-retire".to_owned()).spawn(drop_all);
            *retiring = thread.ok().map(|thread| Retiring { sender, thread });
        }
        if let Some(retiring) = retiring.as_ref() {
            // Without a thread it is dropped here.
            let _ = retiring.sender.send(segment);
        }
    }
}

impl Drop for Retirement {
    /// Waits until all is dropped: a closed store holds no files.
    fn drop(&mut self) {
        let retiring = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Retiring { sender, thread }) = retiring {
            drop(sender);
            let _ = thread.join();
        }
    }
}
