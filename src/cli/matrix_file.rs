//! Matrices that verbs write: npy, with the keys of the rows beside it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::Failure;

/// An npy file of f32 that is written row by row and takes its place when it is whole.
pub(super) struct MatrixFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
}

/// A file that cannot be written.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}

/// Where a file is written before it takes its place.
pub(super) fn temporary_beside(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    PathBuf::from(temporary)
}

/// The lines of a keys file.
pub(super) fn keys_text(keys: &[String]) -> String {
    keys.iter().map(|key| format!("{}\n", json!({"key": key}))).collect()
}

impl MatrixFile {
    /// Begins a file of this shape.
    pub(super) fn create(path: &Path, shape: &[usize]) -> Result<Self, Failure> {
        let temporary = temporary_beside(path);
        let file = File::create(&temporary).map_err(|error| cannot_write(&temporary, &error))?;
        let mut matrix = Self { path: path.to_owned(), temporary, file: BufWriter::new(file) };
        matrix.write(&npy_header(shape))?;
        Ok(matrix)
    }

    /// Appends values.
    pub(super) fn append(&mut self, values: &[f64]) -> Result<(), Failure> {
        for value in values {
            self.write(&(*value as f32).to_le_bytes())?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| cannot_write(&self.temporary, &error))
    }

    /// Puts the file in its place, and the keys beside it: `S.npy` and `S.keys.jsonl`.
    pub(super) fn finish(mut self, keys: &[String]) -> Result<(), Failure> {
        self.file.flush().map_err(|error| cannot_write(&self.temporary, &error))?;
        let beside = self.path.with_extension("keys.jsonl");
        fs::write(&beside, keys_text(keys)).map_err(|error| cannot_write(&beside, &error))?;
        fs::rename(&self.temporary, &self.path).map_err(|error| cannot_write(&self.path, &error))
    }
}

/// Magic, version, length and description, padded so that values begin at a multiple of 64 bytes.
fn npy_header(shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&(text.len() as u16).to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Matrix;

    #[test]
    fn matrices_come_back_with_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.npy");
        let mut file = MatrixFile::create(&path, &[2, 3]).unwrap();
        file.append(&[1.0, -2.0, 0.5]).unwrap();
        file.append(&[0.0, 4.0, 8.0]).unwrap();
        file.finish(&["a".to_owned(), "b\"".to_owned(), "c".to_owned()]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let matrix = Matrix::from_npy(&bytes, "scores.npy").unwrap();
        let mut values = Vec::new();
        matrix.read_rows(1, 1, &mut values).unwrap();
        assert_eq!((matrix.rows(), matrix.width(), values), (2, 3, vec![0.0, 4.0, 8.0]));
        let keys = fs::read_to_string(folder.path().join("scores.keys.jsonl")).unwrap();
        assert_eq!(keys, "{\"key\":\"a\"}\n{\"key\":\"b\\\"\"}\n{\"key\":\"c\"}\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
