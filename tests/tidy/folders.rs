//! `mod.rs` holds no logic, and its table names exactly the files of its folder.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Kind, Source};
use crate::tree::{Finding, Tree};

/// Folders below `src/`, each with the files and folders (these with `/`) that lie directly in it.
fn folders(tree: &Tree) -> BTreeMap<String, BTreeSet<String>> {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for place in tree.places() {
        let Some((folder, name)) = place.rsplit_once('/') else { continue };
        if folder.starts_with("src/") {
            let mark = if tree.has(place) { "" } else { "/" };
            folders.entry(folder.to_owned()).or_default().insert(format!("{name}{mark}"));
        }
    }
    folders
}

/// A row of the table in a `mod.rs`.
struct Row {
    name: String,
    says: String,
    line: usize,
}

fn rows(source: &Source) -> Vec<Row> {
    let row = |line: usize, text: &str| {
        let mut cells = text.strip_prefix("//!")?.trim().strip_prefix('|')?.split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        // Other tables may stand there too: a row of this one names a Rust file or a folder.
        if !name.ends_with(".rs") && !name.ends_with('/') {
            return None;
        }
        Some(Row { name, says: cells.next().unwrap_or_default().to_owned(), line })
    };
    source.comments.iter().filter_map(|comment| row(comment.line, &comment.text)).collect()
}

/// Each folder below `src/` has a `mod.rs` whose table names each other file and folder there, and nothing else.
pub(crate) fn tables(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, names) in folders(tree) {
        let path = format!("{folder}/mod.rs");
        let Some(source) = tree.sources.iter().find(|source| source.path == path) else {
            let text =
                "folder without mod.rs: add one with a table of its files (x.rs beside x/ becomes x/mod.rs)";
            findings.push(Finding::new(&folder, 1, text));
            continue;
        };
        let rows = rows(source);
        for name in names.iter().filter(|name| *name != "mod.rs") {
            match rows.iter().filter(|row| row.name == *name).count() {
                1 => {}
                0 => findings.push(Finding::new(
                    &path,
                    1,
                    format!("table lacks `{name}`: add a row that says what lives there"),
                )),
                _ => {
                    findings.push(Finding::new(&path, 1, format!("table names `{name}` twice: keep one row")))
                }
            }
            findings.extend(undeclared(tree, &folder, name));
        }
        for row in &rows {
            if !names.contains(&row.name) {
                let text = format!("table names `{}`, which is not in the folder: remove the row", row.name);
                findings.push(Finding::new(&path, row.line, text));
            } else if row.says.is_empty() {
                findings.push(Finding::new(
                    &path,
                    row.line,
                    format!("`{}` has no description: say what lives there", row.name),
                ));
            }
        }
    }
    findings
}

/// A Rust file that no `mod` line names is not compiled, and nothing would say so.
fn undeclared(tree: &Tree, folder: &str, name: &str) -> Option<Finding> {
    let module = name.strip_suffix(".rs").or(name.strip_suffix('/'))?;
    let inside = format!("{folder}/");
    let mut siblings = tree
        .sources
        .iter()
        .filter(|source| source.path.strip_prefix(&inside).is_some_and(|rest| !rest.contains('/')));
    let declared = siblings.any(|source| {
        (0..source.tokens.len()).any(|index| {
            let own = source.path.ends_with("/mod.rs") && source.word(index + 1) == Some(module);
            let by_path = source.word(index) == Some("path")
                && source
                    .tokens
                    .get(index + 2)
                    .is_some_and(|token| token.kind == Kind::Text && token.text == name);
            (source.word(index) == Some("mod") && own) || by_path
        })
    });
    let text = "no `mod` line names it, so it is not compiled: declare it in mod.rs or remove it";
    (!declared && (name.ends_with(".rs") || tree.has(&format!("{folder}/{name}mod.rs"))))
        .then(|| Finding::new(&format!("{folder}/{name}"), 1, text))
}

/// A `mod.rs` below `src/` has docs, attributes, `mod name;` and `pub use`, and nothing else.
pub(crate) fn no_logic(tree: &Tree) -> Vec<Finding> {
    let files = tree
        .sources
        .iter()
        .filter(|source| source.path.starts_with("src/") && source.path.ends_with("/mod.rs"));
    files
        .filter_map(|source| Some((source, first_logic(source)?)))
        .map(|(source, line)| {
            let text =
                "mod.rs holds docs, `mod name;` and `pub use` only: move the rest into a file of the folder";
            Finding::new(&source.path, line, text)
        })
        .collect()
}

/// Line of the first item that does not belong into a `mod.rs`.
fn first_logic(source: &Source) -> Option<usize> {
    let mut index = 0;
    while index < source.tokens.len() {
        if let Some(inside) = source.attribute(index) {
            index = inside.end + 1;
            continue;
        }
        let mut item = index;
        let public = source.word(item) == Some("pub");
        if public {
            item += 1;
            if source.code(item) == "(" {
                item = source.closing(item) + 1;
            }
        }
        let end = match source.word(item) {
            Some("mod") if source.code(item + 2) == ";" => Some(item + 2),
            Some("use") if public => source.first_outside(item, &[";"]),
            _ => None,
        };
        match end {
            Some(end) => index = end + 1,
            None => return Some(source.line(index)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! Room.\n//!\n//! | file | what |\n//! | --- | --- |\n//! | `a.rs` | first |\n//! | `b/` | second |\n\
        mod a;\nmod b;\npub use a::{A, B};\n";

    fn shown(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(|finding| finding.to_string()).collect()
    }

    fn found(table: &str) -> Vec<String> {
        let inner = "//! | `c.rs` | third |\n#[cfg(test)]\npub(crate) mod c;";
        shown(tables(&Tree::of_texts(&[
            ("src/lib.rs", "pub mod room;"),
            ("src/room/mod.rs", table),
            ("src/room/a.rs", ""),
            ("src/room/b/mod.rs", inner),
            ("src/room/b/c.rs", ""),
        ])))
    }

    #[test]
    fn a_true_table_passes() {
        assert_eq!(found(GOOD), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let missing = found(&GOOD.replace("//! | `b/` | second |\n", ""));
        assert_eq!(missing, ["src/room/mod.rs:1: table lacks `b/`: add a row that says what lives there"]);
        let gone = found(&GOOD.replace("//! | `b/`", "//! | `gone.rs` | x |\n//! | `b/`"));
        assert_eq!(
            gone,
            ["src/room/mod.rs:6: table names `gone.rs`, which is not in the folder: remove the row"]
        );
        let silent = found(&GOOD.replace("| first |", "| |"));
        assert_eq!(silent, ["src/room/mod.rs:5: `a.rs` has no description: say what lives there"]);
        let twice = found(&GOOD.replace("//! | `b/`", "//! | `a.rs` | again |\n//! | `b/`"));
        assert_eq!(twice, ["src/room/mod.rs:1: table names `a.rs` twice: keep one row"]);
        let orphan = found(&GOOD.replace("mod a;\n", ""));
        assert!(
            orphan.len() == 1 && orphan[0].starts_with("src/room/a.rs:1: no `mod` line names it"),
            "{orphan:?}"
        );
    }

    #[test]
    fn a_folder_without_its_file_is_found() {
        let found = shown(tables(&Tree::of_texts(&[("src/room/a.rs", "")])));
        assert!(found.len() == 1 && found[0].starts_with("src/room:1: folder without mod.rs"), "{found:?}");
    }

    #[test]
    fn test_files_may_be_declared_by_their_sibling() {
        let found = tables(&Tree::of_texts(&[
            ("src/room/mod.rs", "//! | `a.rs` | first |\n//! | `a_tests.rs` | its tests |\nmod a;"),
            ("src/room/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;"),
            ("src/room/a_tests.rs", ""),
        ]));
        assert_eq!(shown(found), [""; 0]);
    }

    #[test]
    fn logic_is_found() {
        for logic in [
            "fn f() {}",
            "use a::A;",
            "mod inline { }",
            "pub const A: u8 = 1;",
            "macro_rules! m { () => {} }",
        ] {
            let text = format!("{GOOD}#[allow(x)]\npub(crate) use a::C;\n{logic}\nmod z;");
            let found = no_logic(&Tree::of_texts(&[("src/room/mod.rs", &text)]));
            assert_eq!(found.into_iter().map(|finding| finding.line).collect::<Vec<_>>(), [12], "{logic}");
        }
        let good = Tree::of_texts(&[
            ("src/room/mod.rs", GOOD),
            ("src/room/a.rs", "fn f() {}"),
            ("tests/mod.rs", "fn f() {}"),
        ]);
        assert_eq!(shown(no_logic(&good)), [""; 0]);
    }
}
