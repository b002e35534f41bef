//! Appends to a file in large pieces of one size.
//!
//! The header of a sealed file shifts everything behind it by 64 bytes. Written as they come, its blocks would all begin
//! inside a page of the file cache, and on ext4 take twice the time.

use std::io;

use super::medium::FileWriter;
use crate::base::limits::WRITE_UNIT_BYTES;

/// Holds back what does not fill a unit yet.
pub(super) struct AlignedWriter {
    writer: Box<dyn FileWriter>,
    tail: Vec<u8>,
}

impl AlignedWriter {
    /// A writer of the empty file behind `writer`.
    pub(super) fn new(writer: Box<dyn FileWriter>) -> Self {
        Self { writer, tail: Vec::new() }
    }

    /// Appends `bytes`. Whole units go to the medium straight from the caller's bytes; only what is left over is copied.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if !self.tail.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(WRITE_UNIT_BYTES - self.tail.len()));
            self.tail.extend_from_slice(first);
            if self.tail.len() < WRITE_UNIT_BYTES {
                return Ok(());
            }
            self.flush()?;
            bytes = rest;
        }
        let units = bytes.chunks_exact(WRITE_UNIT_BYTES);
        self.tail.extend_from_slice(units.remainder());
        units.into_iter().try_for_each(|unit| self.writer.write(unit))
    }

    /// Writes what was held back and makes everything survive a crash. Nothing may be written afterwards.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.writer.sync()
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.tail.is_empty() {
            self.writer.write(&self.tail)?;
            self.tail.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Seen {
        bytes: Vec<u8>,
        starts: Vec<usize>,
        synced: usize,
    }

    struct Recorder(Arc<Mutex<Seen>>);

    impl FileWriter for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            let mut seen = self.0.lock().unwrap();
            let start = seen.bytes.len();
            seen.starts.push(start);
            seen.bytes.extend_from_slice(bytes);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            let mut seen = self.0.lock().unwrap();
            seen.synced = seen.bytes.len();
            Ok(())
        }
    }

    fn length() -> impl Strategy<Value = usize> {
        let unit = WRITE_UNIT_BYTES;
        prop_oneof![0..200_usize, unit - 70..unit + 70, 0..4 * unit]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_file_is_what_was_written_in_aligned_pieces(lengths in prop::collection::vec(length(), 0..8)) {
            let seen = Arc::new(Mutex::new(Seen::default()));
            let mut writer = AlignedWriter::new(Box::new(Recorder(Arc::clone(&seen))));
            let mut expected = Vec::new();
            for (index, length) in lengths.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8 ^ index as u8).collect();
                writer.write(&bytes).unwrap();
                expected.extend(bytes);
            }
            writer.sync().unwrap();
            let seen = seen.lock().unwrap();
            prop_assert!(seen.bytes == expected && seen.synced == expected.len());
            let all_but_last = seen.starts.iter().skip(1).enumerate();
            for (number, start) in all_but_last {
                prop_assert_eq!(*start, (number + 1) * WRITE_UNIT_BYTES);
            }
        }
    }
}
