//! Index files: codes, scales, errors and norms of a column's rows, and what they were made from.

use std::sync::Arc;

use ascribe::base::{Cancel, ColumnId, ElementType, RowId, SegmentId};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{ColumnDefinition, CreateOptions, IngestOptions, OpenOptions, Store, Watch};
use ascribe::format::{FileRecord, IndexHeader};
use ascribe::sources::{FieldNames, InputFormat, from_reader};
use ascribe::storage::{IndexFile, IndexFileWriter, SimulatedStorage, Storage};

use super::pages::{cut, table};
use super::sealed::take_apart;

const WIDTH: usize = 33;

fn row(row: usize) -> Vec<f32> {
    (0..WIDTH).map(|value| ((row * 31 + value * 17) % 101) as f32 / 8.0 - 6.0).collect()
}

/// A store of three rows whose one column was indexed.
pub(crate) fn indexed(element: ElementType) -> Arc<SimulatedStorage> {
    let storage = Arc::new(SimulatedStorage::new());
    let columns = vec![ColumnDefinition {
        element,
        ..ColumnDefinition::embedding(EncoderSpecification::Vectors { width: WIDTH })
    }];
    let options = OpenOptions { index_rows_min: 1, ..OpenOptions::default() };
    let create = CreateOptions { columns, ..CreateOptions::default() };
    let mut store = Store::create(Arc::clone(&storage) as Arc<dyn Storage>, create, options).unwrap();
    let lines: String =
        (0..3).map(|number| format!("{{\"id\": \"r{number}\", \"v\": {:?}}}\n", row(number))).collect();
    let fields = FieldNames { key: Some("id".into()), text: None, vector: Some("v".into()) };
    let source = from_reader(std::io::Cursor::new(lines), "rows", InputFormat::JsonLines, &fields).unwrap();
    let cancel = Cancel::new();
    store.ingest(source, &IngestOptions::default(), Watch::silent(&cancel), &mut |_| {}).unwrap();
    store.build_indexes(Watch::silent(&cancel)).unwrap();
    drop(store);
    storage
}

/// Index and column of that store.
fn files(element: ElementType) -> [Vec<u8>; 2] {
    let storage = indexed(element);
    ["segments/1.1.idx", "segments/1.1.col"].map(|name| storage.read_file(name).unwrap())
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect()
}

#[test]
fn codes_and_their_errors_are_as_documented() {
    for element in [ElementType::F32, ElementType::I8] {
        let [index, column] = files(element);
        let sealed = take_apart(&index);
        for (field, expected) in [
            ("file kind", 4),
            ("segment", 1),
            ("row count", 3),
            ("column", 1),
            ("element type", 0),
            ("encoding", 0),
            ("width", WIDTH as u64),
            ("member", 0),
        ] {
            assert_eq!(sealed.header.number(field), expected, "{field}");
        }
        let documented: Vec<u64> =
            table("index-file.md", "Sections").rows.iter().map(|row| row[0].parse().unwrap()).collect();
        assert_eq!(sealed.order, documented);
        let made_from = take_apart(&column);
        let origin = cut("index-file.md", "Origin", &sealed.sections[&1]);
        let record = made_from.record(&column);
        assert_eq!((origin.number("length"), origin.number("root")), (record.length, record.root));

        let (codes, row_bytes) = (&sealed.sections[&2], 64);
        assert_eq!(codes.len(), 3 * row_bytes);
        let [scales, errors, norms] = [3, 4, 5].map(|tag| numbers(&sealed.sections[&tag]));
        assert_eq!((scales.len(), errors.len(), norms.len()), (3, 3, 3));
        for number in 0..3 {
            let codes = &codes[number * row_bytes..][..row_bytes];
            let scale = f64::from(scales[number]);
            let values: Vec<f64> = if element == ElementType::I8 {
                let stored = &made_from.sections[&1][number * WIDTH..][..WIDTH];
                assert_eq!(stored, &codes[..WIDTH]);
                assert_eq!(scales[number], numbers(&made_from.sections[&2])[number]);
                stored.iter().map(|code| scale * f64::from(*code as i8)).collect()
            } else {
                let values = row(number);
                let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                assert_eq!(scales[number], largest / 127.0);
                values.into_iter().map(f64::from).collect()
            };
            assert!(codes[WIDTH..].iter().all(|code| *code == 0));
            let (mut error, mut norm) = (0.0, 0.0);
            for (value, code) in values.iter().zip(codes) {
                let code = f64::from(*code as i8);
                assert_eq!(code, (value / scale).round_ties_even());
                error += (value - scale * code).powi(2);
                norm += value * value;
            }
            assert_eq!(norms[number], norm.sqrt() as f32);
            let error: f64 = error.sqrt();
            assert!(error <= f64::from(errors[number]) && f64::from(errors[number]) <= error * 1.000_001);
        }
    }
}

#[test]
fn rows_named_one_by_one_are_those_of_a_range() {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    let header = IndexHeader { segment: SegmentId(1), row_count: 5000, column: ColumnId(1), width: 33 };
    let origin = FileRecord { length: 1, root: 2 };
    let codes: Vec<u8> = (0..5000 * 64).map(|at| (at / 64 % 251) as u8).collect();
    let [scales, errors, norms] = [1.0_f32, 2.0, 3.0].map(|number| vec![number; 5000]);
    let mut writer = IndexFileWriter::create(&storage, header.clone(), origin).unwrap();
    writer.append(&codes, &scales, &errors, &norms).unwrap();
    writer.finish().unwrap();
    // A block of codes in the middle is damaged: rows from about 2048 on.
    let mut bytes = storage.read_file("segments/1.1.idx").unwrap();
    bytes[64 + 2 * 65_536 + 300] ^= 1;
    storage.overwrite_file("segments/1.1.idx", &bytes).unwrap();
    let file = IndexFile::open(&storage, &header, origin).unwrap().unwrap();
    let named = [4999, 0, 17];
    let rows = file.by_row();
    let found = rows.codes.at(&named).unwrap();
    for row in named {
        assert!(found[row as usize * 64..][..64] == codes[row as usize * 64..][..64], "row {row}");
    }
    assert_eq!(rows.codes.row(17).unwrap(), &codes[17 * 64..18 * 64]);
    assert!(rows.codes.at(&[0, 2100]).unwrap_err().is_damage());
    assert_eq!(rows.scales.at(&named).unwrap(), file.scales(RowId(0), 5000).unwrap());
    assert_eq!(rows.errors.at(&named).unwrap(), file.errors(RowId(0), 5000).unwrap());
    assert_eq!(rows.norms.at(&named).unwrap(), file.norms(RowId(0), 5000).unwrap());
    for row in [5000, u32::MAX] {
        assert!(rows.codes.at(&[row]).is_err() && rows.scales.at(&[1, row]).is_err());
        assert!(rows.norms.row(row).is_err() && rows.norms.place(row).is_empty());
    }
}
