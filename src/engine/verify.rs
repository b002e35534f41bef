//! Checking every file of a store, one after the other, without stopping at the first damage.

use std::collections::HashMap;
use std::sync::Arc;

use super::answer::{Problem, VerifyReport};
use super::encoders::EncoderError;
use super::options::Watch;
use super::segment::{SketchSchemas, check_column_type, read_schemas};
use super::store::OpenError;
use crate::base::{RowId, RowSet, key_hash};
use crate::curvature::MemberGradients;
use crate::encoder::{
    Device, Encoder, EncoderSpecification, HashedEncoder, LoadError, load_state, uses_devices,
};
use crate::format::{
    ColumnHeader, ColumnKind, ColumnRecord, CurvatureRecord, Encoding, FileRecord, IndexHeader, Manifest,
    SegmentRecord, SumsHeader, SumsKind, manifest_name, segment_deletes,
};
use crate::kernels::first_non_finite;
use crate::storage::{
    CATALOG_NAME, CatalogCheck, ColumnFile, FileError, GraphFile, IndexFile, PublishedError, RowFile,
    SealedFile, Storage, SumsFile, encoder_state_section, open_curvature_file, open_encoder_file,
    pin_current, read_encoder_state,
};

/// Rows whose values are checked at once.
const CHECK_ROWS: u32 = 1024;

/// What to do about a damaged index or graph.
const QUERIES_REMEDY: &str = "nothing is lost, queries do without it: remove this file, and the next command that writes to the store builds it anew";

/// What to do about damaged sums of gradients.
const FITS_REMEDY: &str =
    "nothing is lost, fits do without it: remove this file, and the next \"ascribe fit\" makes it anew";

/// Checks the published state of a store: the manifest, and header, footer and length of every file. With `deep` also
/// every checksum, every cross-reference between keys, indexes, fields and columns, that no key is live twice, that all
/// values are finite, and (unless another process writes) the catalog.
///
/// # Errors
/// There is no store, it cannot be read at all, or the work was cancelled. Damage is no error: it is in the report.
///
/// # Complexity
/// O(segments); with `deep` every byte is read once, and a hash of every key is held in memory.
pub fn verify(
    storage: &Arc<dyn Storage>,
    deep: bool,
    check: &dyn CatalogCheck,
    watch: Watch<'_>,
) -> Result<VerifyReport, OpenError> {
    let mut report = VerifyReport::default();
    let (manifest, _pin) = match pin_current(storage) {
        Ok(pinned) => pinned,
        Err(error @ (PublishedError::NotAStore { .. } | PublishedError::Busy { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            report.problems.push(Problem { place: storage.describe("CURRENT"), message: error.to_string() });
            return Ok(report);
        }
    };
    report.commit = Some(manifest.store.commit);
    report.files += 2;
    let total = manifest.segments.iter().map(|segment| 1 + segment.columns.len() as u64).sum();
    watch.progress.begin("verify", "files", Some(total));
    let schemas = read_schemas(&manifest.store.columns, &SketchSchemas::new()).unwrap_or_else(|reason| {
        let place = storage.describe(&manifest_name(manifest.store.commit));
        report.problems.push(Problem { place, message: reason });
        SketchSchemas::new()
    });
    let keys = HashMap::new();
    let mut verification =
        Verification { storage, manifest: &manifest, schemas, deep, report, keys, done: 0 };
    for segment in &manifest.segments {
        if watch.cancel.is_cancelled() {
            return Err(OpenError::Cancelled);
        }
        verification.segment(segment, watch);
    }
    manifest.store.columns.iter().for_each(|column| verification.encoder(column));
    manifest.store.curvatures.iter().for_each(|curvature| verification.curvature(curvature, watch));
    if deep {
        verification.catalog(check);
    }
    watch.progress.end();
    Ok(verification.report)
}

struct Verification<'a> {
    storage: &'a Arc<dyn Storage>,
    manifest: &'a Manifest,
    schemas: SketchSchemas,
    deep: bool,
    report: VerifyReport,
    /// Segment of each live key, by the key's hash.
    keys: HashMap<u64, Vec<(usize, RowId)>>,
    done: u64,
}

impl Verification<'_> {
    fn problem(&mut self, place: impl Into<String>, message: impl ToString) {
        self.report.problems.push(Problem { place: place.into(), message: message.to_string() });
    }

    fn file_problem(&mut self, place: &str, error: &FileError) {
        self.problem(self.storage.describe(place), error);
    }

    fn checked(&mut self, file: &SealedFile, watch: Watch<'_>) {
        self.report.files += 1;
        self.report.bytes += if self.deep { file.length() } else { 0 };
        self.done += 1;
        watch.progress.advance(self.done);
    }

    fn segment(&mut self, record: &SegmentRecord, watch: Watch<'_>) {
        let storage = Arc::clone(self.storage);
        let name = crate::storage::row_file_name(record.id);
        let deleted = match segment_deletes(self.manifest, record) {
            Ok(deleted) => deleted,
            Err(error) => {
                self.problem(format!("deleted rows of segment {}", record.id), error);
                RowSet::new()
            }
        };
        match RowFile::open(storage.as_ref(), record.id, record.row_count, record.rows) {
            Err(error) => self.file_problem(&name, &error),
            Ok(rows) => {
                self.checked(rows.file(), watch);
                if self.deep {
                    let checked = rows
                        .verify(&self.manifest.store.fields)
                        .and_then(|()| self.live_keys(record, &rows, &deleted));
                    if let Err(error) = checked {
                        self.file_problem(&name, &error);
                    }
                }
            }
        }
        for column in &record.columns {
            let name = crate::storage::column_file_name(record.id, column.column);
            let opened =
                ColumnFile::open(storage.as_ref(), record.id, column.column, record.row_count, column.file);
            match opened {
                Err(error) => self.file_problem(&name, &error),
                Ok(file) => {
                    self.checked(file.file(), watch);
                    let schema = check_column_type(&file, &self.manifest.store.columns, &self.schemas);
                    let values = if self.deep { check_values(&file) } else { Ok(()) };
                    if let Err(error) = schema.and(values) {
                        self.file_problem(&name, &error);
                    }
                    match file.header().encoding {
                        Encoding::Sketch => self.sums(&file, column.file, watch),
                        _ => self.derived(&file, column.file, watch),
                    }
                }
            }
        }
    }

    /// An index and a graph may be missing, but what is there must be whole and belong to its column.
    fn derived(&mut self, column: &ColumnFile, origin: FileRecord, watch: Watch<'_>) {
        let ColumnHeader { segment, row_count, column, width, .. } = *column.header();
        let header = IndexHeader { segment, row_count, column, width };
        let storage = Arc::clone(self.storage);
        let index = IndexFile::open(storage.as_ref(), &header, origin);
        let index_name = crate::storage::index_file_name(segment, column);
        let index = index.as_ref().map(|file| file.as_ref().map(IndexFile::file));
        self.derived_file(&index_name, index, QUERIES_REMEDY, watch);
        let graph = GraphFile::open(storage.as_ref(), &header, origin);
        let graph_name = crate::storage::graph_file_name(segment, column);
        let graph = graph.as_ref().map(|file| file.as_ref().map(GraphFile::file));
        self.derived_file(&graph_name, graph, QUERIES_REMEDY, watch);
    }

    /// The same of sums of gradients.
    fn sums(&mut self, column: &ColumnFile, origin: FileRecord, watch: Watch<'_>) {
        let header = column.header();
        // Without a schema the column itself was found to be wrong.
        let Some(schema) = self.schemas.get(&header.column) else { return };
        let parameters = MemberGradients::empty(schema.layout()).parameters();
        let storage = Arc::clone(self.storage);
        for kind in SumsKind::ALL {
            let expected = SumsHeader::of_column(header, kind, parameters);
            let mut opened = SumsFile::open(storage.as_ref(), &expected, origin);
            if let (true, Ok(Some(file))) = (self.deep, &opened)
                && let Err(error) = file.verify()
            {
                opened = Err(error);
            }
            let name = crate::storage::sums_file_name(header.segment, header.column, kind);
            let opened = opened.as_ref().map(|file| file.as_ref().map(SumsFile::file));
            self.derived_file(&name, opened, FITS_REMEDY, watch);
        }
    }

    fn derived_file(
        &mut self,
        name: &str,
        opened: Result<Option<&SealedFile>, &FileError>,
        remedy: &str,
        watch: Watch<'_>,
    ) {
        let error = match opened {
            Ok(None) => return,
            Ok(Some(file)) => match if self.deep { file.verify() } else { Ok(()) } {
                Ok(()) => return self.checked(file, watch),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.problem(self.storage.describe(name), format!("{error} ({remedy})"));
    }

    /// No key may be live twice.
    fn live_keys(
        &mut self,
        record: &SegmentRecord,
        rows: &RowFile,
        deleted: &RowSet,
    ) -> Result<(), FileError> {
        let position = self.manifest.segments.iter().position(|segment| segment.id == record.id).unwrap_or(0);
        for row in (0..record.row_count).map(RowId).filter(|row| !deleted.contains(*row)) {
            let key = rows.key(row)?;
            self.report.rows += 1;
            let others = self.keys.entry(key_hash(key)).or_default();
            others.push((position, row));
            // Equal hashes are rare: only then are the keys themselves compared.
            for &(other_position, other_row) in &others[..others.len() - 1] {
                let other = &self.manifest.segments[other_position];
                let other_rows = RowFile::open(self.storage.as_ref(), other.id, other.row_count, other.rows)?;
                if other_rows.key(other_row)? == key {
                    let reason = format!("key {key:?} is live in segment {} too", other.id);
                    return Err(rows.file().content_error(reason));
                }
            }
        }
        Ok(())
    }

    fn curvature(&mut self, curvature: &CurvatureRecord, watch: Watch<'_>) {
        let name = crate::storage::curvature_file_name(curvature.version);
        let storage = self.storage.as_ref();
        let opened = open_curvature_file(storage, curvature.version, curvature.column, curvature.file);
        match opened {
            Err(error) => self.file_problem(&name, &error),
            Ok(file) => {
                self.checked(&file, watch);
                if self.deep
                    && let Err(error) = file.verify()
                {
                    self.file_problem(&name, &error);
                }
            }
        }
    }

    fn encoder(&mut self, column: &ColumnRecord) {
        let ColumnKind::Embedding(record) = &column.kind else { return };
        let (Some(fingerprint), Some(state)) = (record.fingerprint, record.state) else { return };
        self.report.files += 1;
        let place = crate::storage::encoder_file_name(column.id, &fingerprint);
        let opened = open_encoder_file(self.storage.as_ref(), column.id, &fingerprint, state);
        let file = match opened.and_then(|file| file.verify().map(|()| Arc::new(file))) {
            Ok(file) => file,
            Err(error) => return self.file_problem(&place, &error),
        };
        // Only now is the recorded length known to be that of the file.
        self.report.bytes += state.length;
        let made = match EncoderSpecification::parse(&record.specification) {
            Ok(EncoderSpecification::Hashed { .. }) => read_encoder_state(&file).map(|bytes| {
                HashedEncoder::from_bytes(bytes)
                    .map(|encoder| encoder.fingerprint())
                    .map_err(|error| error.to_string())
            }),
            // An encoder of the program may have left a state that only the program understands.
            _ if !uses_devices(&record.specification) => return,
            _ => encoder_state_section(&file).and_then(|section| file.share(section)).map(|bytes| {
                match load_state(&record.specification, bytes, Device::Cpu) {
                    Ok(encoder) => Ok(encoder.fingerprint()),
                    // Its checksums are right; what it holds is for a build that knows it.
                    Err(LoadError::NotBuilt { .. }) => Ok(fingerprint),
                    Err(error) => Err(error.to_string()),
                }
            }),
        };
        let problem = match made {
            Ok(Ok(found)) if found == fingerprint => return,
            Ok(Ok(_)) => "its fingerprint is another one".to_owned(),
            Ok(Err(reason)) => reason,
            Err(error) => return self.file_problem(&place, &error),
        };
        let error = EncoderError::State { column: column.name.clone(), reason: problem };
        self.problem(self.storage.describe(&place), error);
    }

    /// The catalog belongs to the writer: it is checked only while nobody writes.
    fn catalog(&mut self, check: &dyn CatalogCheck) {
        let bytes = match crate::storage::read_idle_catalog(self.storage.as_ref()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => {
                return self.problem(self.storage.describe(CATALOG_NAME), error);
            }
        };
        self.report.catalog = true;
        self.report.files += 1;
        self.report.bytes += bytes.len() as u64;
        let place = self.storage.describe(CATALOG_NAME);
        match check.check(bytes) {
            Err(error) => self.problem(place, error),
            Ok(None) => self.problem(place, "it holds no commit; run \"ascribe repair\""),
            Ok(Some(state))
                if state.store.commit == self.manifest.store.commit && state != *self.manifest =>
            {
                self.problem(place, "its records differ from the manifest's; run \"ascribe repair\"");
            }
            Ok(Some(state)) if state.store.commit < self.manifest.store.commit => {
                self.problem(place, "it is older than the manifest; run \"ascribe repair\"");
            }
            Ok(Some(_)) => {}
        }
    }
}

/// Every checksum of a column file, and that its values and scales are finite.
fn check_values(file: &ColumnFile) -> Result<(), FileError> {
    file.verify()?;
    let rows = file.header().row_count;
    for first in (0..rows).step_by(CHECK_ROWS as usize) {
        let count = CHECK_ROWS.min(rows - first);
        let values = file.values(RowId(first), count)?;
        let scales = file.scales(RowId(first), count)?.unwrap_or_default();
        let bad = first_non_finite(file.element(), values).map(|index| index / file.width());
        let bad = bad.or_else(|| first_non_finite(crate::base::ElementType::F32, scales));
        if let Some(row) = bad {
            let reason = format!("row {} has a value that is not finite", first as usize + row);
            return Err(file.file().content_error(reason));
        }
    }
    Ok(())
}
