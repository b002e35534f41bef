//! Files of ready vectors.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use super::failure::Failure;
use crate::sources::Matrix;
use crate::storage::FileMap;

/// The bytes of a file with ready vectors: mapped, or read where mapping is off.
pub(super) enum VectorFile {
    /// Mapped.
    Mapped(FileMap),
    /// Read.
    Read(Vec<u8>),
}

impl VectorFile {
    /// Opens the file.
    pub(super) fn open(path: &Path, no_mmap: bool) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::Failed(format!(
                "cannot open {}: {error}; check the path and its permissions",
                path.display()
            ))
        };
        if no_mmap {
            let mut bytes = Vec::new();
            File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(cannot)?;
            Ok(Self::Read(bytes))
        } else {
            Ok(Self::Mapped(FileMap::open(path).map_err(cannot)?))
        }
    }
}

impl Deref for VectorFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

/// The matrix in the bytes of the file at `path`, in the format that its extension tells.
pub(super) fn matrix_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<Matrix<'a>, Failure> {
    let name = path.display().to_string();
    match path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).as_deref() {
        Some("npy") => Ok(Matrix::from_npy(bytes, &name)?),
        Some("safetensors") => Ok(Matrix::from_safetensors(bytes, &name)?),
        _ => Err(Failure::Failed(format!(
            "cannot tell the format of the vectors in {name} from its name; name it .npy or .safetensors"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_format_of_vectors() {
        let message = |name: &str| match matrix_of(Path::new(name), b"") {
            Err(Failure::Failed(text)) => text,
            _ => String::new(),
        };
        assert!(message("v.txt").contains(".npy or .safetensors"));
        assert!(message("V.NPY").contains("valid npy"), "{}", message("V.NPY"));
        assert!(message("v.safetensors").contains("valid safetensors"));
    }
}
