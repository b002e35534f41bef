//! Index files: codes, scales, errors and norms of a column's rows, and what they were made from.

use std::sync::Arc;

use ascribe::base::{Cancel, ElementType};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{ColumnDefinition, CreateOptions, IngestOptions, OpenOptions, Store, Watch};
use ascribe::sources::{FieldNames, InputFormat, from_reader};
use ascribe::storage::{SimulatedStorage, Storage};

use super::pages::{cut, table};
use super::sealed::take_apart;

const WIDTH: usize = 33;

fn row(row: usize) -> Vec<f32> {
    (0..WIDTH).map(|value| ((row * 31 + value * 17) % 101) as f32 / 8.0 - 6.0).collect()
}

/// Files of a store of three rows whose one column was indexed.
fn files(element: ElementType) -> [Vec<u8>; 2] {
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
