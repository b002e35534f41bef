//! The files that an ingest reads: what was typed, with folders and patterns expanded.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

use super::failure::Failure;
use super::session::note;
use crate::answers::count_shown;
use crate::sources::list_folder;

/// Ignored files of a folder that a note names.
const SHOWN_FILES: usize = 5;

/// As the shell expands a pattern: hidden files only where the pattern names the dot.
const AS_THE_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files that `typed` stands for, each once and in order: files as they are, of a folder what it holds, of a pattern
/// that the shell did not expand what it matches.
pub(super) fn expanded(typed: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Files::default();
    for path in typed {
        let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']));
        match pattern {
            // A file may have such characters in its name.
            Some(pattern) if fs::symlink_metadata(path).is_err() => {
                for found in matches(pattern)? {
                    files.add(found)?;
                }
            }
            _ => files.add(path.clone())?,
        }
    }
    Ok(files.list)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let found = glob_with(pattern, AS_THE_SHELL)
        .map_err(|error| Failure::Usage(format!("{pattern:?} is no pattern of files: {error}")))?;
    let mut paths = found.collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        return Err(Failure::Failed(format!(
            "no file matches {pattern:?}; check the pattern and the folder that it begins in"
        )));
    }
    paths.sort();
    Ok(paths)
}

/// Files to read.
#[derive(Default)]
struct Files {
    list: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Files {
    fn add(&mut self, path: PathBuf) -> Result<(), Failure> {
        if !path.is_dir() {
            self.add_file(path);
            return Ok(());
        }
        let listing = list_folder(&path)?;
        if !listing.ignored.is_empty() {
            note(&ignored_text(&path, &listing.ignored));
        }
        for file in listing.files {
            self.add_file(file);
        }
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf) {
        // What cannot be resolved is refused when it is opened; a pipe may be named as often as one likes.
        let resolved = fs::canonicalize(&path).ok().filter(|path| path.is_file());
        if resolved.is_none_or(|resolved| self.seen.insert(resolved)) {
            self.list.push(path);
        } else {
            note(&format!("{} is named twice; reading it once", path.display()));
        }
    }
}

fn ignored_text(folder: &Path, ignored: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shown: Vec<String> = ignored.iter().take(SHOWN_FILES).map(name).collect();
    let more = match ignored.len().saturating_sub(SHOWN_FILES) {
        0 => String::new(),
        more => format!(" and {} more", count_shown(more as u64)),
    };
    format!("{}: not reading {}{more}", folder.display(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_patterns_become_their_files_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("more")).unwrap();
        for name in ["b.jsonl", "a.jsonl", ".c.jsonl", "d.csv", "[e].jsonl", "more/f.jsonl"] {
            fs::write(at(name), "").unwrap();
        }
        let of = |typed: &[&str]| expanded(&typed.iter().map(|name| at(name)).collect::<Vec<_>>()).unwrap();
        let files = |names: &[&str]| names.iter().map(|name| at(name)).collect::<Vec<_>>();
        assert_eq!(of(&["*.jsonl"]), files(&["[e].jsonl", "a.jsonl", "b.jsonl"]));
        assert_eq!(of(&["[ab].jsonl", "more"]), files(&["a.jsonl", "b.jsonl", "more/f.jsonl"]));
        assert_eq!(of(&["[e].jsonl"]), files(&["[e].jsonl"]));
        assert_eq!(of(&["d.csv", "*.csv", "more/../d.csv", "none"]), files(&["d.csv", "none"]));
        assert_eq!(of(&["."]), ["[e].jsonl", "a.jsonl", "b.jsonl", "d.csv"].map(|name| at(".").join(name)));
        assert_eq!(expanded(&[PathBuf::from("-")]).unwrap(), [PathBuf::from("-")]);
    }

    #[test]
    fn patterns_that_match_nothing_or_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |name: &str| expanded(&[folder.path().join(name)]).unwrap_err().into_exit(false);
        let (code, text) = refusal("*.jsonl");
        assert!(code == 1 && text.unwrap().contains("no file matches"));
        let (code, text) = refusal("a[.jsonl");
        assert!(code == 2 && text.unwrap().contains("is no pattern of files"));
    }
}
