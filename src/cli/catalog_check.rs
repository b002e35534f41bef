//! Checking a catalog in a child process that may die.
//!
//! The catalog's library can abort on damaged pages, which no wall inside a process catches. The child is this same
//! program with the hidden verb `check-catalog`: catalog bytes in on standard input; out on standard output nothing,
//! if nothing was ever committed, or the manifest.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use super::failure::Failure;
use crate::base::limits::{CATALOG_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::base::{ByteReader, CommitSeq};
use crate::format::{MANIFEST_MAGIC, Manifest, decode_manifest, encode_manifest};
use crate::storage::{CatalogCheck, CatalogError, check_catalog_bytes};

/// Name of the hidden verb.
pub(super) const CHECK_CATALOG_VERB: &str = "check-catalog";

/// Bytes of the child's message that are kept.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// Checks catalogs in a child process: this program itself, which must therefore be the `ascribe` binary.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckInChild;

impl CatalogCheck for CheckInChild {
    fn check(&self, bytes: Vec<u8>) -> Result<Option<Manifest>, CatalogError> {
        let cannot = |error: io::Error| CatalogError::NotChecked { reason: error.to_string() };
        let mut child = std::env::current_exe()
            .and_then(|program| {
                Command::new(program)
                    .arg(CHECK_CATALOG_VERB)
                    .env("RUST_BACKTRACE", "0")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
            })
            .map_err(cannot)?;
        let (manifest, message) = converse(&mut child, bytes).map_err(cannot)?;
        let status = child.wait().map_err(cannot)?;
        if !status.success() {
            let reason = match message.trim() {
                "" => format!("the process that checked it ended with {status}"),
                message => message.to_owned(),
            };
            return Err(CatalogError::Damaged { reason });
        }
        let damaged = |reason: String| CatalogError::Damaged { reason };
        if manifest.is_empty() {
            return Ok(None);
        }
        let commit = commit_of(&manifest).ok_or_else(|| damaged("its check gave no manifest".to_owned()))?;
        decode_manifest(&manifest, commit).map(Some).map_err(|error| damaged(error.to_string()))
    }
}

/// Feeds the child and reads what it says. Three pipes at once, so that none fills up while another is waited for.
fn converse(child: &mut Child, bytes: Vec<u8>) -> io::Result<(Vec<u8>, String)> {
    let (Some(mut input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("the process has no pipes"));
    };
    let feed = move |input: &mut ChildStdin| {
        // A child that died early has closed the pipe; its status says so.
        let _ = input.write_all(&bytes);
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            feed(&mut input);
            drop(input);
        });
        let message = scope.spawn(move || message_of(errors));
        let manifest = manifest_of(output);
        Ok((manifest?, message.join().unwrap_or_default()))
    })
}

fn manifest_of(output: ChildStdout) -> io::Result<Vec<u8>> {
    let mut manifest = Vec::new();
    output.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut manifest)?;
    Ok(manifest)
}

fn message_of(mut errors: ChildStderr) -> String {
    let mut message = Vec::new();
    // What cannot be read is not shown.
    let _ = errors.by_ref().take(MESSAGE_BYTES_MAX).read_to_end(&mut message);
    let _ = io::copy(&mut errors, &mut io::sink());
    String::from_utf8_lossy(&message).into_owned()
}

/// The commit that a manifest's header names.
fn commit_of(manifest: &[u8]) -> Option<CommitSeq> {
    let mut reader = ByteReader::new(manifest);
    // Magic, two versions of two bytes, four reserved bytes; the manifest's own decoder checks them.
    reader.take(MANIFEST_MAGIC.len() + 8).ok()?;
    reader.u64().ok().map(CommitSeq)
}

/// The verb `check-catalog`: reads catalog bytes from `input`, writes the manifest in them to `out`.
pub(super) fn check_catalog(input: impl Read, out: &mut dyn Write) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    input.take(CATALOG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CATALOG_BYTES_MAX {
        return Err(Failure::Failed(format!("it has more than {CATALOG_BYTES_MAX} bytes")));
    }
    let state = check_catalog_bytes(bytes).map_err(|error| match error {
        // The parent says the rest.
        CatalogError::Damaged { reason } => Failure::Failed(reason),
        other => Failure::from(other),
    })?;
    match state {
        None => Ok(()),
        Some(manifest) => out.write_all(&encode_manifest(&manifest)?).map_err(Failure::Output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FieldDeclaration;
    use crate::format::{CommitRecord, StoreRecord};

    #[test]
    fn damage_is_told() {
        let mut out = Vec::new();
        assert!(matches!(check_catalog(&[7_u8; 5000][..], &mut out), Err(Failure::Failed(_))));
        assert!(out.is_empty());
    }

    #[test]
    fn the_commit_stands_where_the_header_says() {
        assert_eq!(commit_of(b"short"), None);
        let commit = CommitSeq(0x0102_0304);
        let fields: Vec<FieldDeclaration> = Vec::new();
        let manifest = Manifest {
            store: StoreRecord {
                store: [7; 16],
                commit,
                next_segment: crate::base::SegmentId(1),
                next_column: crate::base::ColumnId(1),
                next_counter: 1,
                fields,
                next_curvature: 1,
                curvatures: Vec::new(),
                columns: Vec::new(),
            },
            segments: Vec::new(),
            deleted: Vec::new(),
            sources: Vec::new(),
            last: CommitRecord {
                commit,
                unix_ms: 0,
                operation: "create".to_owned(),
                rows_added: 0,
                rows_deleted: 0,
            },
        };
        let bytes = encode_manifest(&manifest).unwrap();
        assert_eq!(commit_of(&bytes), Some(commit));
        assert_eq!(decode_manifest(&bytes, commit).unwrap(), manifest);
    }
}
