//! A file for the tests of readers: written, changed, opened.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{FieldNames, Opened, Position, open_path};

/// A file alone in a folder that goes away with it.
pub(super) struct SampleFile {
    folder: TempDir,
    pub(super) name: &'static str,
}

impl SampleFile {
    pub(super) fn new(name: &'static str, bytes: &[u8]) -> Self {
        let file = Self { folder: TempDir::new().unwrap(), name };
        file.write(bytes);
        file
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// Puts `bytes` in place of what is there.
    pub(super) fn write(&self, bytes: &[u8]) {
        // A file that is cut to nothing first is flushed by some file systems, and suites do this thousands of times.
        let _ = fs::remove_file(self.path());
        fs::write(self.path(), bytes).unwrap();
    }

    pub(super) fn open(&self, fields: &FieldNames, resume: Option<&Position>) -> Opened {
        open_path(&self.path(), None, fields, resume).unwrap()
    }
}
