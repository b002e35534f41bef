//! Sizes of files and functions, names, words that must not stay.

use crate::source::Source;
use crate::tree::{Finding, Tree};

const FILE_LINES_MAX: usize = 500;
/// Tests and benchmarks are lists of cases: they may be longer.
const TEST_FILE_LINES_MAX: usize = 900;
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing about what lives there.
const EMPTY_NAMES: [&str; 8] =
    ["common", "helper", "helpers", "manager", "managers", "types", "util", "utils"];

/// Macros that stand for code somebody still has to write, or has to remove.
const UNFINISHED_MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Comments that say the same.
const UNFINISHED_WORDS: [&str; 2] = ["FIXME", "XXX"];

/// No file, folder or module of Rust has a name that says nothing.
pub(crate) fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let text =
        |name: &str| format!("`{name}` says nothing about what lives there: name it after its subject");
    for source in &tree.sources {
        for part in source.path.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part) {
                findings.push(Finding::new(&source.path, 1, text(part)));
            }
        }
        for index in 0..source.tokens.len() {
            let named = source.word(index + 1).filter(|name| EMPTY_NAMES.contains(name));
            let inline = source.code(index + 2) == "{";
            if let (Some("mod"), Some(name), true) = (source.word(index), named, inline) {
                findings.push(Finding::new(&source.path, source.line(index), text(name)));
            }
        }
    }
    findings
}

/// Files and functions stay under their limits.
pub(crate) fn sizes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let of_tests = source.path.starts_with("tests/") || source.path.starts_with("benches/");
        let limit = if of_tests { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
        if source.line_count > limit {
            let text = format!("{} lines, at most {limit}: split the file by subject", source.line_count);
            findings.push(Finding::new(&source.path, limit + 1, text));
        }
        for function in source.functions() {
            let lines = function.last_line - function.first_line + 1;
            if lines > FUNCTION_LINES_MAX {
                let text = format!(
                    "function {} has {lines} lines, at most {FUNCTION_LINES_MAX}: give its steps names of their own",
                    function.name
                );
                findings.push(Finding::new(&source.path, function.first_line, text));
            }
        }
    }
    findings
}

/// Nothing stands for work to be done, and no test is switched off.
pub(crate) fn unfinished(tree: &Tree) -> Vec<Finding> {
    tree.sources.iter().flat_map(unfinished_in).collect()
}

fn unfinished_in(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for index in 0..source.tokens.len() {
        let line = source.line(index);
        let word = source.word(index).unwrap_or_default();
        if UNFINISHED_MACROS.contains(&word) && source.code(index + 1) == "!" {
            let text = format!("`{word}!` is no result: write the code, or an error that says what to do");
            findings.push(Finding::new(&source.path, line, text));
        }
        let inside = source.attribute(index).unwrap_or_default();
        let mut words = inside.filter_map(|at| source.word(at));
        let (first, ignored) = (words.next(), words.any(|word| word == "ignore"));
        if first == Some("ignore") || (first == Some("cfg_attr") && ignored) {
            let text = "a test that is switched off proves nothing: make it run, or remove it";
            findings.push(Finding::new(&source.path, line, text));
        }
    }
    for comment in &source.comments {
        let mut words = comment.text.split(|next: char| !next.is_alphanumeric());
        if let Some(word) = words.find(|word| UNFINISHED_WORDS.contains(word)) {
            let text = format!("`{word}` in a comment: do it, or say in plain words what the limit is");
            findings.push(Finding::new(&source.path, comment.line, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Tree::of_texts(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn empty_names_are_found() {
        for path in ["src/base/utils.rs", "src/common/mod.rs", "tests/helpers/mod.rs", "src/base/types.rs"] {
            assert_eq!(found(names, path, ""), [1], "{path}");
        }
        assert_eq!(found(names, "src/base/ids.rs", "\nmod manager {}"), [2]);
        assert_eq!(found(names, "src/base/ids.rs", "fn common(types: u8) {} mod commons {}"), []);
    }

    #[test]
    fn long_files_are_found() {
        let lines = |count: usize| "// x\n".repeat(count);
        assert_eq!(found(sizes, "src/a.rs", &lines(500)), []);
        assert_eq!(found(sizes, "src/a.rs", &lines(501)), [501]);
        assert_eq!(found(sizes, "tools/examples/a.rs", &lines(501)), [501]);
        assert_eq!(found(sizes, "tests/a.rs", &lines(900)), []);
        assert_eq!(found(sizes, "benches/a.rs", &lines(901)), [901]);
    }

    #[test]
    fn long_functions_are_found() {
        let function = |inner: usize| format!("\nfn a() {{\n{}}}\n", "let _ = \"}\"; // }\n".repeat(inner));
        assert_eq!(found(sizes, "src/a.rs", &function(68)), []);
        assert_eq!(found(sizes, "src/a.rs", &function(69)), [2]);
        assert_eq!(found(sizes, "tests/a.rs", &function(69)), [2]);
    }

    #[test]
    fn unfinished_work_is_found() {
        for text in [
            "\ntodo!()",
            "\nstd::unimplemented!(\"x\")",
            "\ndbg!(1)",
            "\n#[ignore]",
            "\n#[ignore = \"slow\"]",
            "\n#[cfg_attr(miri, ignore)]",
            "\n/* a\n */ // XXX: later",
            "\n/// FIXME",
        ] {
            let lines = found(unfinished, "tests/a.rs", text);
            assert_eq!(lines.len(), 1, "{text}");
        }
        let fine = "#[test] fn ignore() { let s = \"todo!() FIXME\"; } // XXXIV, todo!\n#[allow(ignore_x)]";
        assert_eq!(found(unfinished, "tests/a.rs", fine), []);
    }
}
