//! Sealed files with wrong content under right checksums, as nobody writes them by accident: opening, asking and
//! checking must neither panic nor allocate wildly. Answers may differ.

use std::sync::Arc;

use ascribe::base::{RandomStream, checksum};
use ascribe::encoder::{Encoder, HashedEncoder};
use ascribe::format::{
    ColumnKind, FOOTER_SIZE_BYTES, FileRecord, HEADER_SIZE_BYTES, Manifest, block_count, block_range,
    decode_current, decode_manifest, encode_manifest, manifest_name,
};
use ascribe::storage::{SimulatedStorage, Storage, column_file_name, encoder_file_name, row_file_name};

use crate::answers::{problems, read};
use crate::cases::{Cases, READER_FLOOR_BYTES, alone};
use crate::flips::{Damage, largest_file_bytes, without_catalog};

/// Places of the footer's fields, from its start.
const DATA_END: usize = 392;
const TABLE_CHECKSUM: usize = 408;
const HEADER_CHECKSUM: usize = 416;
const ROOT: usize = FOOTER_SIZE_BYTES - 16;

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Makes every checksum of a sealed file right again, and gives what the manifest must say of it. `data_end` is where
/// the data of the undamaged file end.
fn reseal(bytes: &mut [u8], data_end: u64) -> FileRecord {
    let header = checksum(&bytes[..HEADER_SIZE_BYTES - 8]);
    put(bytes, HEADER_SIZE_BYTES - 8, header);
    for block in 0..block_count(data_end) {
        let range = block_range(block, data_end);
        let sum = checksum(&bytes[range.start as usize..range.end as usize]);
        put(bytes, (data_end + 8 * block) as usize, sum);
    }
    let footer = bytes.len() - FOOTER_SIZE_BYTES;
    let table = checksum(&bytes[data_end as usize..footer]);
    put(bytes, footer + TABLE_CHECKSUM, table);
    put(bytes, footer + HEADER_CHECKSUM, header);
    let root = checksum(&bytes[footer..footer + ROOT]);
    put(bytes, footer + ROOT, root);
    FileRecord { length: bytes.len() as u64, root }
}

/// The published state.
pub(crate) fn published(storage: &SimulatedStorage) -> Manifest {
    let commit = decode_current(&storage.read_file("CURRENT").unwrap()).unwrap();
    decode_manifest(&storage.read_file(&manifest_name(commit)).unwrap(), commit).unwrap()
}

/// Publishes a state in place of the one that is there.
pub(crate) fn replace_manifest(storage: &SimulatedStorage, manifest: &Manifest) {
    let name = manifest_name(manifest.store.commit);
    storage.overwrite_file(&name, &encode_manifest(manifest).unwrap()).unwrap();
}

/// Puts a resealed file and its record in place. An encoder file is made the state of an encoder with the fingerprint
/// that its bytes have now, if they are one, so that the encoder is used.
fn put_in_place(storage: &SimulatedStorage, name: &str, bytes: &[u8], record: FileRecord) {
    let mut manifest = published(storage);
    for segment in &mut manifest.segments {
        if row_file_name(segment.id) == name {
            segment.rows = record;
        }
        for column in &mut segment.columns {
            if column_file_name(segment.id, column.column) == name {
                column.file = record;
            }
        }
    }
    let mut place = name.to_owned();
    for column in &mut manifest.store.columns {
        let ColumnKind::Embedding(encoder) = &mut column.kind else { continue };
        let Some(old) = encoder.fingerprint.filter(|old| encoder_file_name(column.id, old) == name) else {
            continue;
        };
        encoder.state = Some(record);
        let state_length = word(bytes, bytes.len() - FOOTER_SIZE_BYTES + 16) as usize;
        let state = bytes.get(HEADER_SIZE_BYTES..HEADER_SIZE_BYTES.saturating_add(state_length));
        let read = state.and_then(|state| HashedEncoder::from_bytes(state).ok());
        let fingerprint = read.map_or(old, |encoder| encoder.fingerprint());
        encoder.fingerprint = Some(fingerprint);
        place = encoder_file_name(column.id, &fingerprint);
    }
    storage.overwrite_file(&place, bytes).unwrap();
    replace_manifest(storage, &manifest);
}

struct Resealed {
    base: SimulatedStorage,
    cases: Cases,
    /// Cases in which the store could still be opened: the others tell nothing about asking.
    opened: usize,
}

impl Resealed {
    fn new() -> Self {
        let base = without_catalog();
        let cases = Cases::new(READER_FLOOR_BYTES, largest_file_bytes(&base));
        Self { base, cases, opened: 0 }
    }

    fn mutate(&mut self, name: &str, label: impl FnOnce() -> String, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.base.read_file(name).unwrap();
        let data_end = word(&bytes, bytes.len() - FOOTER_SIZE_BYTES + DATA_END);
        change(&mut bytes);
        let record = reseal(&mut bytes, data_end);
        let storage = self.base.duplicate();
        put_in_place(&storage, name, &bytes, record);
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let Self { cases, opened, .. } = self;
        // Answers may differ: only panics and allocations count.
        cases.run(label, || {
            *opened += usize::from(read(Arc::clone(&storage)).is_ok());
            problems(&storage);
            Ok(())
        });
    }
}

fn change_every_byte(wanted: impl Fn(&str) -> bool, changes: &[fn(u8) -> u8]) {
    let _alone = alone();
    let mut resealed = Resealed::new();
    let mut expected = 0;
    for name in resealed.base.names().into_iter().filter(|name| wanted(name)) {
        for position in 0..resealed.base.read_file(&name).unwrap().len() {
            for (number, change) in changes.iter().enumerate() {
                let label = || format!("{name}, byte {position}, change {number}");
                resealed.mutate(&name, label, |bytes| bytes[position] = change(bytes[position]));
                expected += 1;
            }
        }
    }
    assert!(2 * resealed.opened > expected, "only {} of {expected} stores could be opened", resealed.opened);
    resealed.cases.finish(expected.max(1));
}

#[test]
fn every_byte_of_row_files_resealed() {
    // Of the three row files one has all fields, one lacks a late one, one is like the first.
    change_every_byte(
        |name| name.ends_with("1.rows") || name.ends_with("2.rows"),
        &[|byte| byte ^ 0x01, |byte| byte ^ 0xff],
    );
}

#[test]
fn every_byte_of_column_and_encoder_files_resealed() {
    change_every_byte(|name| name.ends_with(".col") || name.ends_with(".enc"), &[|byte| byte ^ 0x81]);
}

/// Values that lengths, counts and offsets should not have.
const WILD: [u64; 8] = [0, 1, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

#[test]
fn random_changes_resealed() {
    let _alone = alone();
    let mut resealed = Resealed::new();
    let names: Vec<String> = resealed.base.names().into_iter().filter(|name| name.contains('/')).collect();
    for seed in 0..5000 {
        let mut random = RandomStream::new(seed);
        let name = &names[random.below(names.len() as u64) as usize];
        resealed.mutate(
            name,
            || format!("{name}, seed {seed}"),
            |bytes| {
                for _ in 0..=random.below(6) {
                    let width = [1, 2, 4, 8][random.below(4) as usize];
                    let at = random.below((bytes.len() - FOOTER_SIZE_BYTES - width) as u64) as usize;
                    let value =
                        if random.below(2) == 0 { random.next_u64() } else { WILD[random.below(8) as usize] };
                    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                }
            },
        );
    }
    resealed.cases.finish(5000);
}

/// Resealing an unchanged file changes nothing: the cases above differ from the store by their change alone.
#[test]
fn an_unchanged_file_is_resealed_to_itself() {
    let _alone = alone();
    let damage = Damage::new();
    for name in damage.names(|name| name.contains('/')) {
        let whole = damage.base.read_file(&name).unwrap();
        let mut bytes = whole.clone();
        let data_end = word(&bytes, bytes.len() - FOOTER_SIZE_BYTES + DATA_END);
        let record = reseal(&mut bytes, data_end);
        assert_eq!(bytes, whole, "{name}");
        let storage = damage.base.duplicate();
        put_in_place(&storage, &name, &bytes, record);
        assert_eq!(published(&storage), published(&damage.base), "{name}");
        assert_eq!(read(Arc::new(storage)).unwrap(), damage.expected, "{name}");
    }
}
