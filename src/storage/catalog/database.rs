//! Tables of the catalog, opening it, and the one transaction of a commit.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use thiserror::Error;

use super::backend::MediumBackend;
use crate::base::limits::{CATALOG_CACHE_BYTES, HISTORY_COMMITS_MAX};
use crate::format::{
    CommitRecord, DeletedRecord, Manifest, RecordError, SegmentRecord, SourceRecord, StoreRecord,
    open_record, seal_record,
};
use crate::storage::medium::RandomFile;

/// File name of the catalog.
pub const CATALOG_NAME: &str = "catalog.redb";

const STORE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("store");
const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("segments");
const DELETED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("deleted");
const SOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sources");
const COMMITS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commits");
const STORE_KEY: &str = "store";

/// A catalog that cannot be opened, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// redb failed; the medium is at fault, or the file is damaged.
    #[error("catalog.redb cannot be {operation}: {reason}")]
    Database {
        /// `opened`, `read` or `written`.
        operation: &'static str,
        /// What redb said.
        reason: String,
    },
    /// The file is damaged.
    #[error(
        "catalog.redb is damaged: {reason}; the committed rows are still in the manifest: copy the store, then run \"ascribe repair\" on it"
    )]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// Whether the file is damaged could not be found out.
    #[error("catalog.redb was not closed cleanly and could not be checked: {reason}; try again")]
    NotChecked {
        /// Why.
        reason: String,
    },
    /// A record is damaged.
    #[error("record {key} of table {table} in catalog.redb is damaged: {source}; run \"ascribe repair\"")]
    Record {
        /// Table.
        table: &'static str,
        /// Key of the record.
        key: String,
        /// What is wrong.
        source: RecordError,
    },
}

pub(super) fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CATALOG_CACHE_BYTES);
    builder
}

fn failed(operation: &'static str) -> impl Fn(redb::Error) -> CatalogError {
    move |error| CatalogError::Database { operation, reason: error.to_string() }
}

impl From<redb::DatabaseError> for CatalogError {
    fn from(error: redb::DatabaseError) -> Self {
        Self::Database { operation: "opened", reason: error.to_string() }
    }
}

/// The catalog of a store open for writing.
pub(crate) struct Catalog {
    database: Database,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Catalog")
    }
}

impl Catalog {
    /// Opens the catalog in `file`, or makes one there if the file is empty. `trusted` says that its bytes are those
    /// of the last clean close; otherwise every page is checked.
    ///
    /// # Errors
    /// The file is damaged or the medium fails.
    pub(crate) fn open(file: Arc<dyn RandomFile>, trusted: bool) -> Result<Self, CatalogError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = builder().create_with_backend(MediumBackend(file))?;
            let mut catalog = Self::from_database(database);
            if !trusted {
                catalog.check_integrity()?;
            }
            Ok(catalog)
        }));
        opened
            .unwrap_or_else(|_| Err(CatalogError::Damaged { reason: "its pages cannot be read".to_owned() }))
    }

    pub(super) fn from_database(database: Database) -> Self {
        Self { database }
    }

    /// Verifies every page, and mends what a crash left behind.
    pub(super) fn check_integrity(&mut self) -> Result<(), CatalogError> {
        self.database
            .check_integrity()
            .map(|_| ())
            .map_err(|error| CatalogError::Damaged { reason: error.to_string() })
    }

    /// The committed state; `None` if nothing was ever committed.
    ///
    /// # Errors
    /// A record is damaged.
    pub(crate) fn state(&self) -> Result<Option<Manifest>, CatalogError> {
        catch_unwind(AssertUnwindSafe(|| read_state(self)))
            .unwrap_or_else(|_| Err(CatalogError::Damaged { reason: "its pages cannot be read".to_owned() }))
    }

    /// Commits what differs between two states, durably, in one transaction.
    ///
    /// # Errors
    /// The transaction failed. Whether it took effect is known only after opening the catalog again.
    pub(crate) fn commit(&self, before: Option<&Manifest>, after: &Manifest) -> Result<(), CatalogError> {
        let committed = catch_unwind(AssertUnwindSafe(|| {
            let mut transaction =
                self.database.begin_write().map_err(|error| failed("written")(error.into()))?;
            transaction.set_quick_repair(true);
            write_changes(&transaction, before, after)?;
            transaction.commit().map_err(|error| failed("written")(error.into()))
        }));
        committed.unwrap_or_else(|_| {
            Err(CatalogError::Damaged { reason: "its pages cannot be written".to_owned() })
        })
    }

    /// Closes the catalog, after which its bytes no longer change.
    ///
    /// # Errors
    /// The medium fails.
    pub(crate) fn close(self) -> Result<(), CatalogError> {
        let closed = catch_unwind(AssertUnwindSafe(|| self.database.close().map_err(CatalogError::from)));
        closed.unwrap_or_else(|_| Err(CatalogError::Damaged { reason: "it cannot be closed".to_owned() }))
    }
}

fn seal<T: bincode::Encode>(table: &'static str, key: &str, record: &T) -> Result<Vec<u8>, CatalogError> {
    seal_record(record).map_err(|source| CatalogError::Record { table, key: key.to_owned(), source })
}

/// Writes the records of `after` that `before` lacks or has otherwise, and takes away those it no longer has.
fn write_changes(
    transaction: &WriteTransaction,
    before: Option<&Manifest>,
    after: &Manifest,
) -> Result<(), CatalogError> {
    let table_error = |error: TableError| failed("written")(error.into());
    let storage_error = |error: redb::StorageError| failed("written")(error.into());
    let mut store = transaction.open_table(STORE).map_err(table_error)?;
    store.insert(STORE_KEY, seal("store", STORE_KEY, &after.store)?.as_slice()).map_err(storage_error)?;
    let mut commits = transaction.open_table(COMMITS).map_err(table_error)?;
    let sequence = after.last.commit.0;
    commits
        .insert(sequence, seal("commits", &sequence.to_string(), &after.last)?.as_slice())
        .map_err(storage_error)?;
    if let Some(expired) = sequence.checked_sub(HISTORY_COMMITS_MAX) {
        commits.remove(expired).map_err(storage_error)?;
    }
    let empty = Vec::new();
    let segments = |state: &Manifest| -> BTreeMap<u64, SegmentRecord> {
        state.segments.iter().map(|record| (record.id.0, record.clone())).collect()
    };
    let deleted = |state: &Manifest| -> BTreeMap<u64, DeletedRecord> {
        state.deleted.iter().map(|record| (record.segment.0, record.clone())).collect()
    };
    let mut table = transaction.open_table(SEGMENTS).map_err(table_error)?;
    write_numbered(&mut table, "segments", &before.map(segments).unwrap_or_default(), &segments(after))?;
    let mut table = transaction.open_table(DELETED).map_err(table_error)?;
    write_numbered(&mut table, "deleted", &before.map(deleted).unwrap_or_default(), &deleted(after))?;
    let old_sources = before.map_or(&empty, |state| &state.sources);
    let mut table = transaction.open_table(SOURCES).map_err(table_error)?;
    for source in after.sources.iter().filter(|source| !old_sources.contains(source)) {
        let bytes = seal("sources", &source.path, source)?;
        table.insert(source.path.as_str(), bytes.as_slice()).map_err(storage_error)?;
    }
    let is_gone = |source: &&SourceRecord| !after.sources.iter().any(|kept| kept.path == source.path);
    for source in old_sources.iter().filter(is_gone) {
        table.remove(source.path.as_str()).map_err(storage_error)?;
    }
    Ok(())
}

fn write_numbered<T: bincode::Encode + PartialEq>(
    table: &mut redb::Table<'_, u64, &[u8]>,
    name: &'static str,
    before: &BTreeMap<u64, T>,
    after: &BTreeMap<u64, T>,
) -> Result<(), CatalogError> {
    let storage_error = |error: redb::StorageError| failed("written")(error.into());
    for (number, record) in after {
        if before.get(number) != Some(record) {
            let bytes = seal(name, &number.to_string(), record)?;
            table.insert(number, bytes.as_slice()).map_err(storage_error)?;
        }
    }
    for number in before.keys().filter(|number| !after.contains_key(number)) {
        table.remove(number).map_err(storage_error)?;
    }
    Ok(())
}

pub(super) fn read_state(catalog: &Catalog) -> Result<Option<Manifest>, CatalogError> {
    let storage_error = |error: redb::StorageError| failed("read")(error.into());
    let transaction = catalog.database.begin_read().map_err(|error| failed("read")(error.into()))?;
    let store = match transaction.open_table(STORE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed("read")(error.into())),
    };
    let Some(bytes) = store.get(STORE_KEY).map_err(storage_error)? else { return Ok(None) };
    let store: StoreRecord = open_record(bytes.value()).map_err(|source| CatalogError::Record {
        table: "store",
        key: STORE_KEY.to_owned(),
        source,
    })?;
    let segments = read_numbered::<SegmentRecord>(&transaction, SEGMENTS, "segments", None)?;
    let deleted = read_numbered::<DeletedRecord>(&transaction, DELETED, "deleted", None)?;
    let last = read_numbered::<CommitRecord>(&transaction, COMMITS, "commits", Some(store.commit.0))?;
    let last = last.into_iter().next().ok_or_else(|| CatalogError::Damaged {
        reason: format!("the description of commit {} is missing", store.commit),
    })?;
    let table = transaction.open_table(SOURCES).map_err(|error| failed("read")(error.into()))?;
    let mut sources = Vec::new();
    for entry in table.iter().map_err(storage_error)? {
        let (path, bytes) = entry.map_err(storage_error)?;
        let record: SourceRecord = open_record(bytes.value()).map_err(|source| CatalogError::Record {
            table: "sources",
            key: path.value().to_owned(),
            source,
        })?;
        sources.push(record);
    }
    let state = Manifest { store, segments, deleted, sources, last };
    state.check().map_err(|error| CatalogError::Damaged { reason: error.to_string() })?;
    Ok(Some(state))
}

/// Records of a numbered table in ascending order; only that of `only` if it is given.
fn read_numbered<T: bincode::Decode<()>>(
    transaction: &redb::ReadTransaction,
    definition: TableDefinition<'_, u64, &[u8]>,
    name: &'static str,
    only: Option<u64>,
) -> Result<Vec<T>, CatalogError> {
    let storage_error = |error: redb::StorageError| failed("read")(error.into());
    let table = transaction.open_table(definition).map_err(|error| failed("read")(error.into()))?;
    let (low, high) = only.map_or((0, u64::MAX), |number| (number, number));
    let mut records = Vec::new();
    for entry in table.range(low..=high).map_err(storage_error)? {
        let (number, bytes) = entry.map_err(storage_error)?;
        let record = open_record(bytes.value()).map_err(|source| CatalogError::Record {
            table: name,
            key: number.value().to_string(),
            source,
        })?;
        records.push(record);
    }
    Ok(records)
}
