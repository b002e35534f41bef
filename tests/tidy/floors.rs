//! Which room may import which, no import circles inside a folder.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{BINARY, Crate, Mention, Module, ModulePath};
use crate::tree::{Finding, Tree};

/// Rooms and their floors. A room imports only lower floors; rooms of one floor do not know each other.
const FLOORS: [(&str, usize); 20] = [
    ("base", 0),
    ("kernels", 1),
    ("stats", 1),
    ("filter", 1),
    ("format", 2),
    ("sources", 2),
    ("storage", 3),
    ("index", 3),
    ("sketch", 3),
    ("curvature", 4),
    ("encoder", 4),
    ("attribution", 4),
    ("engine", 5),
    ("training", 6),
    ("evaluation", 6),
    ("monitor", 6),
    ("answers", 7),
    ("server", 8),
    ("shell", 8),
    ("cli", 9),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// A room imports only lower floors, tests included.
pub(crate) fn floors(tree: &Tree) -> Vec<Finding> {
    let all = Crate::read(tree);
    let mut findings = Vec::new();
    for module in &all.modules {
        let path = &module.source.path;
        let Some(room) = module.module.first() else { continue };
        if room == BINARY {
            continue;
        }
        let Some(own) = floor(room) else {
            let text = format!("room {room} has no floor: give it one in tests/tidy/floors.rs");
            findings.push(Finding::new(path, 1, text));
            continue;
        };
        let mut seen = BTreeSet::new();
        for mention in &module.mentions {
            let Some(target) = target(&all, module, mention) else { continue };
            let text = match target.first() {
                Some(other) if other == room => continue,
                Some(other) => match floor(other) {
                    Some(floor) if floor < own => continue,
                    Some(floor) => format!(
                        "{room} (floor {own}) imports {other} (floor {floor}): a room imports only lower floors; move \
                         what both need down, or let a higher floor pass it in"
                    ),
                    None => format!(
                        "`{}` is in no room of the floor table: put the item into a room, or give the room a floor in \
                         tests/tidy/floors.rs",
                        mention.segments.join("::")
                    ),
                },
                None => "imports the root of the crate: name the room".to_owned(),
            };
            if seen.insert((mention.line, text.clone())) {
                findings.push(Finding::new(path, mention.line, text));
            }
        }
    }
    findings
}

/// What `mention` means; a name that the crate's root re-exports means what it re-exports.
fn target(all: &Crate<'_>, module: &Module<'_>, mention: &Mention) -> Option<ModulePath> {
    let target = module.resolve(mention)?;
    let first = target.first().cloned().unwrap_or_default();
    let known = floor(&first).is_some() || all.has_child(&[], &first);
    if known { Some(target) } else { Some(all.origin(&[], &first).unwrap_or(target)) }
}

/// For one folder: which of its files and folders imports which, and where.
type Edges = BTreeMap<String, BTreeMap<String, (String, usize)>>;

/// Files and folders side by side do not import each other in a circle. Code that only a test build has may.
pub(crate) fn circles(tree: &Tree) -> Vec<Finding> {
    let all = Crate::read(tree);
    let mut folders: BTreeMap<ModulePath, Edges> = BTreeMap::new();
    for module in all.modules.iter().filter(|module| !module.test) {
        for mention in module.mentions.iter().filter(|mention| !mention.test) {
            let Some(target) = target(&all, module, mention) else { continue };
            // Level 0 would be the rooms, which have floors.
            for level in 1..module.module.len() {
                let (folder, from) = (&module.module[..level], &module.module[level]);
                for to in siblings(&all, folder, &target) {
                    if to != *from {
                        let place = (module.source.path.clone(), mention.line);
                        let edges = folders.entry(folder.to_vec()).or_default();
                        edges.entry(from.clone()).or_default().entry(to).or_insert(place);
                    }
                }
            }
        }
    }
    folders.iter().flat_map(|(folder, edges)| circles_of(&folder.join("/"), edges)).collect()
}

/// The files and folders of `folder` that `target` leads to.
fn siblings(all: &Crate<'_>, folder: &[String], target: &[String]) -> BTreeSet<String> {
    let child = |path: &[String]| {
        let name = path.strip_prefix(folder)?.first()?;
        all.has_child(folder, name).then(|| name.clone())
    };
    let Some(rest) = target.strip_prefix(folder) else { return BTreeSet::new() };
    match rest.first() {
        // The folder as a whole: everything its `mod.rs` brings in.
        None => all.brought_in(folder).iter().filter_map(|path| child(path)).collect(),
        Some(name) if all.has_child(folder, name) => BTreeSet::from([name.clone()]),
        Some(name) => all.origin(folder, name).iter().filter_map(|path| child(path)).collect(),
    }
}

fn circles_of(folder: &str, edges: &Edges) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut finished = BTreeSet::new();
    for start in edges.keys() {
        let mut way = Vec::new();
        walk(start, edges, &mut way, &mut finished, &mut |circle: &[String]| {
            let steps = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(from, to)| {
                let (path, line) = &edges[from][to];
                format!("{from} imports {to} ({path}:{line})")
            });
            let text = format!(
                "import circle in src/{folder}: {}; move what both need into a file of its own",
                steps.collect::<Vec<_>>().join(", ")
            );
            let (path, line) = &edges[&circle[0]][&circle[1 % circle.len()]];
            findings.push(Finding::new(path, *line, text));
        });
    }
    findings
}

fn walk(
    node: &str,
    edges: &Edges,
    way: &mut Vec<String>,
    finished: &mut BTreeSet<String>,
    report: &mut impl FnMut(&[String]),
) {
    if let Some(start) = way.iter().position(|name| name == node) {
        report(&way[start..]);
        return;
    }
    if finished.contains(node) {
        return;
    }
    way.push(node.to_owned());
    for next in edges.get(node).into_iter().flat_map(BTreeMap::keys) {
        walk(next, edges, way, finished, report);
    }
    way.pop();
    finished.insert(node.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor_lines(path: &str, text: &str) -> Vec<(usize, String)> {
        let lib = ("src/lib.rs", "pub mod base; pub mod engine; pub use engine::Store; pub use base::RowId;");
        let tree = Tree::of_texts(&[
            lib,
            ("src/base/mod.rs", ""),
            ("src/engine/mod.rs", ""),
            ("src/storage/mod.rs", ""),
            (path, text),
        ]);
        floors(&tree).into_iter().filter(|finding| finding.path == path).map(|f| (f.line, f.text)).collect()
    }

    #[test]
    fn every_way_to_a_higher_floor_is_found() {
        for text in [
            "\nuse crate::engine::Store;",
            "\nuse crate::{base::RowId, engine};",
            "\nuse super::super::engine::Store;",
            "\nfn f(s: &crate::engine::Store) {}",
            "\nmacro_rules! m { () => { $crate::engine::open() } }",
            "\n#[derive(crate::engine::Thing)] struct A;",
            "\nuse crate::Store;",
            "\nuse crate::index::Scan;",
            "\nmod a { use super::super::super::engine::X; }",
            "\n#[cfg(test)] mod tests { use crate::engine::Store; }",
            "\nuse crate::*;",
            "\nuse crate::attic::Thing;",
        ] {
            let lines: Vec<usize> =
                floor_lines("src/storage/disk.rs", text).into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, [2], "{text}");
        }
    }

    #[test]
    fn lower_floors_and_the_own_room_are_free() {
        let text = "//! See [`crate::engine::Store`].\nuse crate::base::RowId; use crate::RowId as R; use super::Other;\n\
            use crate::storage::Medium; pub(in crate::storage) fn f() { \"crate::engine::Store\"; std::fs::read(x) }";
        assert_eq!(floor_lines("src/storage/disk.rs", text), []);
    }

    #[test]
    fn a_room_without_a_floor_is_found() {
        let found = floor_lines("src/attic/mod.rs", "");
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("room attic has no floor"), "{found:?}");
    }

    fn circle_texts(files: &[(&str, &str)]) -> Vec<String> {
        circles(&Tree::of_texts(files)).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn circles_are_found_through_re_exports() {
        for (first, second) in [
            ("use super::second::B;", "use super::first::A;"),
            ("use super::B;", "use super::A;"),
            ("use super::B;", "fn f() { crate::base::A::new() }"),
            ("use crate::base::{self};", "use super::A;"),
            ("use super::*;", "use super::first;"),
            ("use super::Glob;", "use super::A;"),
        ] {
            let found = circle_texts(&[
                (
                    "src/base/mod.rs",
                    "mod first; mod second; pub use first::A; pub use second::B; pub use second::*;",
                ),
                ("src/base/first.rs", first),
                ("src/base/second.rs", &format!("{second} pub struct B; pub struct Glob;")),
            ]);
            assert_eq!(found.len(), 1, "{first} {second}: {found:?}");
            assert!(
                found[0].starts_with("src/base/first.rs:1: import circle in src/base: first imports second")
            );
        }
    }

    #[test]
    fn circles_through_folders_and_longer_ones_are_found() {
        let found = circle_texts(&[
            ("src/encoder/mod.rs", "mod a; mod b; mod c;"),
            ("src/encoder/a.rs", "use super::b::inner::X;"),
            ("src/encoder/b/mod.rs", "pub mod inner;"),
            ("src/encoder/b/inner.rs", "\n\nuse super::super::c::Y;"),
            ("src/encoder/c.rs", "use crate::encoder::a::Z;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("b imports c (src/encoder/b/inner.rs:3)"), "{found:?}");
    }

    #[test]
    fn tests_and_one_way_imports_are_no_circle() {
        let found = circle_texts(&[
            ("src/base/mod.rs", "mod a; mod b;\n#[cfg(test)]\nmod c; pub use a::A; pub use b::B;"),
            ("src/base/a.rs", "use super::B; use self::inside::C; mod inside { use super::super::B; }"),
            ("src/base/b.rs", "pub struct B; #[cfg(test)] mod tests { use super::*; use super::super::A; }"),
            ("src/base/c.rs", "use super::{A, B};"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
