//! A reader of sealed files that knows only what the pages say.

use std::collections::BTreeMap;

use ascribe::base::limits::{BLOCK_SIZE_BYTES, SECTION_ALIGNMENT_BYTES};
use ascribe::format::{Encoding, FileKind, FileRecord, Footer, Header, Section};
use ascribe::storage::{SealedFile, SealedWriter, SimulatedStorage, Storage};
use twox_hash::XxHash3_64;

use super::pages::{Fields, cut, mark};

/// A sealed file, taken apart and checked.
pub(crate) struct Sealed {
    pub(crate) header: Fields,
    /// Sections by tag.
    pub(crate) sections: BTreeMap<u64, Vec<u8>>,
    /// Tags in file order.
    pub(crate) order: Vec<u64>,
    pub(crate) root: u64,
    /// Where header, sections, filling, block checksums and footer lie, for those who damage them.
    pub(crate) regions: Vec<(&'static str, std::ops::Range<usize>)>,
}

/// Takes a file apart as `sealed-file.md` says, and checks every rule there.
pub(crate) fn take_apart(bytes: &[u8]) -> Sealed {
    let page = "sealed-file.md";
    let header = cut(page, "Header", &bytes[..64]);
    assert_eq!(header.bytes("mark"), mark("ASCRIBE\\0"));
    assert_eq!(header.number("header checksum"), XxHash3_64::oneshot(&bytes[..56]));
    assert_eq!(
        (header.number("flags"), header.number("reserved"), header.number("block size")),
        (0, 0, 65_536)
    );
    assert_eq!((header.number("format version"), header.number("least reader version")), (0, 0));

    let footer_bytes = &bytes[bytes.len() - 512..];
    let footer = cut(page, "Footer", footer_bytes);
    assert_eq!(footer.bytes("end mark"), mark("EBIRCSA\\0"));
    let root = footer.number("root");
    assert_eq!(root, XxHash3_64::oneshot(&footer_bytes[..496]));
    assert_eq!(footer.number("header checksum"), header.number("header checksum"));
    assert_eq!(footer.number("file length"), bytes.len() as u64);
    assert_eq!(footer.number("reserved"), 0);
    assert!(footer.bytes("reserved end").iter().all(|byte| *byte == 0));

    let data_end = footer.number("data end") as usize;
    let blocks = (data_end - 64).div_ceil(65_536);
    assert_eq!(footer.number("block count"), blocks as u64);
    assert_eq!(data_end + 8 * blocks + 512, bytes.len());
    let block_table = &bytes[data_end..data_end + 8 * blocks];
    assert_eq!(footer.number("block table checksum"), XxHash3_64::oneshot(block_table));
    for (block, expected) in block_table.chunks(8).enumerate() {
        let start = 64 + 65_536 * block;
        let found = XxHash3_64::oneshot(&bytes[start..data_end.min(start + 65_536)]);
        assert_eq!(expected, found.to_le_bytes(), "block {block}");
    }

    let mut sealed =
        Sealed { header, sections: BTreeMap::new(), order: Vec::new(), root, regions: Vec::new() };
    sealed.regions.push(("header", 0..64));
    let mut end = 64_usize;
    let count = footer.number("section count") as usize;
    for (index, entry) in footer.bytes("section table").chunks(24).enumerate() {
        if index >= count {
            assert!(entry.iter().all(|byte| *byte == 0), "entry {index} is not used");
            continue;
        }
        let entry = cut(page, "Section entry", entry);
        assert_eq!(entry.number("reserved"), 0);
        let (offset, length) = (entry.number("offset") as usize, entry.number("length") as usize);
        assert_eq!(offset, end.next_multiple_of(64), "section {index} begins at the next multiple of 64");
        sealed.fill(bytes, end..offset);
        end = offset + length;
        sealed.regions.push(("section", offset..end));
        let tag = entry.number("tag");
        assert!(sealed.sections.insert(tag, bytes[offset..end].to_vec()).is_none(), "tag {tag} stands twice");
        sealed.order.push(tag);
    }
    assert_eq!(data_end, end.next_multiple_of(64));
    sealed.fill(bytes, end..data_end);
    sealed.regions.push(("block checksums", data_end..bytes.len() - 512));
    sealed.regions.push(("footer", bytes.len() - 512..bytes.len()));
    sealed.regions.retain(|(_, range)| !range.is_empty());
    sealed
}

impl Sealed {
    fn fill(&mut self, bytes: &[u8], range: std::ops::Range<usize>) {
        assert!(bytes[range.clone()].iter().all(|byte| *byte == 0), "filling {range:?}");
        self.regions.push(("filling", range));
    }

    /// What the manifest says of this file.
    pub(crate) fn record(&self, bytes: &[u8]) -> FileRecord {
        FileRecord { length: bytes.len() as u64, root: self.root }
    }
}

#[test]
fn headers_are_as_documented() {
    let header = Header {
        kind: FileKind::Column,
        segment: 0x1112_1314_1516_1718,
        row_count: 0x2122_2324,
        column: 0x3132_3334,
        element: 0x4142,
        encoding: Encoding::Sketch,
        width: 0x5152_5354,
        members: 0x6162_6364,
    };
    let fields = cut("sealed-file.md", "Header", &header.encode());
    for (field, expected) in [
        ("file kind", 2),
        ("format version", u64::from(ascribe::format::FORMAT_VERSION)),
        ("least reader version", u64::from(ascribe::format::MIN_READER_VERSION)),
        ("flags", 0),
        ("segment", header.segment),
        ("row count", 0x2122_2324),
        ("column", 0x3132_3334),
        ("element type", 0x4142),
        ("encoding", 2),
        ("width", 0x5152_5354),
        ("members", 0x6162_6364),
        ("block size", u64::from(BLOCK_SIZE_BYTES)),
        ("reserved", 0),
    ] {
        assert_eq!(fields.number(field), expected, "{field}");
    }
}

#[test]
fn footers_are_as_documented() {
    let footer = Footer {
        sections: vec![
            Section { tag: 0x71, offset: 64, length: 0x72 },
            Section { tag: 0x73, offset: 256, length: 1 },
        ],
        data_end: 64 + 3 * 65_536,
        table_checksum: 0x8182_8384_8586_8788,
        header_checksum: 0x9192_9394_9596_9798,
    };
    let (bytes, root) = footer.encode();
    let fields = cut("sealed-file.md", "Footer", &bytes);
    for (field, expected) in [
        ("section count", 2),
        ("reserved", 0),
        ("data end", footer.data_end),
        ("block count", 3),
        ("block table checksum", footer.table_checksum),
        ("header checksum", footer.header_checksum),
        ("file length", footer.data_end + 3 * 8 + 512),
        ("root", root),
    ] {
        assert_eq!(fields.number(field), expected, "{field}");
    }
    let table = fields.bytes("section table");
    assert_eq!(table.len(), 16 * 24);
    for (entry, section) in table.chunks(24).zip(&footer.sections) {
        let entry = cut("sealed-file.md", "Section entry", entry);
        let found = (entry.number("tag"), entry.number("offset"), entry.number("length"));
        assert_eq!(found, (u64::from(section.tag), section.offset, section.length));
    }
}

/// Sections around every border: nothing, one byte, a block less one, a block, more than two.
#[test]
fn any_sections_are_taken_apart_as_they_were_written() {
    let block = BLOCK_SIZE_BYTES as usize;
    let lengths: [&[usize]; 7] = [
        &[],
        &[0],
        &[1, 63, 64],
        &[block - 1, 1],
        &[block],
        &[block + 1, 0, 5],
        &[2 * block + 17, 100_000, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    ];
    for lengths in lengths {
        let storage = SimulatedStorage::new();
        let mut writer = SealedWriter::create(&storage, "file", &Header::encoder(9)).unwrap();
        let content = |tag: usize, length: usize| -> Vec<u8> {
            (0..length).map(|at| (at * 31 + at / 251 + tag) as u8 | 1).collect()
        };
        for (tag, length) in lengths.iter().enumerate() {
            writer.begin_section(tag as u32 + 1).unwrap();
            // In pieces that do not end where blocks end.
            content(tag, *length).chunks(40_001).for_each(|piece| writer.write(piece).unwrap());
        }
        let record = writer.finish().unwrap();
        let bytes = storage.read_file("file").unwrap();
        let sealed = take_apart(&bytes);
        assert_eq!(sealed.record(&bytes), record);
        assert_eq!(sealed.order, (1..=lengths.len() as u64).collect::<Vec<_>>());
        for (tag, length) in lengths.iter().enumerate() {
            assert_eq!(
                sealed.sections[&(tag as u64 + 1)],
                content(tag, *length),
                "section {tag} of {lengths:?}"
            );
        }
        let file = SealedFile::open(&storage, "file", FileKind::Encoder, record).unwrap();
        for (tag, bytes) in &sealed.sections {
            let section = file.section(*tag as u32).unwrap();
            assert!(section.offset.is_multiple_of(SECTION_ALIGNMENT_BYTES));
            assert_eq!(file.read(section, 0..section.length).unwrap(), bytes);
        }
        file.verify().unwrap();
        assert_eq!(storage.open("file").unwrap().len(), record.length);
    }
}
