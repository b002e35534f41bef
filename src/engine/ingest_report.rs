//! What an ingest tells: each commit, what it did in all, and why it ended early.

use std::fmt;

use thiserror::Error;

use super::batch::BatchError;
use super::transaction::TransactionError;
use crate::base::{CommitSeq, StageCount};
use crate::sources::{Place, SourceError};

/// One commit of an ingest; or none, where all rows of a batch were there already and nothing is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestCommit {
    /// The newest commit.
    pub commit: CommitSeq,
    /// Rows that this ingest has committed so far.
    pub committed: u64,
    /// Key of the last row that is in the store now.
    pub last_key: String,
    /// Rows added since the last one.
    pub rows: u64,
}

/// What an ingest did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Documents read.
    pub rows_read: u64,
    /// Rows added, replacing ones counted.
    pub rows_added: u64,
    /// Rows left out because their key was there already.
    pub rows_skipped: u64,
    /// Rows that took the place of another.
    pub rows_replaced: u64,
    /// Commits made.
    pub commits: u64,
    /// The last commit made.
    pub commit: Option<CommitSeq>,
    /// Whether the work was cancelled before the end of the input.
    pub cancelled: bool,
    /// What each stage did, in the order in which documents pass them.
    pub stages: Vec<StageCount>,
}

/// How far an ingest got before it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Rows committed.
    pub rows: u64,
    /// Where the last of them stood.
    pub place: Option<Place>,
}

impl fmt::Display for Committed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => formatter.write_str("nothing was committed"),
            Some(place) => write!(formatter, "{} rows up to {place} are committed and stay", self.rows),
        }
    }
}

/// An ingest that ended before the end of its input.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The input is refused.
    #[error("{source}; {committed}")]
    Source {
        /// What is wrong with it.
        source: Box<SourceError>,
        /// How far it got.
        committed: Box<Committed>,
    },
    /// A batch is refused.
    #[error("{source}; {committed}")]
    Batch {
        /// What is wrong with it.
        source: Box<BatchError>,
        /// How far it got.
        committed: Box<Committed>,
    },
    /// A commit failed.
    #[error("{source}; {committed}")]
    Commit {
        /// Why.
        source: Box<TransactionError>,
        /// How far it got.
        committed: Box<Committed>,
    },
    /// A thread could not be started or ended without a word.
    #[error("cannot go on with the input: {reason}; {committed}")]
    Thread {
        /// Why.
        reason: String,
        /// How far it got.
        committed: Box<Committed>,
    },
}
