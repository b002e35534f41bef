//! Torch pickles: recognised, never loaded.
//!
//! `torch.save` writes a zip archive with a member `data.pkl`, older versions a bare pickle. A pickle is a program: reading
//! one runs whatever its writer wanted. Nothing here looks further than the first bytes.

use super::ForeignError;

/// Bytes in which the first member of an archive is named.
const ARCHIVE_HEAD_BYTES: usize = 512;

/// What may follow the protocol of a pickle: a frame, an object, a list, a class, a tuple, torch's old magic number.
const FIRST_OPERATIONS: &[u8] = b"\x95}](cX\x8c\x8a";

/// Whether these are the first bytes of a pickle, or of an archive with one in it.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"PK\x03\x04") {
        let head = &bytes[..bytes.len().min(ARCHIVE_HEAD_BYTES)];
        return head.windows(8).any(|name| name == b"data.pkl");
    }
    matches!(bytes, [0x80, 2..=5, operation, .., b'.'] if FIRST_OPERATIONS.contains(operation))
}

/// Refuses a pickle by its place.
pub(super) fn refuse_pickle(file: &str, bytes: &[u8]) -> Result<(), ForeignError> {
    if is_pickle(bytes) { Err(ForeignError::Pickle { file: file.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_of_both_kinds_are_recognised_and_other_files_are_not() {
        let archive = [b"PK\x03\x04\0\0\x08\x08".as_slice(), &[0; 22], b"state/data.pkl"].concat();
        for pickle in
            [&archive[..], b"\x80\x02}q\0.", b"\x80\x04\x95\x05\0.", b"\x80\x02\x8a\nl\xfc\x9cF\xf9."]
        {
            let text = refuse_pickle("a.pt", pickle).unwrap_err().to_string();
            assert!(
                text.starts_with("a.pt is a torch pickle") && text.contains("weights_only=True"),
                "{text}"
            );
        }
        let tensors = [&640_u64.to_le_bytes()[..], b"{}."].concat();
        for other in [&b"PK\x03\x04 other"[..], b"", b"\x80\x02", b"{}", b"\x93NUMPY\x01\0", &tensors] {
            assert!(refuse_pickle("a", other).is_ok(), "{other:?}");
        }
    }
}
