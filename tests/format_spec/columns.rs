//! Column files: every element type, embeddings, dense and factored sketches.

use ascribe::base::{ElementType, RowId, SegmentId};
use ascribe::format::{
    ColumnHeader, Encoding, ModuleEncoding, SketchModule, SketchPart, encode_modules, sketch_parts,
    sketch_width,
};
use ascribe::storage::{ColumnFile, SimulatedStorage, Storage};

use super::pages::{cut, table};
use super::sample;
use super::sealed::take_apart;

/// The value that stored bytes stand for, as `column-file.md` says.
fn value(element: ElementType, bytes: &[u8], scale: f32) -> f32 {
    match element {
        ElementType::F32 => f32::from_bits(u32::from_le_bytes(bytes.try_into().unwrap())),
        ElementType::F16 => {
            let bits = u16::from_le_bytes(bytes.try_into().unwrap());
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff) / 1024.0);
            let size = if exponent == 0 {
                fraction * 2_f32.powi(-14)
            } else {
                (1.0 + fraction) * 2_f32.powi(exponent - 15)
            };
            if bits >> 15 == 1 { -size } else { size }
        }
        ElementType::BF16 => f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().unwrap())) << 16),
        ElementType::I8 => scale * f32::from(bytes[0] as i8),
    }
}

/// Writes the column, takes it apart, and compares every value with what was given; and what the code reads with that.
fn round_trip(header: &ColumnHeader, modules: &[SketchModule]) {
    let storage = SimulatedStorage::new();
    storage.create_folder("segments").unwrap();
    let (rows, width) = (header.row_count as usize, header.width as usize);
    let given = sample::plain_values(rows * width);
    let record = sample::write_column(&storage, header, modules, &given).unwrap();
    let bytes = storage.read_file(&format!("segments/1.{}.col", header.column)).unwrap();
    let sealed = take_apart(&bytes);
    assert_eq!(sealed.record(&bytes), record);
    for (field, expected) in [
        ("file kind", 2),
        ("segment", 1),
        ("row count", rows as u64),
        ("column", u64::from(header.column.0)),
        ("element type", u64::from(header.element.code())),
        ("encoding", u64::from(header.encoding.code())),
        ("width", width as u64),
        ("members", u64::from(header.members)),
    ] {
        assert_eq!(sealed.header.number(field), expected, "{field}");
    }
    let (is_int8, is_sketch) = (header.element == ElementType::I8, header.encoding == Encoding::Sketch);
    let has_scales = is_int8 || is_sketch && header.element == ElementType::F16;
    let (terms, outcomes) = sample::beside(header, modules);
    let sections = [(3, is_sketch), (1, true), (2, has_scales), (4, !terms.is_empty()), (5, is_sketch)];
    let order: Vec<u64> = sections.into_iter().filter(|(_, there)| *there).map(|(tag, _)| tag).collect();
    assert_eq!(sealed.order, order);
    assert_eq!(sealed.sections.get(&4).map(Vec::as_slice).unwrap_or_default(), terms);
    assert_eq!(sealed.sections.get(&5).map(Vec::as_slice).unwrap_or_default(), outcomes);
    let parts = if is_sketch { sketch_parts(modules, header.members).unwrap() } else { Vec::new() };
    let scales_a_row = if is_sketch { parts.len() } else { 1 };

    let size = header.element.size_bytes();
    let values = &sealed.sections[&1];
    assert_eq!(values.len(), rows * width * size);
    for (at, (stored, given)) in values.chunks(size).zip(&given).enumerate() {
        let scale = sealed.sections.get(&2).map_or(1.0, |scales| {
            let within = |part: &&SketchPart| (part.offset..part.offset + part.width).contains(&(at % width));
            let part = parts.iter().position(|part| within(&part)).unwrap_or(0);
            let start = (at / width * scales_a_row + part) * 4;
            f32::from_le_bytes(scales[start..start + 4].try_into().unwrap())
        });
        let mut found = value(header.element, stored, scale);
        if has_scales && !is_int8 {
            found *= scale;
        }
        let tolerance = if is_int8 { scale * 0.51 } else { given.abs() / 200.0 };
        assert!((found - given).abs() <= tolerance, "{}: value {at} is {found}, not {given}", header.element);
    }

    let file = ColumnFile::open(&storage, SegmentId(1), header.column, header.row_count, record).unwrap();
    assert_eq!(file.header(), header);
    assert_eq!(file.values(RowId(0), header.row_count).unwrap(), values);
    let scales = file.scales(RowId(0), header.row_count).unwrap();
    assert_eq!(scales, sealed.sections.get(&2).map(Vec::as_slice));
    assert_eq!(scales.map(<[u8]>::len), has_scales.then_some(4 * rows * scales_a_row));
    assert_eq!((file.modules(), file.parts()), (modules, parts.as_slice()));
    assert_eq!(file.terms(RowId(0), header.row_count).unwrap().unwrap_or_default(), terms);
    assert_eq!(file.outcomes(RowId(0), header.row_count).unwrap().unwrap_or_default(), outcomes);
    let last = RowId(header.row_count - 1);
    assert_eq!(file.values(last, 1).unwrap(), &values[(rows - 1) * width * size..]);
    assert!(file.values(last, 2).is_err());
    file.verify().unwrap();
}

#[test]
fn embeddings_of_every_element_type_come_back() {
    for element in ElementType::ALL {
        // More than one block of 64 KiB even at one byte a value, and rows that lie across its border.
        round_trip(&sample::column_header(element, Encoding::Embedding, 701, 97), &[]);
        round_trip(&sample::column_header(element, Encoding::Embedding, 1, 1), &[]);
    }
}

#[test]
fn sketches_of_every_element_type_come_back() {
    let (factored, dense) = (vec![sample::modules()[0].clone()], vec![sample::modules()[1].clone()]);
    for element in ElementType::ALL {
        for modules in [&factored, &dense, &sample::modules()] {
            let width = sketch_width(modules, sample::MEMBERS).unwrap();
            let header = sample::column_header(element, Encoding::Sketch, 29, width);
            round_trip(&header, modules);
        }
    }
}

#[test]
fn widths_of_modules_are_as_documented() {
    let widths = table("column-file.md", "Values");
    assert_eq!(widths.rows.len(), 4);
    let text = super::pages::page("column-file.md");
    for line in [
        "| factored | u: rank x out; v: rank x in |",
        "| dense | matrix: out x in |",
        "| shared input | u: rank x out; v: rank x in, of the first member only |",
        "| sparse | u: rank x out; v: rank x terms |",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let one = 2 * (3 + 5) + 2 * 4 + (2 + 6) + (4 + 3);
    assert_eq!(sketch_width(&sample::modules(), 1), Ok(one));
    assert_eq!(sketch_width(&sample::modules(), 2), Ok(2 * one - 6));
}

#[test]
fn module_tables_are_as_documented() {
    let modules = sample::modules();
    let bytes = encode_modules(&modules).unwrap();
    let fields = cut("column-file.md", "Module table", &bytes);
    assert_eq!(fields.number("module count"), modules.len() as u64);
    let mut rest = fields.bytes("modules");
    for module in &modules {
        let length = 20 + module.name.len();
        let entry = cut("column-file.md", "Module entry", &rest[..length]);
        rest = &rest[length..];
        assert_eq!(entry.bytes("name"), module.name.as_bytes());
        let encoding = match module.encoding {
            ModuleEncoding::Factored => 1,
            ModuleEncoding::Dense => 2,
            ModuleEncoding::SharedInput => 3,
            ModuleEncoding::Sparse => 4,
        };
        for (field, expected) in [
            ("name length", module.name.len() as u64),
            ("encoding", encoding),
            ("rank", u64::from(module.rank)),
            ("out", u64::from(module.out)),
            ("in", u64::from(module.input)),
            ("terms", u64::from(module.terms)),
        ] {
            assert_eq!(entry.number(field), expected, "{field} of {}", module.name);
        }
    }
    assert!(rest.is_empty());
}
