//! The files of a folder, and their checks.

use serde::Deserialize;

use super::pickle::refuse_pickle;
use super::{ForeignError, ForeignTool};
use crate::sources::SourceError;
use crate::sources::error::{listed, shortened};
use crate::sources::npy::NpyArray;
use crate::sources::tensor_set::TensorSet;

/// The files of a folder, whose bytes somebody else holds.
#[derive(Debug)]
pub struct ForeignFiles<'a> {
    folder: String,
    present: Vec<String>,
    files: Vec<(String, &'a [u8])>,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct ForeignFile<'a> {
    /// With its folder, for messages.
    pub(super) name: String,
    pub(super) bytes: &'a [u8],
}

impl<'a> ForeignFiles<'a> {
    /// The folder called `folder` in messages. `present` has the paths of all its files, relative and with `/`; `files` the
    /// bytes of those that its tool [reads](ForeignTool::reads).
    pub fn new(folder: &str, mut present: Vec<String>, mut files: Vec<(String, &'a [u8])>) -> Self {
        present.sort_unstable();
        files.sort_unstable();
        Self { folder: folder.to_owned(), present, files }
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// Refuses a single file that was named where a folder is expected.
    ///
    /// ```
    /// use ascribe::sources::ForeignFiles;
    /// let error = ForeignFiles::refuse_single("scores.pt", b"\x80\x02}q\x00.").to_string();
    /// assert!(error.contains("torch pickle") && error.contains("weights_only=True"));
    /// ```
    pub fn refuse_single(name: &str, bytes: &[u8]) -> ForeignError {
        match refuse_pickle(name, bytes) {
            Err(pickle) => pickle,
            Ok(()) => refused(name, "is a file; name the folder that the tool wrote"),
        }
    }

    /// Paths of all files, sorted.
    pub(super) fn present(&self) -> impl Iterator<Item = &str> + Clone {
        self.present.iter().map(String::as_str)
    }

    pub(super) fn find(&self, path: &str) -> Option<ForeignFile<'a>> {
        let position = self.files.binary_search_by(|(own, _)| own.as_str().cmp(path)).ok()?;
        let (path, bytes) = &self.files[position];
        Some(ForeignFile { name: format!("{}/{path}", self.folder), bytes })
    }

    /// The file at `path`, which a folder of `tool` must have.
    pub(super) fn required(&self, path: &str, tool: ForeignTool) -> Result<ForeignFile<'a>, ForeignError> {
        self.find(path).ok_or_else(|| self.missing(path, tool))
    }

    pub(super) fn missing(&self, path: &str, tool: ForeignTool) -> ForeignError {
        let remedy = match ForeignTool::of_paths(self.present()) {
            Some(other) if other != tool => {
                format!("the folder looks like one of {0}: say --from {0}", other.name())
            }
            _ => format!("{}, and whether it is complete", tool.folder_hint()),
        };
        ForeignError::Missing { file: format!("{}/{path}", self.folder), remedy }
    }

    /// The only file whose path is `name`, or ends in it below a folder. Several are refused with the folders to choose from.
    pub(super) fn only(&self, name: &str, tool: ForeignTool) -> Result<ForeignFile<'a>, ForeignError> {
        let folder_of = |path: &str| path.strip_suffix(name).map(str::to_owned);
        let is_one = |folder: &str| folder.is_empty() || folder.ends_with('/');
        let folders: Vec<String> =
            self.present().filter_map(folder_of).filter(|folder| is_one(folder)).collect();
        match folders.as_slice() {
            [] => Err(self.missing(name, tool)),
            [folder] => self.required(&format!("{folder}{name}"), tool),
            several => {
                let names = listed(several.iter().map(String::as_str));
                Err(refused(
                    &self.folder,
                    format!("has several files {name}: name one of the folders {names}"),
                ))
            }
        }
    }
}

impl<'a> ForeignFile<'a> {
    pub(super) fn refuse(&self, reason: impl Into<String>) -> ForeignError {
        refused(&self.name, reason)
    }

    /// Refuses a value of the file by its name in it.
    pub(super) fn refuse_field(&self, field: &str, reason: impl Into<String>) -> ForeignError {
        refused(format!("{}, {field}", self.name), reason)
    }

    /// The one JSON value of the file.
    pub(super) fn json<T: Deserialize<'a>>(&self) -> Result<T, ForeignError> {
        refuse_pickle(&self.name, self.bytes)?;
        serde_json::from_slice(self.bytes).map_err(|error| {
            let place = format!("{}, line {}, column {}", self.name, error.line(), error.column());
            let said = error.to_string();
            let reason = said.rsplit_once(" at line ").map_or(said.as_str(), |(reason, _)| reason);
            refused(place, format!("{}; write it again, or check whether it was cut off", shortened(reason)))
        })
    }

    /// The array of an npy file, whose shape `shape` must be and whose length is checked.
    pub(super) fn array(
        &self,
        shape: &[u64],
        value_bytes: Option<u64>,
    ) -> Result<NpyArray<'a>, ForeignError> {
        refuse_pickle(&self.name, self.bytes)?;
        let array = NpyArray::new(self.bytes, &self.name)?;
        if array.shape != shape {
            return Err(self.refuse(format!("has shape {:?}, the folder calls for {shape:?}", array.shape)));
        }
        let value_bytes = match value_bytes {
            Some(bytes) => bytes,
            None => array.real(&self.name)?.size_bytes() as u64,
        };
        let bytes = array.shape.iter().fold(value_bytes, |bytes, size| bytes.saturating_mul(*size));
        if bytes != array.data.len() as u64 {
            return Err(SourceError::MatrixLength {
                input: self.name.clone(),
                expected_bytes: bytes,
                got_bytes: array.data.len() as u64,
            }
            .into());
        }
        Ok(array)
    }

    /// The first or second size of the matrix of an npy file, before anything else of it is checked.
    pub(super) fn size(&self, dimension: usize) -> Result<u64, ForeignError> {
        refuse_pickle(&self.name, self.bytes)?;
        let array = NpyArray::new(self.bytes, &self.name)?;
        match array.shape.as_slice() {
            shape @ [_, _] => Ok(shape[dimension]),
            shape => Err(self.refuse(format!("has shape {shape:?}, a matrix is expected"))),
        }
    }

    /// The tensors of a safetensors file.
    pub(super) fn tensors(&self) -> Result<TensorSet<'a>, ForeignError> {
        refuse_pickle(&self.name, self.bytes)?;
        Ok(TensorSet::new(self.bytes, &self.name)?)
    }

    /// Refuses a file without a header that has not `expected` bytes.
    pub(super) fn check_length(&self, expected: u128, described_by: &str) -> Result<(), ForeignError> {
        if self.bytes.len() as u128 == expected {
            return Ok(());
        }
        // Plain values may look like anything: only a file that does not fit is looked at.
        refuse_pickle(&self.name, self.bytes)?;
        Err(ForeignError::Length {
            file: self.name.clone(),
            expected_bytes: u64::try_from(expected).unwrap_or(u64::MAX),
            got_bytes: self.bytes.len() as u64,
            described_by: described_by.to_owned(),
        })
    }
}

pub(super) fn refused(place: impl Into<String>, reason: impl Into<String>) -> ForeignError {
    ForeignError::Refused { place: place.into(), reason: reason.into() }
}
