//! Owners of external crates, files that may hold `unsafe`.

use std::collections::BTreeSet;

use crate::manifest::entries;
use crate::paths::{Crate, Mention};
use crate::tree::{Finding, Tree};

/// Where each external crate may be named, below `src/`: a file, or a folder with `/` at its end; the empty text is
/// everywhere. One place to change when a crate has to go.
const OWNERS: [(&str, &[&str]); 39] = [
    ("arrow_array", &["filter/", "format/metadata.rs", "sources/"]),
    ("arrow_buffer", &["filter/", "format/metadata.rs", "sources/"]),
    ("arrow_ipc", &["filter/", "format/metadata.rs", "sources/"]),
    ("arrow_schema", &["filter/", "format/metadata.rs", "sources/"]),
    ("bincode", &["format/"]),
    ("bytemuck", &["kernels/"]),
    ("bytes", &["encoder/", "format/metadata.rs", "storage/sealed.rs"]),
    ("candle_core", &["encoder/bert/", "encoder/head/", "training/"]),
    ("candle_nn", &["encoder/bert/", "encoder/head/", "training/"]),
    ("chrono", &["base/field.rs"]),
    ("clap", &["cli/", "main.rs"]),
    ("clap_complete", &["cli/", "main.rs"]),
    ("clap_mangen", &["cli/", "main.rs"]),
    ("comfy_table", &["answers/"]),
    ("csv", &["sources/"]),
    ("ctrlc", &["cli/", "main.rs"]),
    ("faer", &["curvature/", "stats/"]),
    ("flate2", &["sources/"]),
    // Only its feature is needed: candle calls it.
    ("gemm", &[]),
    ("glob", &["cli/"]),
    ("half", &["kernels/", "sources/"]),
    ("hnsw_rs", &["index/graph/builder_hnsw_rs.rs"]),
    ("indicatif", &["cli/", "main.rs"]),
    ("libm", &["encoder/"]),
    ("memmap2", &["storage/map.rs"]),
    ("parquet", &["sources/"]),
    ("rayon", &["curvature/", "encoder/bert/", "engine/", "index/", "monitor/", "training/"]),
    ("rustix", &["storage/free_space.rs"]),
    ("redb", &["storage/catalog.rs", "storage/catalog/"]),
    ("roaring", &["base/rows.rs"]),
    ("safetensors", &["encoder/", "format/tensors.rs", "sources/", "training/"]),
    (
        "serde",
        &[
            "answers/",
            "base/field.rs",
            "cli/",
            "encoder/",
            "engine/",
            "format/",
            "sketch/",
            "sources/",
            "training/",
        ],
    ),
    (
        "serde_json",
        &[
            "answers/",
            "base/field.rs",
            "cli/",
            "encoder/",
            "engine/",
            "evaluation/",
            "format/",
            "sketch/",
            "sources/",
            "training/",
        ],
    ),
    ("sha2", &["base/fingerprint.rs"]),
    ("sqlparser", &["filter/"]),
    ("thiserror", &[""]),
    ("tokenizers", &["encoder/bert/", "encoder/head/", "training/"]),
    ("twox_hash", &["base/checksum.rs"]),
    ("zstd", &["sources/"]),
];

/// Single names of a crate that may also be used elsewhere: what a derive needs beside its type.
const NAMES_ELSEWHERE: [(&str, &[&str], &str); 2] =
    [("bincode", &["Encode", "Decode"], "base/"), ("bincode", &["Encode", "Decode"], "storage/catalog/")];

/// The files that may hold `unsafe`, each block with its reason.
const UNSAFE_FILES: [&str; 8] = [
    "src/encoder/bert/cuda.rs",
    "src/kernels/x86.rs",
    "src/kernels/x86_coarse.rs",
    "src/kernels/x86_codes.rs",
    "src/kernels/x86_dense.rs",
    "src/kernels/x86_pairs.rs",
    "src/storage/map.rs",
    // A global allocator cannot be written without; it counts for the damage tests.
    "tests/damage/allocations.rs",
];

/// External crates are named only by their owners, and the list of owners is that of the dependencies. Code that only
/// a test build has is free.
pub(crate) fn owners(tree: &Tree) -> Vec<Finding> {
    let mut findings = against_manifest(tree);
    for module in Crate::read(tree).modules.iter().filter(|module| !module.test) {
        let path = &module.source.path;
        let inside = path.trim_start_matches("src/");
        let mut seen = BTreeSet::new();
        for mention in module.mentions.iter().filter(|mention| !mention.test) {
            let Some((name, places)) = owned(mention) else { continue };
            let allowed = places.iter().any(|place| covers(place, inside))
                || !module.may_be_external(mention)
                || named_elsewhere(mention, name, inside);
            if !allowed && seen.insert((mention.line, name)) {
                let text = format!(
                    "crate {name} belongs to src/{{{}}}: let its owner offer what is needed here",
                    places.join(", ")
                );
                findings.push(Finding::new(path, mention.line, text));
            }
        }
    }
    findings
}

fn owned(mention: &Mention) -> Option<(&'static str, &'static [&'static str])> {
    let first = mention.segments.first()?;
    OWNERS.iter().copied().find(|(name, _)| name == first)
}

fn covers(place: &str, inside: &str) -> bool {
    place == inside || ((place.is_empty() || place.ends_with('/')) && inside.starts_with(place))
}

fn named_elsewhere(mention: &Mention, name: &str, inside: &str) -> bool {
    let item = mention.segments.get(1).map_or("", String::as_str);
    NAMES_ELSEWHERE
        .iter()
        .any(|(of, items, place)| *of == name && items.contains(&item) && covers(place, inside))
}

fn against_manifest(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.text("Cargo.toml") else { return Vec::new() };
    let dependencies: Vec<(String, usize)> = entries(manifest)
        .into_iter()
        .filter(|entry| entry.section.ends_with("dependencies") && entry.section != "dev-dependencies")
        .map(|entry| (entry.name.replace('-', "_"), entry.line))
        .collect();
    let mut findings = Vec::new();
    for (name, line) in &dependencies {
        if !OWNERS.iter().any(|(owned, _)| owned == name) {
            let text = format!(
                "dependency {name} has no owner: name the files that may use it in tests/tidy/crates.rs"
            );
            findings.push(Finding::new("Cargo.toml", *line, text));
        }
    }
    for (name, _) in OWNERS {
        if !dependencies.iter().any(|(dependency, _)| dependency == name) {
            let text = format!(
                "crate {name} has owners in tests/tidy/crates.rs but is no dependency: remove the entry"
            );
            findings.push(Finding::new("Cargo.toml", 1, text));
        }
    }
    findings
}

/// `unsafe` stands only in the files that exist for it.
pub(crate) fn unsafe_files(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources.iter().filter(|source| !UNSAFE_FILES.contains(&source.path.as_str()));
    sources
        .flat_map(|source| {
            let tokens = (0..source.tokens.len()).filter(|&index| source.word(index) == Some("unsafe"));
            tokens.map(|index| {
                let text =
                    format!("`unsafe` stands only in {}: ask one of them for it", UNSAFE_FILES.join(", "));
                Finding::new(&source.path, source.line(index), text)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        owners(&Tree::of_texts(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn crates_outside_their_files_are_found() {
        for text in [
            "\nuse memmap2::Mmap;",
            "\nuse ::memmap2::Mmap;",
            "\nuse {std::io, memmap2 as map};",
            "\nfn f() -> memmap2::Mmap {}",
            "\nextern crate memmap2;",
            "\nmod inner { use memmap2::Mmap; }",
            "\nuse bincode::Encode;",
            "\n#[derive(::bincode::Decode)] struct A;",
        ] {
            assert_eq!(found("src/storage/disk.rs", text), [2], "{text}");
        }
        assert_eq!(found("src/engine/store.rs", "use arrow_array::Array;"), [1]);
        assert_eq!(found("src/base/ids.rs", "use bincode::encode_to_vec;"), [1]);
    }

    #[test]
    fn owners_and_names_of_our_own_are_free() {
        assert_eq!(found("src/storage/map.rs", "use memmap2::Mmap; use thiserror::Error;"), []);
        assert_eq!(found("src/storage/catalog/write.rs", "use redb::Database;"), []);
        assert_eq!(found("src/base/ids.rs", "#[derive(bincode::Encode, bincode::Decode)] struct A;"), []);
        assert_eq!(found("src/base/mod.rs", "mod bytes; pub use bytes::ByteReader;"), []);
        assert_eq!(found("src/engine/a.rs", "use crate::base::bytes; fn f() { bytes::read() }"), []);
        assert_eq!(found("src/engine/a.rs", "// redb::Database\nfn f() { \"redb::Database\" }"), []);
        assert_eq!(found("src/kernels/a.rs", "#[cfg(test)] mod tests { use serde_json::json; }"), []);
    }

    #[test]
    fn a_place_is_a_file_or_a_folder() {
        assert!(covers("sources/", "sources/csv.rs") && covers("", "a.rs") && covers("main.rs", "main.rs"));
        assert!(!covers("main.rs", "main.rs/x.rs") && !covers("sources/", "sources.rs"));
    }

    #[test]
    fn owners_and_dependencies_must_agree() {
        let mut manifest = "[dependencies]\n# New.\nnew-crate = \"1\"\n".to_owned();
        for (name, _) in OWNERS.iter().skip(1) {
            manifest.push_str(&format!("# Old.\n{name} = \"1\"\n"));
        }
        let texts: Vec<String> =
            owners(&Tree::of_texts(&[("Cargo.toml", &manifest)])).iter().map(Finding::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("Cargo.toml:3: dependency new_crate has no owner"));
        assert!(texts[1].contains("crate arrow_array has owners") && texts[1].contains("no dependency"));
    }

    #[test]
    fn unsafe_elsewhere_is_found() {
        let tree = Tree::of_texts(&[
            ("src/kernels/x86.rs", "unsafe { a() }"),
            ("src/kernels/scalar.rs", "// unsafe\n\"unsafe\";\nunsafe { a() }"),
            ("tests/a.rs", "unsafe fn b() {}"),
        ]);
        let lines: Vec<_> =
            unsafe_files(&tree).into_iter().map(|finding| (finding.path, finding.line)).collect();
        assert_eq!(lines, [("src/kernels/scalar.rs".to_owned(), 3), ("tests/a.rs".to_owned(), 1)]);
    }
}
