//! Deleting rows by key or predicate.

use thiserror::Error;

use super::store::Store;
use super::transaction::TransactionError;
use crate::base::CommitSeq;
use crate::filter::{FilterError, Predicate};
use crate::storage::FileError;

/// Which rows to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteSelection {
    /// The rows with these keys; all must be there.
    Keys(Vec<String>),
    /// The rows for which this expression over declared fields is true.
    Where(String),
}

/// What a deletion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteReport {
    /// Rows deleted.
    pub rows: u64,
    /// The commit; `None` if no row was selected.
    pub commit: Option<CommitSeq>,
}

/// A deletion that is refused. Nothing was deleted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// A key that is not there.
    #[error("no row has key {key:?}; nothing was deleted")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The expression is refused.
    #[error("{0}; nothing was deleted")]
    Filter(#[from] FilterError),
    /// Files are damaged, or the commit failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl From<FileError> for DeleteError {
    fn from(error: FileError) -> Self {
        Self::Transaction(error.into())
    }
}

impl Store {
    /// Deletes rows in one commit. Their bytes stay in the segment until it is rewritten.
    ///
    /// # Errors
    /// See [`DeleteError`].
    ///
    /// # Complexity
    /// O(segments x log rows) a key; an expression reads its fields of every row.
    pub fn delete(&mut self, selection: &DeleteSelection) -> Result<DeleteReport, DeleteError> {
        let mut transaction = self.begin();
        match selection {
            DeleteSelection::Keys(keys) => {
                for key in keys {
                    let Some((segment, row)) = transaction.base.find(key)? else {
                        return Err(DeleteError::UnknownKey { key: key.clone() });
                    };
                    // The same key given twice deletes once.
                    transaction.delete(segment, row);
                }
            }
            DeleteSelection::Where(expression) => {
                let declared = transaction.base.fields().to_vec();
                let predicate = Predicate::parse(expression, &declared)?;
                let views = transaction.base.inner.segments.clone();
                for (position, view) in views.iter().enumerate() {
                    for row in view.rows_where::<DeleteError>(&predicate, &declared)?.iter() {
                        transaction.delete(position, row);
                    }
                }
            }
        }
        let rows = transaction.rows_deleted();
        if rows == 0 {
            return Ok(DeleteReport { rows, commit: None });
        }
        let commit = self.commit(transaction, "delete")?;
        Ok(DeleteReport { rows, commit: Some(commit) })
    }
}
