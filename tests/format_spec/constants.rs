//! Constants, limits, checksums of known bytes.

use std::collections::BTreeMap;

use ascribe::base::{ElementType, FieldType, checksum, limits};
use ascribe::format::{self, Encoding, FileKind};

use super::pages::{mark, table};

fn expect(name: &str, heading: &str, keys: &str, values: &str, expected: &[(&str, String)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    assert_eq!(table(name, heading).map(keys, values), expected, "{name}, {heading}");
}

#[test]
fn constants_are_those_of_the_code() {
    let text = |bytes: [u8; 8]| String::from_utf8(bytes.to_vec()).unwrap().replace('\0', "\\0");
    let expected = [
        ("format version", format::FORMAT_VERSION.to_string()),
        ("least reader version", format::MIN_READER_VERSION.to_string()),
        ("sealed file mark, 8 bytes", text(format::HEADER_MAGIC)),
        ("sealed file end mark, 8 bytes", text(format::TRAILER_MAGIC)),
        ("manifest mark, 8 bytes", text(format::MANIFEST_MAGIC)),
        ("sealed file header, bytes", format::HEADER_SIZE_BYTES.to_string()),
        ("sealed file footer, bytes", format::FOOTER_SIZE_BYTES.to_string()),
        ("section entry, bytes", format::SECTION_ENTRY_SIZE_BYTES.to_string()),
        ("block, bytes", limits::BLOCK_SIZE_BYTES.to_string()),
        ("section alignment, bytes", limits::SECTION_ALIGNMENT_BYTES.to_string()),
        ("manifest header, bytes", format::MANIFEST_HEADER_SIZE_BYTES.to_string()),
        ("CURRENT, bytes", format::CURRENT_SIZE_BYTES.to_string()),
        ("record frame, bytes", format::RECORD_FRAME_SIZE_BYTES.to_string()),
        ("module entry without its name, bytes", format::MODULE_ENTRY_SIZE_BYTES.to_string()),
        ("origin of an index, bytes", format::INDEX_ORIGIN_SIZE_BYTES.to_string()),
        ("codes of an index row, a multiple of", format::INDEX_CODE_BLOCK.to_string()),
        ("values of a block of coarse codes", format::INDEX_COARSE_BLOCK.to_string()),
        ("head of a graph, bytes", format::GRAPH_HEAD_SIZE_BYTES.to_string()),
        ("head of sums, bytes", format::SUMS_HEAD_SIZE_BYTES.to_string()),
    ];
    expect("README.md", "Constants", "constant", "value", &expected);
    assert_eq!(mark("ASCRIBE\\0"), format::HEADER_MAGIC);
}

#[test]
fn limits_are_those_of_the_code() {
    let expected = [
        ("sections of a sealed file", limits::SECTIONS_MAX.to_string()),
        ("rows of a segment", limits::SEGMENT_ROWS_MAX.to_string()),
        ("bytes of a key", limits::KEY_BYTES_MAX.to_string()),
        ("bytes of a text", limits::TEXT_BYTES_MAX.to_string()),
        ("bytes of a field or column name", limits::NAME_BYTES_MAX.to_string()),
        ("declared fields", limits::FIELDS_MAX.to_string()),
        ("columns", limits::COLUMNS_MAX.to_string()),
        ("values of an embedding", limits::EMBEDDING_WIDTH_MAX.to_string()),
        ("values of a sketch row", limits::SKETCH_WIDTH_MAX.to_string()),
        ("members of a sketch", limits::SKETCH_MEMBERS_MAX.to_string()),
        ("modules of a sketch", limits::SKETCH_MODULES_MAX.to_string()),
        ("bytes of a sketch schema", limits::SKETCH_SCHEMA_BYTES_MAX.to_string()),
        ("bytes of a manifest file", limits::MANIFEST_BYTES_MAX.to_string()),
        ("bytes of a record's body, or of a manifest's", limits::RECORD_BYTES_MAX.to_string()),
        ("bytes that one may claim while it is decoded", limits::RECORD_DECODED_BYTES_MAX.to_string()),
        ("commits in the history", limits::HISTORY_COMMITS_MAX.to_string()),
    ];
    expect("README.md", "Limits", "limit", "value", &expected);
}

#[test]
fn checksums_of_known_bytes() {
    for (text, value) in table("README.md", "Conventions").map("bytes (ASCII)", "checksum") {
        let bytes = if text == "(none)" { "" } else { text.as_str() };
        assert_eq!(format!("{:#018x}", checksum(bytes.as_bytes())), value, "{text}");
    }
}

#[test]
fn codes_are_those_of_the_code() {
    let kinds = [
        ("1", "rows", FileKind::Rows),
        ("2", "column", FileKind::Column),
        ("3", "encoder", FileKind::Encoder),
        ("4", "index", FileKind::Index),
        ("5", "graph", FileKind::Graph),
        ("6", "curvature", FileKind::Curvature),
        ("7", "sums", FileKind::Sums),
    ];
    let expected = kinds.map(|(code, name, kind)| {
        assert_eq!(kind.code().to_string(), code);
        (code, name.to_owned())
    });
    expect("sealed-file.md", "File kinds", "code", "kind", &expected);
    for (encoding, name) in [
        (Encoding::None, "none: not a column file"),
        (Encoding::Embedding, "embedding"),
        (Encoding::Sketch, "sketch"),
    ] {
        let documented = table("sealed-file.md", "Encodings").map("code", "encoding");
        assert_eq!(documented.len(), 3);
        assert_eq!(documented[&encoding.code().to_string()], name);
    }
    let elements = table("sealed-file.md", "Element types");
    assert_eq!(elements.rows.len(), ElementType::ALL.len());
    for (row, element) in elements.rows.iter().zip(ElementType::ALL) {
        assert_eq!(elements.cell(row, "code"), element.code().to_string());
        assert_eq!(elements.cell(row, "name"), element.name());
        assert_eq!(elements.cell(row, "bytes of a value"), element.size_bytes().to_string());
    }
}

#[test]
fn choices_are_in_the_order_of_the_code() {
    let fields = table("catalog.md", "FieldType").map("choice", "name");
    let elements = table("catalog.md", "ElementType").map("choice", "name");
    assert_eq!((fields.len(), elements.len()), (FieldType::ALL.len(), ElementType::ALL.len()));
    for (choice, kind) in FieldType::ALL.into_iter().enumerate() {
        assert_eq!(fields[&choice.to_string()], kind.name());
    }
    for (choice, element) in ElementType::ALL.into_iter().enumerate() {
        assert_eq!(elements[&choice.to_string()], element.name());
    }
}

#[test]
fn section_tags_are_those_of_the_code() {
    use format::{column_section, curvature_section, encoder_section, row_section, sums_section};
    let rows = [
        ("key offsets", row_section::KEY_OFFSETS),
        ("key bytes", row_section::KEY_BYTES),
        ("text offsets", row_section::TEXT_OFFSETS),
        ("text bytes", row_section::TEXT_BYTES),
        ("metadata", row_section::METADATA),
        ("extra offsets", row_section::EXTRA_OFFSETS),
        ("extra bytes", row_section::EXTRA_BYTES),
        ("key hashes", row_section::KEY_HASHES),
        ("key rows", row_section::KEY_ROWS),
    ];
    expect("row-file.md", "Sections", "section", "tag", &rows.map(|(name, tag)| (name, tag.to_string())));
    let columns = [
        ("modules", column_section::MODULES),
        ("values", column_section::VALUES),
        ("scales", column_section::SCALES),
        ("terms", column_section::TERMS),
        ("outcomes", column_section::OUTCOMES),
    ];
    expect(
        "column-file.md",
        "Sections",
        "section",
        "tag",
        &columns.map(|(name, tag)| (name, tag.to_string())),
    );
    let curvature = [
        ("head", curvature_section::HEAD),
        ("keys", curvature_section::KEYS),
        ("prints", curvature_section::PRINTS),
        ("weights", curvature_section::WEIGHTS),
        ("inverse", curvature_section::INVERSE),
        ("inverse, rest", curvature_section::INVERSE_REST),
        ("lengths", curvature_section::LENGTHS),
        ("code factors", curvature_section::CODE_FACTORS),
        ("code matrix", curvature_section::CODE_MATRIX),
        ("codes", curvature_section::CODES),
        ("code scales", curvature_section::CODE_SCALES),
        ("bases", curvature_section::BASES),
        ("diagonal", curvature_section::DIAGONAL),
        ("landmarks", curvature_section::LANDMARKS),
        ("mixing", curvature_section::MIXING),
        ("sums", curvature_section::SUMS),
    ];
    let curvature = curvature.map(|(name, tag)| (name, tag.to_string()));
    expect("curvature-file.md", "Sections", "section", "tag", &curvature);
    let sums = [("origin", sums_section::ORIGIN), ("head", sums_section::HEAD), ("sums", sums_section::SUMS)];
    let sums = sums.map(|(name, tag)| (name, tag.to_string()));
    expect("sums-file.md", "Sections", "section", "tag", &sums);
    let encoder = [("state", encoder_section::STATE.to_string())];
    expect("encoder-file.md", "Encoder files", "section", "tag", &encoder);
}
