//! Opening for writing with one damaged file beside a sound catalog: the catalog is the truth, so that a damaged
//! manifest or CURRENT is published anew, and a damaged sealed file is an error or not yet seen.

use std::sync::Arc;

use ascribe::storage::{CATALOG_NAME, SimulatedStorage};

use crate::answers::{Replies, judge, read, write};
use crate::cases::{Cases, WRITER_FLOOR_BYTES, alone};
use crate::flips::largest_file_bytes;
use crate::small_store::simulated;

struct Writing {
    base: SimulatedStorage,
    expected: Replies,
    cases: Cases,
}

impl Writing {
    fn new() -> Self {
        let base = simulated();
        let expected = read(Arc::new(base.duplicate())).unwrap();
        let cases = Cases::new(WRITER_FLOOR_BYTES, largest_file_bytes(&base));
        Self { base, expected, cases }
    }

    /// Opens for writing with `bytes` in place of the file, then for reading what that left. With `healed` both must
    /// answer everything.
    fn replace(&mut self, name: &str, bytes: &[u8], healed: bool, label: impl FnOnce() -> String) {
        let damaged = self.base.duplicate();
        damaged.overwrite_file(name, bytes).unwrap();
        let Self { expected, cases, .. } = self;
        cases.run(label, || {
            for found in [write(Arc::new(damaged.clone())), read(Arc::new(damaged.clone()))] {
                judge(expected, &found)?;
                if let (true, Err(error)) = (healed, found) {
                    return Err(format!("not healed: {error}"));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn damaged_manifest_current_and_catalog_checksum_are_healed() {
    let _alone = alone();
    let mut writing = Writing::new();
    let names = writing.base.names();
    let published = |name: &&String| {
        name.starts_with("MANIFEST-") || ["CURRENT", "catalog.sum", "LOCK"].contains(&name.as_str())
    };
    let names: Vec<&String> = names.iter().filter(published).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let whole = writing.base.read_file(name).unwrap();
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            writing.replace(name, &bytes, true, || format!("{name}, byte {position}"));
            if position % 8 == 0 {
                writing.replace(name, &whole[..position], true, || format!("{name} cut to {position}"));
            }
        }
        writing.replace(name, b"something else", true, || format!("{name} is something else"));
    }
    writing.cases.finish(1000);
}

/// Every file's header and footer, and every eleventh byte between: the writer opens segments as readers do, whose
/// test covers every byte.
#[test]
fn damaged_sealed_files_do_not_mislead_the_writer() {
    let _alone = alone();
    let mut writing = Writing::new();
    let names: Vec<String> = writing.base.names().into_iter().filter(|name| name.contains('/')).collect();
    assert_eq!(names.len(), 13, "{names:?}");
    for (number, name) in names.iter().enumerate() {
        assert_ne!(name, CATALOG_NAME);
        let whole = writing.base.read_file(name).unwrap();
        for position in (number % 11..whole.len()).step_by(11) {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            writing.replace(name, &bytes, false, || format!("{name}, byte {position}"));
        }
        writing.replace(name, &[], false, || format!("{name} is empty"));
    }
    writing.cases.finish(1000);
}
