//! Vectors of a matrix to the column file of a new segment, on a thread of their own.

use std::thread::{Scope, ScopedJoinHandle};

use super::batch::BatchError;
use super::options::Watch;
use super::write::{append_values, embedding_header};
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::base::{Cancel, SegmentId};
use crate::format::{ColumnRecord, SegmentColumnRecord};
use crate::kernels::first_non_finite;
use crate::sources::{Matrix, Place, SourceError};
use crate::storage::{ColumnFileWriter, FileError, Storage};

/// Vectors that did not become a column file.
#[derive(Debug)]
pub(super) enum MatrixColumnError {
    /// A value is refused, or the file cannot be written.
    Batch(BatchError),
    /// The matrix cannot be read.
    Source(SourceError),
    /// The work was cancelled or given up.
    Cancelled,
    /// The thread panicked, which is a bug.
    Lost,
}

impl From<FileError> for MatrixColumnError {
    fn from(error: FileError) -> Self {
        Self::Batch(error.into())
    }
}

/// Vectors, the column that takes them, and who may stop writing.
pub(super) struct MatrixColumn<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) matrix: Matrix<'a>,
    pub(super) column: ColumnRecord,
    pub(super) watch: Watch<'a>,
    /// Set where the work is given up for another reason than the user's wish.
    pub(super) abandoned: Cancel,
}

/// A column file that a thread is writing.
pub(super) struct Writing<'scope> {
    pub(super) segment: SegmentId,
    thread: ScopedJoinHandle<'scope, Result<SegmentColumnRecord, MatrixColumnError>>,
}

impl Writing<'_> {
    /// Waits for the file.
    pub(super) fn finish(self) -> Result<SegmentColumnRecord, MatrixColumnError> {
        self.thread.join().unwrap_or(Err(MatrixColumnError::Lost))
    }
}

impl MatrixColumn<'_> {
    /// Begins to write the file of `segment`, whose row i is row `rows[i]` of the matrix.
    pub(super) fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        segment: SegmentId,
        rows: Vec<usize>,
    ) -> Writing<'scope> {
        Writing { segment, thread: scope.spawn(move || self.write(segment, &rows)) }
    }

    fn is_stopped(&self) -> bool {
        self.watch.cancel.is_cancelled() || self.abandoned.is_cancelled()
    }

    /// Rows that stand together and have the column's element type go to the file as they are, after a check for values
    /// that are not finite.
    fn write(&self, segment: SegmentId, rows: &[usize]) -> Result<SegmentColumnRecord, MatrixColumnError> {
        let Self { matrix, column, .. } = self;
        let header = embedding_header(segment, column, rows.len() as u32);
        let mut writer = ColumnFileWriter::create(self.storage, header, &[])?;
        let mut values = Vec::new();
        let mut done = 0;
        while done < rows.len() {
            if self.is_stopped() {
                return Err(MatrixColumnError::Cancelled);
            }
            let first = rows[done];
            let run = rows[done..]
                .iter()
                .zip(first..)
                .take(SCAN_CHUNK_ROWS as usize)
                .take_while(|(row, expected)| **row == *expected)
                .count();
            let place = |row: usize| matrix_place(matrix, first + row);
            let raw = matrix.raw_rows(first..first + run).filter(|_| matrix.element() == column.element);
            match raw {
                Some(bytes) => {
                    if let Some(index) = first_non_finite(column.element, bytes) {
                        return Err(MatrixColumnError::Batch(not_finite(column, index, &place)));
                    }
                    writer.append(bytes, &[])?;
                }
                None => {
                    matrix.read_rows(first, run, &mut values).map_err(MatrixColumnError::Source)?;
                    append_values(&mut writer, column, &values, 0, &place)
                        .map_err(MatrixColumnError::Batch)?;
                }
            }
            done += run;
            self.watch.progress.advance(done as u64);
        }
        Ok(SegmentColumnRecord { column: column.id, file: writer.finish()? })
    }
}

/// Where a row of a matrix stands.
pub(super) fn matrix_place(matrix: &Matrix<'_>, row: usize) -> Place {
    Place { input: matrix.name().to_owned(), unit: "row", number: row as u64 + 1 }
}

fn not_finite(column: &ColumnRecord, index: usize, place: &dyn Fn(usize) -> Place) -> BatchError {
    let width = column.width as usize;
    BatchError::Value {
        place: place(index / width),
        column: column.name.clone(),
        index: index % width,
        reason: "is NaN or infinite; correct it at its source".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{
        ColumnDefinition, CreateOptions, Import, ImportError, ImportReport, OnDuplicate, OpenOptions, Query,
        QueryInput, Store,
    };
    use super::*;
    use crate::encoder::EncoderSpecification;
    use crate::sources::{FieldNames, InputFormat, from_reader};

    const WIDTH: usize = 2;

    fn npy(rows: &[[f32; WIDTH]]) -> Vec<u8> {
        let header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {WIDTH}), }}\n", rows.len());
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    fn create(path: &Path) -> Store {
        let columns = vec![ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH })];
        let create = CreateOptions { columns, ..CreateOptions::default() };
        Store::create_at(path, create, OpenOptions::default()).unwrap()
    }

    fn import(
        store: &mut Store,
        keys: &[&str],
        rows: &[[f32; WIDTH]],
        on_duplicate: OnDuplicate,
    ) -> Result<ImportReport, ImportError> {
        let lines: String = keys.iter().map(|key| format!("{{\"key\":\"{key}\"}}\n")).collect();
        let input = std::io::Cursor::new(lines);
        let mut source =
            from_reader(input, "keys", InputFormat::JsonLines, &FieldNames::of_keys_file()).unwrap();
        let bytes = npy(rows);
        let embeddings = Some(Matrix::from_npy(&bytes, "rows.npy").unwrap());
        let import = Import {
            keys: source.as_mut(),
            metadata: None,
            embeddings,
            sketches: None,
            column: None,
            on_duplicate,
        };
        store.import(import, Watch::silent(&Cancel::new()))
    }

    /// Keys in the order of their first value, highest first.
    fn ranked(store: &Store) -> Vec<(String, f64)> {
        let query = Query::new(QueryInput::Vector(vec![1.0, 0.0]));
        let answer = store.snapshot().query(&query, &Cancel::new()).unwrap();
        answer.proponents.into_iter().map(|hit| (hit.key, hit.score)).collect()
    }

    fn expected(rows: &[(&str, f64)]) -> Vec<(String, f64)> {
        rows.iter().map(|(key, score)| ((*key).to_owned(), *score)).collect()
    }

    #[test]
    fn vectors_stand_by_their_keys_whatever_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = create(&folder.path().join("store"));
        import(&mut store, &["a", "b"], &[[5.0, 0.0], [4.0, 0.0]], OnDuplicate::Error).unwrap();
        let rows = [[9.0, 0.0], [3.0, 0.0], [8.0, 0.0], [2.0, 0.0]];
        let report = import(&mut store, &["a", "c", "b", "d"], &rows, OnDuplicate::Skip).unwrap();
        assert_eq!((report.rows, report.rows_skipped), (2, 2));
        assert_eq!(ranked(&store), expected(&[("a", 5.0), ("b", 4.0), ("c", 3.0), ("d", 2.0)]));
        let rows = [[7.0, 0.0], [1.0, 0.0], [6.0, 0.0]];
        import(&mut store, &["d", "e", "b"], &rows, OnDuplicate::Replace).unwrap();
        assert_eq!(ranked(&store), expected(&[("d", 7.0), ("b", 6.0), ("a", 5.0), ("c", 3.0), ("e", 1.0)]));
    }

    #[test]
    fn a_refused_import_leaves_no_file_whichever_side_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut store = create(&path);
        import(&mut store, &["a"], &[[1.0, 0.0]], OnDuplicate::Error).unwrap();
        let files = || std::fs::read_dir(path.join("segments")).unwrap().count();
        assert_eq!(files(), 2);
        let (one, bad) = ([2.0, 0.0], [0.0, f32::NAN]);
        for (keys, rows, said) in [
            (&["x", "a"][..], &[one, one][..], "key \"a\" is in the store already"),
            (&["x", "x"], &[one, bad], "key \"x\" came before, at keys, line 1"),
            (&["x"], &[one, one], "rows.npy has 2 rows, keys has 1 keys"),
            (&["x", "y", "z"], &[one, one], "rows.npy has 2 rows, keys has 3 keys"),
            (&["x", ""], &[one, one], "keys, line 2"),
            (&["x", "y"], &[one, bad], "rows.npy, row 2: value 1 of the vector"),
            (&[], &[one], "rows.npy has 1 rows, keys has 0 keys"),
        ] {
            let error = import(&mut store, keys, rows, OnDuplicate::Error).unwrap_err().to_string();
            assert!(error.contains(said) && error.ends_with("; nothing was imported"), "{error}");
            assert_eq!(files(), 2, "{error}");
            assert_eq!(ranked(&store), expected(&[("a", 1.0)]), "{error}");
        }
        import(&mut store, &["x"], &[one], OnDuplicate::Error).unwrap();
        assert_eq!(ranked(&store), expected(&[("x", 2.0), ("a", 1.0)]));
    }

    #[test]
    fn a_wish_to_stop_and_work_given_up_end_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let store = create(&folder.path().join("store"));
        let bytes = npy(&[[1.0, 0.0]]);
        let column = store.ledger.state().store.columns[0].clone();
        for is_user in [true, false] {
            let (cancel, abandoned) = (Cancel::new(), Cancel::new());
            if is_user {
                cancel.cancel()
            } else {
                abandoned.cancel()
            }
            let vectors = MatrixColumn {
                storage: store.context.storage.as_ref(),
                matrix: Matrix::from_npy(&bytes, "rows.npy").unwrap(),
                column: column.clone(),
                watch: Watch::silent(&cancel),
                abandoned,
            };
            let segment = SegmentId(if is_user { 70 } else { 71 });
            let outcome = std::thread::scope(|scope| vectors.start(scope, segment, vec![0]).finish());
            assert!(matches!(outcome, Err(MatrixColumnError::Cancelled)), "{outcome:?}");
        }
    }
}
