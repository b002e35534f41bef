//! A wall around the decoders: what panics behind it comes out as an error, without a word on the terminal.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is behind the wall.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static QUIET: Once = Once::new();

/// What `decode` gives; `None` if it panicked. Nothing that it was changing may be used again then.
///
/// Arrow and Parquet check much, and still some damaged bytes end in a panic inside them: `arrow_ipc::convert` has
/// `panic!` for every unit or bit width that it does not know, and `unwrap` on optional parts of a schema;
/// `RecordBatchDecoder` asserts that no variadic count is left over; Parquet's level and dictionary decoders index with
/// what they have read. The suites over changed bytes in `tests.rs` fail without this wall.
///
/// A panic is reported by the hook of the process before it is caught. The first call puts a hook before that one which
/// keeps silent about this wall's panics, and only about these.
pub(super) fn fenced<T>(decode: impl FnOnce() -> T) -> Option<T> {
    // A thread that is panicking may not change the hook.
    if !std::thread::panicking() {
        QUIET.call_once(|| {
            let report = take_hook();
            set_hook(Box::new(move |panic| {
                if !INSIDE.try_with(Cell::get).unwrap_or(false) {
                    report(panic);
                }
            }));
        });
    }
    let outer = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    INSIDE.set(outer);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_through_and_panics_do_not() {
        assert_eq!(fenced(|| 7), Some(7));
        let empty: Vec<u8> = Vec::new();
        assert_eq!(fenced(|| empty[std::hint::black_box(1)]), None);
        assert!(!INSIDE.get());
        assert_eq!(fenced(|| fenced(|| INSIDE.get())), Some(Some(true)));
    }
}
