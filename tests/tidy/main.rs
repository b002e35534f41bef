//! The rules of the house, held by a test, because in one crate nothing else can hold them.
//!
//! Each rule is a function from the tree of files to what it found wrong; beside each rule stand small bad inputs on
//! which it must fail. Run alone: `cargo test --test tidy`.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `crates.rs` | owners of external crates, files that may hold `unsafe` |
//! | `floors.rs` | which room may import which, no import circles inside a folder |
//! | `folders.rs` | `mod.rs` holds no logic, and its table names exactly the files of its folder |
//! | `manifest.rs` | every dependency and feature says why it is there |
//! | `markdown.rs` | relative links lead somewhere |
//! | `paths.rs` | which module a written path means |
//! | `shape.rs` | sizes of files and functions, names, words that must not stay |
//! | `source.rs` | the one scanner of Rust text: comments and strings apart from code |
//! | `tracked.rs` | what may lie in the repository, and no paths of one machine in it |
//! | `tree.rs` | the files of the repository, and what a rule finds |

mod crates;
mod floors;
mod folders;
mod manifest;
mod markdown;
mod paths;
mod shape;
mod source;
mod tracked;
mod tree;

use tree::{Finding, Tree};

fn hold(rule: fn(&Tree) -> Vec<Finding>) {
    let tree = Tree::of_repository();
    assert!(tree.is_ok(), "cannot read the repository: {:?}", tree.err());
    let Ok(tree) = tree else { return };
    for needed in ["Cargo.toml", "src/lib.rs", "tests/tidy/main.rs"] {
        assert!(tree.has(needed), "the list of files lacks {needed}: the rules would hold for nothing");
    }
    let findings = rule(&tree);
    let lines: String = findings.iter().map(|finding| format!("\n  {finding}")).collect();
    assert!(findings.is_empty(), "{} finding(s):{lines}\n", findings.len());
}

#[test]
fn rooms_import_only_lower_floors() {
    hold(floors::floors);
}

#[test]
fn no_import_circles_in_a_folder() {
    hold(floors::circles);
}

#[test]
fn external_crates_stay_with_their_owners() {
    hold(crates::owners);
}

#[test]
fn unsafe_stays_in_its_files() {
    hold(crates::unsafe_files);
}

#[test]
fn folder_tables_name_their_files() {
    hold(folders::tables);
}

#[test]
fn folder_files_hold_no_logic() {
    hold(folders::no_logic);
}

#[test]
fn markdown_links_lead_somewhere() {
    hold(markdown::links);
}

#[test]
fn names_say_something() {
    hold(shape::names);
}

#[test]
fn files_and_functions_stay_small() {
    hold(shape::sizes);
}

#[test]
fn nothing_is_left_unfinished() {
    hold(shape::unfinished);
}

#[test]
fn dependencies_and_features_say_why() {
    hold(manifest::reasons);
}

#[test]
fn no_paths_or_hosts_of_one_machine() {
    hold(tracked::machine_names);
}

#[test]
fn repository_holds_only_what_belongs_there() {
    hold(tracked::places_and_sizes);
}
