//! Small contents with distinctive values.

use std::sync::Arc;

use ascribe::base::{
    ColumnId, CommitSeq, ElementType, FieldDeclaration, FieldType, FieldValue, Fingerprint, RowId, RowSet,
    SegmentId,
};
use ascribe::format::{
    ColumnHeader, ColumnKind, ColumnRecord, CommitRecord, CurvatureRecord, DeletedRecord, EncoderRecord,
    Encoding, FileRecord, HeadRecord, Manifest, ModuleEncoding, SegmentColumnRecord, SegmentRecord,
    SketchModule, SourceRecord, StoreRecord, encode_metadata, metadata_batch, sketch_terms, sketch_width,
};
use ascribe::sketch::{SketchLayout, encode_sketch_rows};
use ascribe::storage::{
    ColumnFileWriter, FileError, RowFileContent, SimulatedStorage, SketchRowsBeside, Storage, Writer,
    write_encoder_file, write_row_file,
};

pub(crate) fn fields() -> Vec<FieldDeclaration> {
    FieldType::ALL.into_iter().map(|kind| FieldDeclaration { name: format!("f-{kind}"), kind }).collect()
}

pub(crate) fn values() -> Vec<Vec<Option<FieldValue>>> {
    vec![
        vec![Some(FieldValue::Text("né".into())), None, Some(FieldValue::Text(String::new()))],
        vec![Some(FieldValue::Integer(-3)), None, Some(FieldValue::Integer(i64::MAX))],
        vec![None, Some(FieldValue::Float(0.5)), Some(FieldValue::Float(-1e300))],
        vec![Some(FieldValue::Boolean(true)), Some(FieldValue::Boolean(false)), None],
        vec![Some(FieldValue::Timestamp(1_000_001)), None, Some(FieldValue::Timestamp(-5))],
    ]
}

pub(crate) fn row_content() -> RowFileContent {
    let texts = |list: [&str; 3]| list.map(str::to_owned).to_vec();
    let batch = metadata_batch(&fields(), &values()).unwrap();
    RowFileContent {
        keys: texts(["alpha", "β-2", "key three"]),
        texts: texts(["the cat sat", "", "naïve"]),
        extras: texts(["{\"lang\":\"en\"}", "", "{\"n\":[1,2]}"]),
        metadata: Some(encode_metadata(&batch).unwrap()),
    }
}

pub(crate) fn modules() -> Vec<SketchModule> {
    let factored = SketchModule {
        name: "layers.0.linear".into(),
        encoding: ModuleEncoding::Factored,
        rank: 2,
        out: 3,
        input: 5,
        terms: 0,
    };
    let shared = SketchModule {
        name: "first".into(),
        encoding: ModuleEncoding::SharedInput,
        rank: 1,
        out: 2,
        input: 6,
        terms: 0,
    };
    let sparse = SketchModule {
        name: "words".into(),
        encoding: ModuleEncoding::Sparse,
        rank: 1,
        out: 4,
        input: 1000,
        terms: 3,
    };
    let dense = SketchModule {
        name: "größe".into(),
        encoding: ModuleEncoding::Dense,
        rank: 0,
        out: 2,
        input: 4,
        terms: 0,
    };
    vec![factored, dense, shared, sparse]
}

/// Distinctive values that every element type holds exactly or nearly.
pub(crate) fn plain_values(count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 37 % 101) as f32 - 50.0) / 32.0).collect()
}

/// Members of the sample of a sketch column.
pub(crate) const MEMBERS: u32 = 2;

pub(crate) fn column_header(
    element: ElementType,
    encoding: Encoding,
    row_count: u32,
    width: u32,
) -> ColumnHeader {
    let column = if encoding == Encoding::Sketch { ColumnId(2) } else { ColumnId(1) };
    let members = if encoding == Encoding::Sketch { MEMBERS } else { 0 };
    ColumnHeader { segment: SegmentId(1), row_count, column, element, encoding, width, members }
}

/// Stored bytes of values and scales, by the engine's own conversion.
pub(crate) fn stored(
    element: ElementType,
    width: usize,
    modules: &[SketchModule],
    values: &[f32],
) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut scales) = (Vec::new(), Vec::new());
    if !modules.is_empty() {
        let layout = SketchLayout::new(modules.to_vec(), MEMBERS).unwrap();
        encode_sketch_rows(element, &layout, values, &mut bytes, &mut scales).unwrap();
    } else if element == ElementType::I8 {
        for row in values.chunks(width) {
            scales.extend_from_slice(&ascribe::kernels::encode_int8(row, &mut bytes).unwrap().to_le_bytes());
        }
    } else {
        ascribe::kernels::encode(element, values, &mut bytes).unwrap();
    }
    (bytes, scales)
}

pub(crate) fn write_column(
    storage: &dyn Storage,
    header: &ColumnHeader,
    modules: &[SketchModule],
    values: &[f32],
) -> Result<FileRecord, FileError> {
    let mut writer = ColumnFileWriter::create(storage, header.clone(), modules)?;
    let width = header.width as usize;
    // In uneven pieces, as batches come.
    for piece in values.chunks(7 * width) {
        let (bytes, scales) = stored(header.element, width, modules, piece);
        writer.append(&bytes, &scales)?;
    }
    let (terms, outcomes) = beside(header, modules);
    writer.append_beside(SketchRowsBeside { terms: &terms, outcomes: &outcomes });
    writer.finish()
}

/// Terms and outcomes of all rows.
pub(crate) fn beside(header: &ColumnHeader, modules: &[SketchModule]) -> (Vec<u8>, Vec<u8>) {
    let rows = u64::from(header.row_count);
    let terms =
        (0..rows * sketch_terms(modules)).flat_map(|at| (at as u32 * 7 % 1000).to_le_bytes()).collect();
    let measured = if modules.is_empty() { 0 } else { rows * (u64::from(header.members) + 2) };
    let outcomes = (0..measured).flat_map(|at| ((at % 8) as f32 / 8.0).to_le_bytes()).collect();
    (terms, outcomes)
}

pub(crate) fn store_record(commit: u64) -> StoreRecord {
    let fingerprint = Some(Fingerprint([0xab; 32]));
    let state = Some(FileRecord { length: 0x0102_0304, root: 0x1112_1314_1516_1718 });
    let encoder = EncoderRecord { specification: "hashed:16".into(), fingerprint, state };
    let embedding = ColumnRecord {
        id: ColumnId(1),
        name: "embedding".into(),
        element: ElementType::I8,
        width: 16,
        kind: ColumnKind::Embedding(encoder),
    };
    let pending = EncoderRecord { specification: "vectors:3".into(), fingerprint: None, state: None };
    let vectors = ColumnRecord {
        id: ColumnId(4),
        name: "given".into(),
        element: ElementType::F32,
        width: 3,
        kind: ColumnKind::Embedding(pending),
    };
    let file = FileRecord { length: 0x28, root: 0x29 };
    let head = HeadRecord { embedding: ColumnId(1), label: "f-text".into(), file };
    let sketch = ColumnRecord {
        id: ColumnId(2),
        name: "sketch".into(),
        element: ElementType::F16,
        width: sketch_width(&modules(), MEMBERS).unwrap(),
        kind: ColumnKind::Sketch {
            schema: "{\"modules\":[]}".into(),
            fingerprint: Fingerprint([0xcd; 32]),
            head: Some(head),
        },
    };
    StoreRecord {
        store: [0x5a; 16],
        commit: CommitSeq(commit),
        next_segment: SegmentId(0x61),
        next_column: ColumnId(0x22),
        next_counter: 0x23,
        fields: fields(),
        columns: vec![embedding, sketch, vectors],
        next_curvature: 0x24,
        curvatures: vec![curvature_record()],
    }
}

fn curvature_record() -> CurvatureRecord {
    CurvatureRecord {
        version: 0x21,
        column: ColumnId(2),
        kind: "margin".into(),
        form: "dual".into(),
        rows: 0x25,
        commit: CommitSeq(6),
        file: FileRecord { length: 0x26, root: 0x27 },
    }
}

pub(crate) fn segment_record() -> SegmentRecord {
    let column =
        |id, length, root| SegmentColumnRecord { column: ColumnId(id), file: FileRecord { length, root } };
    SegmentRecord {
        id: SegmentId(0x31),
        place: SegmentId(0x30),
        row_count: 0x32,
        rows: FileRecord { length: 0x33, root: 0x34 },
        columns: vec![column(1, 0x36, 0x37), column(2, 0x39, 0x3a)],
    }
}

pub(crate) fn deleted_record() -> DeletedRecord {
    let rows: RowSet = [1, 2, 40].into_iter().map(RowId).collect();
    DeletedRecord { segment: SegmentId(0x31), rows: rows.to_bytes() }
}

pub(crate) fn source_record() -> SourceRecord {
    SourceRecord {
        path: "/data/rows.jsonl".into(),
        consumed_bytes: 0x41,
        prefix: Fingerprint([0xef; 32]),
        consumed_records: 0x42,
    }
}

pub(crate) fn commit_record(commit: u64) -> CommitRecord {
    CommitRecord {
        commit: CommitSeq(commit),
        unix_ms: 0x51,
        operation: "ingest".into(),
        rows_added: 0x52,
        rows_deleted: 0x53,
    }
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        store: store_record(7),
        segments: vec![segment_record()],
        deleted: vec![deleted_record()],
        sources: vec![source_record()],
        last: commit_record(7),
    }
}

/// The first state of a store with the columns of [`store_record`] and nothing in it; its encoder file comes with the
/// first segment.
pub(crate) fn first_state() -> Manifest {
    let mut store = StoreRecord { next_segment: SegmentId(1), ..store_record(1) };
    if let ColumnKind::Embedding(encoder) = &mut store.columns[0].kind {
        encoder.state = None;
    }
    if let ColumnKind::Sketch { head, .. } = &mut store.columns[1].kind {
        *head = None;
    }
    store.curvatures.clear();
    let last =
        CommitRecord { operation: "create".into(), rows_added: 0, rows_deleted: 0, ..commit_record(1) };
    Manifest { store, segments: Vec::new(), deleted: Vec::new(), sources: Vec::new(), last }
}

pub(crate) const ENCODER_STATE: &[u8] = b"state of an encoder";

/// As [`try_to_write_segment`], on a medium that works.
pub(crate) fn write_segment(storage: &dyn Storage, before: &Manifest) -> Manifest {
    try_to_write_segment(storage, before).unwrap()
}

/// Writes and syncs the files of segment 1, and gives the state after `before` that names them.
pub(crate) fn try_to_write_segment(storage: &dyn Storage, before: &Manifest) -> Result<Manifest, FileError> {
    let rows = write_row_file(storage, SegmentId(1), &row_content())?;
    let embedding = column_header(ElementType::I8, Encoding::Embedding, 3, 16);
    let embedding = write_column(storage, &embedding, &[], &plain_values(48))?;
    let width = sketch_width(&modules(), MEMBERS).unwrap();
    let sketch = column_header(ElementType::F16, Encoding::Sketch, 3, width);
    let sketch = write_column(storage, &sketch, &modules(), &plain_values(3 * width as usize))?;
    let fingerprint = Fingerprint([0xab; 32]);
    let state = write_encoder_file(storage, ColumnId(1), &fingerprint, ENCODER_STATE)?;
    let columns = vec![
        SegmentColumnRecord { column: ColumnId(1), file: embedding },
        SegmentColumnRecord { column: ColumnId(2), file: sketch },
    ];
    let mut next = before.clone();
    let commit = before.store.commit.0 + 1;
    next.store.commit = CommitSeq(commit);
    next.store.next_segment = SegmentId(2);
    if let ColumnKind::Embedding(encoder) = &mut next.store.columns[0].kind {
        encoder.state = Some(state);
    }
    next.segments.push(SegmentRecord { id: SegmentId(1), place: SegmentId(1), row_count: 3, rows, columns });
    next.deleted.push(DeletedRecord {
        segment: SegmentId(1),
        rows: [RowId(1)].into_iter().collect::<RowSet>().to_bytes(),
    });
    next.sources.push(source_record());
    next.last = commit_record(commit);
    Ok(next)
}

/// A store with one segment, closed cleanly after its second commit.
pub(crate) fn store() -> (SimulatedStorage, Manifest) {
    let storage = SimulatedStorage::new();
    let first = first_state();
    let mut writer = Writer::create(Arc::new(storage.clone()), first.clone()).unwrap();
    let next = write_segment(&storage, &first);
    writer.commit(next.clone()).unwrap();
    (storage, next)
}
