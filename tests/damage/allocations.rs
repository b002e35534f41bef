//! An allocator that remembers the largest single allocation and the most bytes held at once, so that a damaged length
//! that asks for memory shows even where the memory is never touched.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counted.
#[derive(Debug)]
pub(crate) struct Counting;

static LARGEST_BYTES: AtomicUsize = AtomicUsize::new(0);
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    LARGEST_BYTES.fetch_max(bytes, Ordering::Relaxed);
    let held = HELD_BYTES.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
    PEAK_BYTES.fetch_max(held, Ordering::Relaxed);
}

fn gave(bytes: usize) {
    HELD_BYTES.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with the layout that it came with; counting touches atomics only
// and never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: `pointer` came from the system's allocator with this layout, because every allocation did.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        gave(layout.size());
        took(new_size);
        // SAFETY: as for `dealloc`; the caller keeps the contract for `new_size`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// What work allocated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allocated {
    /// The largest single allocation.
    pub(crate) largest_bytes: usize,
    /// The most bytes held at once, beyond those held before.
    pub(crate) peak_bytes: usize,
}

/// Runs `work` and tells what all threads of the process allocated meanwhile.
pub(crate) fn measure<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    let before = HELD_BYTES.load(Ordering::Relaxed);
    LARGEST_BYTES.store(0, Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let value = work();
    let allocated = Allocated {
        largest_bytes: LARGEST_BYTES.load(Ordering::Relaxed),
        peak_bytes: PEAK_BYTES.load(Ordering::Relaxed).saturating_sub(before),
    };
    (value, allocated)
}

#[test]
fn the_allocator_sees_an_allocation_that_is_never_touched() {
    let _alone = crate::cases::alone();
    let (bytes, allocated) = measure(|| vec![0_u8; 40_000_000]);
    assert_eq!(bytes.len(), 40_000_000);
    assert!(allocated.largest_bytes >= 40_000_000 && allocated.peak_bytes >= 40_000_000, "{allocated:?}");
    let (_, allocated) = measure(|| (0..100).map(|_| vec![0_u8; 100_000]).collect::<Vec<_>>().len());
    assert!(allocated.largest_bytes < 200_000, "{allocated:?}");
    assert!(allocated.peak_bytes >= 10_000_000, "{allocated:?}");
}
