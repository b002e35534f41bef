//! Index files: codes, coarse codes and their numbers of a column's rows, and what they were made from.

use std::sync::Arc;

use ascribe::base::{Cancel, ColumnId, ElementType, RowId, SegmentId};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{ColumnDefinition, CreateOptions, IngestOptions, OpenOptions, Store, Watch};
use ascribe::format::{FileRecord, IndexHeader};
use ascribe::sources::{FieldNames, InputFormat, from_reader};
use ascribe::storage::{IndexFile, IndexFileWriter, SimulatedStorage, Storage};

use super::pages::{cut, table};
use super::sealed::{Sealed, take_apart};

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
            ("members", 0),
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
        check_coarse(&sealed, |number, value| {
            f64::from(scales[number]) * f64::from(codes[number * row_bytes + value] as i8)
        });
    }
}

/// Checks the coarse codes of three rows, whose 8-bit codes stand for `coded`.
fn check_coarse(sealed: &Sealed, coded: impl Fn(usize, usize) -> f64) {
    let [centre, dither, scales, norms] = [6, 7, 9, 10].map(|tag| numbers(&sealed.sections[&tag]));
    assert_eq!((centre.len(), dither.len(), scales.len(), norms.len()), (WIDTH, WIDTH, 3, 3));
    assert!(dither.iter().all(|dither| (-0.5..0.5).contains(dither)));
    for (value, &centre) in centre.iter().enumerate() {
        let mean = (0..3).map(|number| coded(number, value)).sum::<f64>() / 3.0;
        assert!((f64::from(centre) - mean).abs() <= 1e-6 * mean.abs(), "{value}");
    }
    let packed = &sealed.sections[&8];
    assert_eq!(packed.len(), 3 * 32);
    for number in 0..3 {
        let row = &packed[number * 32..][..32];
        let difference = |value: usize| coded(number, value) - f64::from(centre[value]);
        let largest = (0..WIDTH).map(|value| difference(value).abs()).fold(0.0, f64::max);
        assert_eq!(scales[number], ((largest / 6.5) as f32).next_up());
        let (scale, mut squares) = (f64::from(scales[number]), 0.0);
        for value in 0..64 {
            let half = if value < 32 { row[value] & 0x0F } else { row[value - 32] >> 4 };
            let code = f64::from(half) - 8.0;
            let expected =
                if value < WIDTH { difference(value) / scale + f64::from(dither[value]) } else { 0.0 };
            assert_eq!(code, expected.round(), "row {number}, value {value}");
            squares += code * code;
        }
        let norm = scale * squares.sqrt();
        assert!(norm <= f64::from(norms[number]) && f64::from(norms[number]) <= norm * 1.000_001);
    }
}

#[test]
fn rows_named_one_by_one_are_those_of_a_range() {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    let header = IndexHeader { segment: SegmentId(1), row_count: 5000, column: ColumnId(1), width: 33 };
    let origin = FileRecord { length: 1, root: 2 };
    let codes: Vec<u8> = (0..5000 * 64).map(|at| (at / 64 % 251) as u8).collect();
    let [scales, errors, norms] = [1.0_f32, 2.0, 3.0].map(|number| number.to_le_bytes().repeat(5000));
    let coarse: Vec<u8> = (0..5000 * 32).map(|at| (at / 32 % 241) as u8).collect();
    let mut writer = IndexFileWriter::create(&storage, header.clone(), origin).unwrap();
    writer.append(&codes, [&scales, &errors, &norms]).unwrap();
    writer.begin_coarse(&[0.5; 33], &[0.25; 33]).unwrap();
    writer.append_coarse(&coarse, [&norms, &errors]).unwrap();
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
    let about = [0.5_f32, 0.25].map(|value| value.to_le_bytes().repeat(33));
    assert_eq!(file.centre_and_dither().unwrap(), about.each_ref().map(Vec::as_slice));
    assert_eq!(file.coarse_codes(RowId(4990), 10).unwrap(), &coarse[4990 * 32..]);
    assert_eq!(file.coarse_numbers(RowId(7), 1).unwrap(), [&norms[..4], &errors[..4]]);
    assert!(file.coarse_codes(RowId(4991), 10).is_err());
    for row in [5000, u32::MAX] {
        assert!(rows.codes.at(&[row]).is_err() && rows.scales.at(&[1, row]).is_err());
        assert!(rows.norms.row(row).is_err() && rows.norms.place(row).is_empty());
    }
}

#[test]
fn an_index_without_all_of_its_rows_is_not_finished() {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    let header = IndexHeader { segment: SegmentId(1), row_count: 2, column: ColumnId(1), width: 33 };
    let origin = FileRecord { length: 1, root: 2 };
    let create = || IndexFileWriter::create(&storage, header.clone(), origin).unwrap();
    let (codes, coarse, numbers) = ([1; 128], [0x99; 64], [7; 8]);

    let mut short = create();
    short.append(&codes[..64], [&numbers; 3]).unwrap();
    assert!(
        short.begin_coarse(&[0.0; 33], &[0.0; 33]).unwrap_err().to_string().contains("64 bytes of codes")
    );
    let mut other = create();
    other.append(&codes, [&numbers; 3]).unwrap();
    assert!(other.begin_coarse(&[0.0; 33], &[0.0; 32]).unwrap_err().to_string().contains("section 7"));
    let mut without = create();
    without.append(&codes, [&numbers; 3]).unwrap();
    assert!(without.finish().unwrap_err().to_string().contains("no coarse codes"));
    for (coarse, numbers) in [(&coarse[..32], &numbers[..]), (&coarse[..], &numbers[..4])] {
        let mut writer = create();
        writer.append(&codes, [&[7; 8]; 3]).unwrap();
        writer.begin_coarse(&[0.0; 33], &[0.0; 33]).unwrap();
        writer.append_coarse(coarse, [numbers; 2]).unwrap();
        writer.finish().unwrap_err();
    }
    assert!(IndexFile::open(&storage, &header, origin).unwrap().is_none());
}
