//! What every storage checks and refuses in the same words: names, ranges, a sync after a failed one.

use std::io;

/// Refuses a name that could lead out of the store, or that another platform would read differently.
///
/// A name is one or more parts with `/` between them. A part is not empty, not `.` and not `..`, and has no backslash,
/// no colon (a drive or a stream on Windows) and no control character. So no name is absolute.
///
/// # Errors
/// `InvalidInput`, with the name and the rule.
pub(super) fn check_file_name(name: &str) -> io::Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.starts_with('/') {
        "it is absolute"
    } else if name.contains(|character: char| matches!(character, '\\' | ':') || character.is_control()) {
        "it has a backslash, a colon or a control character"
    } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "a part of it is empty, '.' or '..'"
    } else {
        return Ok(());
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{name:?} cannot be the name of a file in a store: {reason}; names look like segments/7.rows"
        ),
    ))
}

/// As [`check_file_name`]; the store's own folder, the empty name, is fine too.
///
/// # Errors
/// `InvalidInput`, with the name and the rule.
pub(super) fn check_folder_name(name: &str) -> io::Result<()> {
    if name.is_empty() { Ok(()) } else { check_file_name(name) }
}

/// The folder that `name` is in (empty for the store's own), and the rest of the name.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Refuses a rename between two folders: on a disk it is not atomic for the one who syncs one of them.
///
/// # Errors
/// `InvalidInput`, with both names.
pub(super) fn check_same_folder(from: &str, to: &str) -> io::Result<()> {
    if split_name(from).0 == split_name(to).0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("cannot rename {from} to {to}: they are in different folders; rename within one folder"),
    ))
}

/// Refuses a range that goes past `length`, the length of the file when it was opened.
///
/// # Errors
/// `UnexpectedEof`, with the range and the length.
pub(super) fn check_range(offset: u64, count: usize, length: u64) -> io::Result<()> {
    if offset.checked_add(count as u64).is_some_and(|end| end <= length) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("cannot read {count} bytes at offset {offset}: the file has {length} bytes"),
    ))
}

/// What a second sync after a failed one answers: the system may count the lost pages as clean, so that it would
/// claim success.
pub(super) fn sync_failed_before() -> io::Error {
    io::Error::other(
        "an earlier sync of this file failed; its bytes cannot be relied on, write the file again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_are_refused() {
        let hostile = [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "C:x",
        ];
        for name in hostile.into_iter().chain(["a\0b", "a\nb", "..\\x"]) {
            assert_eq!(check_file_name(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        for name in ["CURRENT", "segments/7.rows", "encoders/ab/model", "..a", "a..b", ".x", "é"] {
            assert!(check_file_name(name).is_ok(), "{name:?}");
        }
        assert!(check_folder_name("").is_ok());
        assert!(check_folder_name("..").is_err());
    }

    #[test]
    fn ranges_past_the_end_are_refused_without_overflow() {
        for (offset, count, fits) in [(0, 5, true), (5, 0, true), (4, 1, true), (5, 1, false), (6, 0, false)]
        {
            assert_eq!(check_range(offset, count, 5).is_ok(), fits, "{offset} {count}");
        }
        assert_eq!(check_range(u64::MAX, 2, u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_name_splits_at_its_last_slash() {
        assert_eq!(split_name("CURRENT"), ("", "CURRENT"));
        assert_eq!(split_name("a/b/c"), ("a/b", "c"));
    }
}
