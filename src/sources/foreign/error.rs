//! What can be wrong with a folder of another tool.

use thiserror::Error;

use crate::sources::SourceError;

/// How a user turns a pickle into safetensors: torch's own restricted loader, names of nested tables joined by dots.
const CONVERSION: &str = "python -c \"import sys, torch, safetensors.torch as s; f = lambda n, v: {n or 'tensor': v.contiguous()} if torch.is_tensor(v) else {a: b for k in v for a, b in f(f'{n}.{k}'.strip('.'), v[k]).items()}; s.save_file(f('', torch.load(sys.argv[1], map_location='cpu', weights_only=True)), sys.argv[2])\" IN.pt OUT.safetensors";

/// A folder of another tool that is refused whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// A file in it is not as its format demands.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file that must be there is not.
    #[error("{file} is missing; {remedy}")]
    Missing {
        /// The file, with its folder.
        file: String,
        /// What the folder may be instead, or what to do.
        remedy: String,
    },
    /// A torch pickle, which could run any program if it was loaded.
    #[error(
        "{file} is a torch pickle, which can run programs when it is loaded and is therefore not; convert it where you trust it: {CONVERSION}"
    )]
    Pickle {
        /// The file.
        file: String,
    },
    /// A file without a header whose length does not follow from what describes it.
    #[error(
        "{file} has {got_bytes} bytes, {expected_bytes} follow from {described_by}; it was cut off or added to: write it again"
    )]
    Length {
        /// The file.
        file: String,
        /// Bytes that it has to have.
        expected_bytes: u64,
        /// Bytes that it has.
        got_bytes: u64,
        /// What says so.
        described_by: String,
    },
    /// Anything else, with its place.
    #[error("{place}: {reason}")]
    Refused {
        /// File and field, row or byte.
        place: String,
        /// What is wrong and what to do.
        reason: String,
    },
}
