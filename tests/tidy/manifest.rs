//! Every dependency and feature says why it is there.

use crate::tree::{Finding, Tree};

/// A line of `Cargo.toml` that names a dependency or a feature.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Without brackets: `dependencies`, `features`, `target.'cfg(unix)'.dependencies`.
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) line: usize,
    /// The comment above it, or above the entries it directly follows; empty if there is none.
    comment: String,
    /// Name of the first entry under that comment.
    group: String,
}

/// All dependencies and features of a manifest.
pub(crate) fn entries(manifest: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut section, mut comment, mut group) = (String::new(), String::new(), String::new());
    let mut open_brackets = 0_i64;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        let inside = open_brackets > 0;
        let code = line.split(" #").next().unwrap_or_default();
        if !line.starts_with('#') && !line.starts_with('[') {
            let count = |brackets: [char; 2]| code.matches(brackets).count() as i64;
            open_brackets += count(['[', '{']) - count([']', '}']);
        }
        if inside {
            continue;
        }
        let mut entry = |section: &str, name: &str, comment: &str, group: &mut String| {
            if group.is_empty() {
                name.clone_into(group);
            }
            entries.push(Entry {
                section: section.to_owned(),
                name: name.to_owned(),
                line: index + 1,
                comment: comment.to_owned(),
                group: group.clone(),
            });
        };
        if let Some(text) = line.strip_prefix('#') {
            // A comment below an entry begins a new group.
            if !group.is_empty() {
                comment.clear();
                group.clear();
            }
            comment.push_str(text);
            comment.push('\n');
        } else if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
            // `[dependencies.name]` is a section of one dependency.
            if let Some((table, name)) = section.rsplit_once('.').filter(|(table, _)| is_list(table)) {
                entry(table, name, &comment, &mut group);
            }
            comment.clear();
            group.clear();
        } else if line.is_empty() {
            comment.clear();
            group.clear();
        } else if is_list(&section) {
            let name = line.split(['=', '.']).next().unwrap_or_default().trim().trim_matches('"');
            entry(&section, name, &comment, &mut group);
        }
    }
    entries
}

fn is_list(section: &str) -> bool {
    section == "features" || section.split('.').next_back().is_some_and(|last| last.ends_with("dependencies"))
}

/// A comment stands above each entry. It may stand above several if it names the others, or if their names begin
/// with the first one's (`serde`, `serde_json`).
pub(crate) fn reasons(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.text("Cargo.toml") else { return Vec::new() };
    let unexplained = entries(manifest).into_iter().filter(|entry| {
        let words = |text: &str| -> Vec<String> {
            let inner = |next: char| next.is_alphanumeric() || next == '_' || next == '-';
            text.split(|next| !inner(next)).map(str::to_owned).collect()
        };
        let explained = entry.name.starts_with(&entry.group) || words(&entry.comment).contains(&entry.name);
        entry.comment.trim().is_empty() || !explained
    });
    unexplained
        .map(|entry| {
            let text =
                format!("{} in [{}] has no reason: write a comment above it", entry.name, entry.section);
            Finding::new("Cargo.toml", entry.line, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str) -> Vec<usize> {
        reasons(&Tree::of_texts(&[("Cargo.toml", manifest)]))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn entries_without_a_reason_are_found() {
        assert_eq!(found("[dependencies]\na = \"1\"\n"), [2]);
        assert_eq!(found("[dependencies]\n# Why a.\na = \"1\"\nb.version = \"1\"\n"), [4]);
        assert_eq!(found("[dev-dependencies]\n# Above a gap.\n\na = \"1\"\n"), [4]);
        assert_eq!(found("[features]\n#\ndefault = []\n"), [3]);
        assert_eq!(found("[dependencies.a]\nversion = \"1\"\n"), [1]);
        assert_eq!(found("# Of the table.\n[target.'cfg(unix)'.dependencies]\na = \"1\"\n"), [3]);
        assert_eq!(
            found(
                "[dependencies]\n# Why a.\na = { version = \"1\", features = [\n  \"x\",\n] }\nb = \"1\"\n"
            ),
            [6]
        );
    }

    #[test]
    fn entries_with_a_reason_pass() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\n# cli: the binary.\ndefault = [\"cli\"]\ncli = [\n  \"dep:a\",\n]\n\n\
            [dependencies]\n# JSON.\nserde = \"1\"\nserde_json = \"1\"\n# Why.\nb = \"1\"\n\n# One.\n[dependencies.c]\nversion = \"1\"\n";
        assert_eq!(found(manifest), []);
        let named: Vec<String> =
            entries(manifest).into_iter().map(|entry| format!("{}/{}", entry.section, entry.name)).collect();
        assert_eq!(
            named,
            [
                "features/default",
                "features/cli",
                "dependencies/serde",
                "dependencies/serde_json",
                "dependencies/b",
                "dependencies/c"
            ]
        );
    }
}
