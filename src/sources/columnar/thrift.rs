//! The structure of Parquet's metadata, checked before it is decoded.
//!
//! Parquet writes its metadata in Thrift's compact protocol. Its decoder reserves room for as many elements as a list,
//! a schema or a text claims to have, and calls itself for every level of the schema: a few bytes could then ask for
//! hundreds of gigabytes or overflow the stack, and neither can be caught. Here the same bytes are walked first,
//! without an allocation and to a bounded depth.
//!
//! # References
//! Apache Thrift, compact protocol encoding (`doc/specs/thrift-compact-protocol.md`); Apache Parquet, `parquet.thrift`.

use crate::base::limits::{PARQUET_DEPTH_MAX, PARQUET_LIST_ELEMENTS_MAX};

/// What a walk meets. A path holds the ids of the fields that lead there from the outermost struct; the elements of a
/// list have the path of the list.
pub(super) enum Event {
    /// A number.
    Integer(i64),
    /// The end of a struct.
    StructEnd,
}

/// Why a walk ended early.
#[derive(Debug, PartialEq)]
pub(super) enum Flaw {
    /// The bytes end inside a value.
    CutOff,
    /// They are not what the protocol allows, or too deep or too many.
    Wrong(&'static str),
}

struct Walk<'a, F> {
    bytes: &'a [u8],
    at: usize,
    path: Vec<i16>,
    visit: F,
}

/// Walks over the struct at the start of `bytes`; returns its length.
pub(super) fn walk_struct(
    bytes: &[u8],
    visit: impl FnMut(&[i16], Event) -> Result<(), Flaw>,
) -> Result<usize, Flaw> {
    let mut walk = Walk { bytes, at: 0, path: Vec::new(), visit };
    walk.structure(0)?;
    Ok(walk.at)
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

impl<F: FnMut(&[i16], Event) -> Result<(), Flaw>> Walk<'_, F> {
    fn byte(&mut self) -> Result<u8, Flaw> {
        let byte = *self.bytes.get(self.at).ok_or(Flaw::CutOff)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: u64) -> Result<(), Flaw> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        self.at = end.filter(|end| *end <= self.bytes.len()).ok_or(Flaw::CutOff)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Flaw> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Flaw::Wrong("a number has too many bytes"))
    }

    /// A signed number: even ones count up from 0, odd ones down from -1.
    fn signed(&mut self) -> Result<i64, Flaw> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn structure(&mut self, depth: usize) -> Result<(), Flaw> {
        let mut field = 0_i16;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return (self.visit)(&self.path, Event::StructEnd);
            }
            field = match header >> 4 {
                0 => i16::try_from(self.signed()?)
                    .map_err(|_| Flaw::Wrong("a field has an impossible number"))?,
                step => {
                    field.checked_add(step.into()).ok_or(Flaw::Wrong("a field has an impossible number"))?
                }
            };
            self.path.push(field);
            self.value(header & 0x0f, depth, false)?;
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8, depth: usize, is_element: bool) -> Result<(), Flaw> {
        if depth > PARQUET_DEPTH_MAX {
            return Err(Flaw::Wrong("it is nested too deeply"));
        }
        match kind {
            // The value of a field stands in its header; that of an element in a byte of its own.
            TRUE | FALSE => self.skip(is_element.into()),
            BYTE => self.skip(1),
            4..=6 => {
                let value = self.signed()?;
                (self.visit)(&self.path, Event::Integer(value))
            }
            DOUBLE => self.skip(8),
            BINARY => {
                let length = self.varint()?;
                self.skip(length)
            }
            LIST | SET => {
                let header = self.byte()?;
                let count = match header >> 4 {
                    15 => self.varint()?,
                    count => count.into(),
                };
                self.elements(count, &[header & 0x0f], depth)
            }
            MAP => match self.varint()? {
                0 => Ok(()),
                count => {
                    let kinds = self.byte()?;
                    self.elements(count, &[kinds >> 4, kinds & 0x0f], depth)
                }
            },
            STRUCT => self.structure(depth + 1),
            _ => Err(Flaw::Wrong("a value is of a type that is not known")),
        }
    }

    fn elements(&mut self, count: u64, kinds: &[u8], depth: usize) -> Result<(), Flaw> {
        if count > PARQUET_LIST_ELEMENTS_MAX {
            return Err(Flaw::Wrong("a list is too long"));
        }
        for _ in 0..count {
            for kind in kinds {
                self.value(*kind, depth + 1, true)?;
            }
        }
        Ok(())
    }
}

/// Field of the file's metadata that holds the elements of the schema, in the order of a walk down its tree.
const SCHEMA_FIELD: i16 = 2;

/// Field of a schema element that holds the number of its children.
const CHILDREN_FIELD: i16 = 5;

/// Checks the metadata of a whole file.
pub(super) fn check_metadata(bytes: &[u8]) -> Result<(), Flaw> {
    let mut children = 0;
    // Of every element on the way down to the current one, how many children are still to come.
    let mut open: Vec<i64> = Vec::new();
    let length = walk_struct(bytes, |path, event| {
        match (path, event) {
            ([SCHEMA_FIELD, CHILDREN_FIELD], Event::Integer(count)) => {
                if !(0..=bytes.len() as i64).contains(&count) {
                    return Err(Flaw::Wrong("a part of its schema has an impossible number of children"));
                }
                children = count;
            }
            ([SCHEMA_FIELD], Event::StructEnd) => {
                if let Some(left) = open.last_mut() {
                    *left -= 1;
                }
                if children > 0 {
                    open.push(std::mem::take(&mut children));
                }
                if open.len() > PARQUET_DEPTH_MAX {
                    return Err(Flaw::Wrong("its schema is nested too deeply"));
                }
                while open.last() == Some(&0) {
                    open.pop();
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if length != bytes.len() {
        return Err(Flaw::Wrong("bytes follow its metadata"));
    }
    Ok(())
}

/// Encodings of texts whose lengths are themselves encoded. Their number stands inside the page, often compressed, and
/// the decoder allocates it unseen; few writers choose these encodings by themselves.
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;

/// What the header of a page says.
#[derive(Debug, PartialEq)]
pub(super) struct PageSizes {
    /// Bytes of the header.
    pub(super) header_bytes: u64,
    /// Bytes that follow it.
    pub(super) stored_bytes: u64,
    /// Bytes that these are once decompressed.
    pub(super) held_bytes: u64,
}

/// Reads the header of a page at the start of `bytes`.
pub(super) fn page_sizes(bytes: &[u8]) -> Result<PageSizes, Flaw> {
    let (mut held, mut stored, mut dictionary_values) = (None, None, 0);
    let length = walk_struct(bytes, |path, event| {
        match (path, event) {
            ([2], Event::Integer(value)) => held = u64::try_from(value).ok(),
            ([3], Event::Integer(value)) => stored = u64::try_from(value).ok(),
            ([7, 1], Event::Integer(value)) => dictionary_values = value,
            ([5, 2] | [8, 4], Event::Integer(DELTA_LENGTH_BYTE_ARRAY | DELTA_BYTE_ARRAY)) => {
                return Err(Flaw::Wrong(
                    "its texts are in a delta encoding, which is not read; write them with plain or dictionary encoding",
                ));
            }
            _ => {}
        }
        Ok(())
    })?;
    let (held_bytes, stored_bytes) = held.zip(stored).ok_or(Flaw::Wrong("it has no size"))?;
    if !u64::try_from(dictionary_values).is_ok_and(|values| values <= held_bytes) {
        return Err(Flaw::Wrong("its dictionary claims more values than it has bytes"));
    }
    Ok(PageSizes { header_bytes: length as u64, stored_bytes, held_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema of groups in one another, `levels` deep.
    fn nested(levels: u8) -> Vec<u8> {
        // Field 2: a list of structs; each has field 5, a number of children, except for the innermost.
        let mut bytes = vec![0x29, 0xfc, levels + 1];
        for _ in 0..levels {
            bytes.extend([0x55, 2, 0]);
        }
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn schemas_are_bounded_in_depth_and_children() {
        assert_eq!(check_metadata(&nested(64)), Ok(()));
        assert_eq!(check_metadata(&nested(65)), Err(Flaw::Wrong("its schema is nested too deeply")));
        let many = [0x29, 0x1c, 0x55, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert!(matches!(check_metadata(&many), Err(Flaw::Wrong(reason)) if reason.contains("children")));
    }

    #[test]
    fn lists_texts_and_nesting_must_fit_the_bytes() {
        // A list of 2^31 - 1 structs; a text of 2^42 bytes; lists in lists.
        let long_list = [0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07];
        assert_eq!(check_metadata(&long_list), Err(Flaw::Wrong("a list is too long")));
        assert_eq!(check_metadata(&[0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0]), Err(Flaw::CutOff));
        let deep = [&[0x19][..], &[0x19; 200]].concat();
        assert_eq!(check_metadata(&deep), Err(Flaw::Wrong("it is nested too deeply")));
        assert_eq!(check_metadata(&[0x1d, 0]), Err(Flaw::Wrong("a value is of a type that is not known")));
        assert_eq!(check_metadata(&[0, 0]), Err(Flaw::Wrong("bytes follow its metadata")));
        assert_eq!(check_metadata(&[]), Err(Flaw::CutOff));
    }

    #[test]
    fn page_headers_tell_their_sizes() {
        // Fields 1, 2 and 3 of type i32: 0, 300, 20; then a struct with a field that must not be mistaken for them.
        let header = [0x15, 0, 0x15, 0xd8, 0x04, 0x15, 40, 0x2c, 0x25, 2, 0x15, 4, 0, 0, 0x77];
        let expected = PageSizes { header_bytes: 14, stored_bytes: 20, held_bytes: 300 };
        assert_eq!(page_sizes(&header), Ok(expected));
        assert_eq!(page_sizes(&header[..13]), Err(Flaw::CutOff));
        assert_eq!(page_sizes(&[0x15, 0, 0x15, 1, 0x15, 40, 0]), Err(Flaw::Wrong("it has no size")));
        let dictionary = [0x15, 4, 0x15, 20, 0x15, 20, 0x4c, 0x15, 22, 0, 0];
        assert_eq!(
            page_sizes(&dictionary),
            Err(Flaw::Wrong("its dictionary claims more values than it has bytes"))
        );
        let delta = [0x15, 0, 0x15, 20, 0x15, 20, 0x2c, 0x15, 2, 0x15, 14, 0, 0];
        assert!(matches!(page_sizes(&delta), Err(Flaw::Wrong(reason)) if reason.contains("delta encoding")));
    }
}
