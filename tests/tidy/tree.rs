//! The files of the repository, and what a rule finds.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::source::Source;

/// Something that breaks a rule: where, what, and what to do.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// One file, its path relative to the repository with `/` between folders.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    /// `None` if it is no text, or too large to be kept anyway.
    pub(crate) text: Option<String>,
}

impl File {
    /// The part after the last `.` of the file's name.
    pub(crate) fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

/// All files that belong to the repository, and the scanned Rust files among them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    pub(crate) sources: Vec<Source>,
}

/// Texts up to this size are read; larger files break the size rule before any other.
const TEXT_BYTES_MAX: u64 = 8 << 20;

impl Tree {
    /// The tree this test was built in: what git tracks or would track, or without git every file outside build
    /// outputs.
    pub(crate) fn of_repository() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let paths = match listed_by_git(root) {
            Some(paths) => paths,
            None => found_on_disk(root)?,
        };
        let mut files = Vec::new();
        for path in paths {
            let place = root.join(&path);
            // Git lists a file that was removed and not yet committed.
            let Ok(metadata) = std::fs::symlink_metadata(&place) else { continue };
            let size_bytes = metadata.len();
            let readable = metadata.is_file() && size_bytes <= TEXT_BYTES_MAX;
            let text = if readable { String::from_utf8(std::fs::read(&place)?).ok() } else { None };
            files.push(File { path, size_bytes, text: text.filter(|text| !text.contains('\0')) });
        }
        Ok(Self::of_files(files))
    }

    fn of_files(files: Vec<File>) -> Self {
        let sources = files
            .iter()
            .filter(|file| file.extension() == "rs")
            .filter_map(|file| Some(Source::scan(&file.path, file.text.as_deref()?)))
            .collect();
        Self { files, sources }
    }

    /// A tree made up for a test of a rule.
    pub(crate) fn of_texts(texts: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            size_bytes: text.len() as u64,
            text: Some((*text).to_owned()),
        };
        Self::of_files(texts.iter().map(file).collect())
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }

    /// All files and all folders above them.
    pub(crate) fn places(&self) -> BTreeSet<&str> {
        let mut places = BTreeSet::new();
        for file in &self.files {
            let mut place = file.path.as_str();
            places.insert(place);
            while let Some((folder, _)) = place.rsplit_once('/') {
                places.insert(folder);
                place = folder;
            }
        }
        places
    }
}

fn listed_by_git(root: &Path) -> Option<BTreeSet<String>> {
    // Inside somebody else's repository git would list their view of our files.
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>())
}

fn found_on_disk(root: &Path) -> io::Result<BTreeSet<String>> {
    const DOT_FOLDERS: [&str; 2] = [".ci", ".cargo"];
    let mut paths = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                let hidden = name.starts_with('.') && !DOT_FOLDERS.contains(&name.as_str());
                if name != "target" && !hidden {
                    folders.push(path);
                }
            } else if name != ".git" && !name.ends_with(".profraw") {
                paths.insert(path);
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_same_files_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let on_disk = found_on_disk(root).unwrap();
        assert!(on_disk.contains("src/lib.rs") && on_disk.contains(".cargo/deny.toml"));
        assert!(
            !on_disk
                .iter()
                .any(|path| path.starts_with("target/") || path.starts_with(".git") && path != ".gitignore")
        );
        if let Some(listed) = listed_by_git(root) {
            let missing: Vec<_> =
                listed.iter().filter(|path| root.join(path).exists() && !on_disk.contains(*path)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    }

    #[test]
    fn places_are_files_and_folders() {
        let tree = Tree::of_texts(&[("a/b/c.md", ""), ("d", "")]);
        assert_eq!(tree.places().into_iter().collect::<Vec<_>>(), ["a", "a/b", "a/b/c.md", "d"]);
    }
}
