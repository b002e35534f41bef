//! What a store holds.

use super::answer::{ColumnStatistics, CurvatureStatistics, IndexStatistics, Statistics};
use super::fit_file::FitHead;
use super::snapshot::Snapshot;
use crate::format::{ColumnKind, ColumnRecord, FORMAT_VERSION, SumsKind, manifest_name};
use crate::storage::{CATALOG_NAME, Storage, open_curvature_file, sums_file_name};

impl Snapshot {
    /// Rows, segments, columns and bytes of this state.
    ///
    /// # Complexity
    /// O(segments x columns).
    pub fn statistics(&self) -> Statistics {
        let state = &self.inner.state;
        let mut statistics = Statistics {
            rows: self.row_count(),
            deleted_rows: self.inner.segments.iter().map(|view| view.deleted.len()).sum(),
            segments: self.inner.segments.len(),
            bytes_on_disk: 0,
            bytes_mapped: 0,
            bytes_heap: 0,
            fields: state.store.fields.clone(),
            embeddings: Vec::new(),
            sketches: Vec::new(),
            curvatures: Vec::new(),
            index: IndexStatistics::default(),
            commit: self.commit(),
            commit_unix_ms: state.last.unix_ms,
            commit_operation: state.last.operation.clone(),
            format_version: FORMAT_VERSION,
        };
        for view in &self.inner.segments {
            let files = std::iter::once(view.segment.rows.file())
                .chain(view.segment.columns().map(|column| column.file()));
            for file in files {
                statistics.bytes_on_disk += file.length();
                statistics.bytes_heap += file.heap_bytes();
                statistics.bytes_mapped += if file.is_mapped() { file.length() } else { 0 };
            }
        }
        self.add_indexes(&mut statistics);
        let storage = self.inner.context.storage.as_ref();
        for name in [CATALOG_NAME.to_owned(), manifest_name(self.commit())] {
            statistics.bytes_on_disk += file_length(storage, &name);
        }
        for column in &state.store.columns {
            let own = self.column_statistics(column);
            match &column.kind {
                ColumnKind::Embedding(encoder) => {
                    // Only recorded: its file is opened when a text is asked about, and only then compared.
                    let length = encoder.state.map_or(0, |file| file.length);
                    statistics.bytes_on_disk = statistics.bytes_on_disk.saturating_add(length);
                    statistics.embeddings.push(own);
                }
                ColumnKind::Sketch { head, .. } => {
                    let length = head.as_ref().map_or(0, |head| head.file.length);
                    statistics.bytes_on_disk = statistics.bytes_on_disk.saturating_add(length);
                    statistics.sketches.push(own);
                }
            }
        }
        self.add_curvatures(&mut statistics);
        statistics
    }

    fn add_indexes(&self, statistics: &mut Statistics) {
        let storage = self.inner.context.storage.as_ref();
        for view in &self.inner.segments {
            let segment = &view.segment;
            for column in segment.columns().map(|file| file.header().column) {
                let (index, graph) = (segment.index(storage, column), segment.graph(storage, column));
                let files =
                    index.iter().map(|index| index.file()).chain(graph.iter().map(|graph| graph.file()));
                for file in files {
                    statistics.bytes_on_disk += file.length();
                    statistics.bytes_heap += file.heap_bytes();
                    statistics.bytes_mapped += if file.is_mapped() { file.length() } else { 0 };
                }
                if let Some(index) = index {
                    statistics.index.files += 1;
                    statistics.index.rows += u64::from(index.header().row_count);
                    statistics.index.bytes += index.file().length();
                }
                if let Some(graph) = graph {
                    let graphs = statistics.index.graphs.get_or_insert_default();
                    graphs.add(graph.head(), graph.row_count(), graph.file().length());
                }
                for kind in SumsKind::ALL {
                    statistics.bytes_on_disk +=
                        file_length(storage, &sums_file_name(segment.record.id, column, kind));
                }
                statistics.index.damaged += usize::from(segment.indexes.is_damaged(column));
                statistics.index.damaged_graphs += usize::from(segment.graphs.is_damaged(column));
            }
        }
    }

    fn add_curvatures(&self, statistics: &mut Statistics) {
        let state = &self.inner.state;
        for curvature in &state.store.curvatures {
            let column = state.store.columns.iter().find(|column| column.id == curvature.column);
            let storage = self.inner.context.storage.as_ref();
            let opened = open_curvature_file(storage, curvature.version, curvature.column, curvature.file);
            let head = opened.and_then(|file| FitHead::read(&file)).ok();
            statistics.bytes_on_disk = statistics.bytes_on_disk.saturating_add(curvature.file.length);
            statistics.curvatures.push(CurvatureStatistics {
                version: curvature.version,
                column: column.map(|column| column.name.clone()).unwrap_or_default(),
                kind: curvature.kind.clone(),
                form: curvature.form.clone(),
                rows: curvature.rows,
                zero_rows: head.map(|head| head.zero_rows),
                bytes: curvature.file.length,
                commit: curvature.commit,
            });
        }
    }

    fn column_statistics(&self, column: &ColumnRecord) -> ColumnStatistics {
        let (mut rows, mut bytes) = (0, 0);
        for view in &self.inner.segments {
            if let Some(file) = view.segment.column(column.id) {
                rows += view.live_rows();
                bytes += file.file().length();
            }
        }
        let (encoder, fingerprint) = match &column.kind {
            ColumnKind::Embedding(record) => (Some(record.specification.clone()), record.fingerprint),
            ColumnKind::Sketch { fingerprint, .. } => (None, Some(*fingerprint)),
        };
        ColumnStatistics {
            name: column.name.clone(),
            encoder,
            fingerprint,
            element: column.element,
            width: column.width as usize,
            rows,
            bytes,
        }
    }
}

/// Length of a file, 0 where it is missing: only for showing.
fn file_length(storage: &dyn Storage, name: &str) -> u64 {
    storage.open(name).map_or(0, |file| file.len())
}
