//! Which module a written path means.
//!
//! Reads every path of the crate (`use` trees taken apart, paths in code and macros, attributes) and resolves it to
//! a path from the crate's root, as far as that needs no compiler.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;
use crate::tree::Tree;

/// A path from the crate's root: rooms, folders, files, inline modules, then an item.
pub(crate) type ModulePath = Vec<String>;

/// A path as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) segments: Vec<String>,
    /// The module in which it is written.
    pub(crate) module: ModulePath,
    pub(crate) line: usize,
    /// It ends in `*`.
    pub(crate) glob: bool,
    /// It begins with `::`, so it can only mean an external crate.
    pub(crate) global: bool,
    /// The name that a `use` brings in; `None` for other paths and for `*`.
    pub(crate) bound: Option<String>,
    /// It is part of a `use`.
    pub(crate) import: bool,
    /// Only a test build has it.
    pub(crate) test: bool,
}

/// `mod name;`, its body in another file.
#[derive(Debug)]
struct Declaration {
    name: String,
    module: ModulePath,
    /// The file named by `#[path]`.
    file: Option<String>,
    test: bool,
}

/// A file of the crate.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    pub(crate) source: &'a Source,
    pub(crate) module: ModulePath,
    pub(crate) mentions: Vec<Mention>,
    /// Only a test build has the whole file.
    pub(crate) test: bool,
    declared: BTreeSet<String>,
}

/// All files below `src/`.
#[derive(Debug)]
pub(crate) struct Crate<'a> {
    pub(crate) modules: Vec<Module<'a>>,
    /// For a module, its files and folders.
    children: BTreeMap<ModulePath, BTreeSet<String>>,
    /// For a module, the names its imports bring in, and what they mean.
    bound: BTreeMap<ModulePath, BTreeMap<String, ModulePath>>,
    /// For a module, the modules whose names it takes over with `*`.
    globs: BTreeMap<ModulePath, Vec<ModulePath>>,
    /// For a module, names of the items its file defines.
    items: BTreeMap<ModulePath, BTreeSet<String>>,
}

impl<'a> Crate<'a> {
    pub(crate) fn read(tree: &'a Tree) -> Self {
        let sources: Vec<&Source> =
            tree.sources.iter().filter(|source| source.path.starts_with("src/")).collect();
        let mut scans: Vec<(ModulePath, Vec<Mention>, Vec<Declaration>)> = Vec::new();
        let mut placed: BTreeMap<String, ModulePath> = BTreeMap::new();
        for source in &sources {
            let module = module_of_file(&source.path);
            let (mentions, declarations) = Reader::read(source, &module);
            let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            for declaration in &declarations {
                if let Some(file) = &declaration.file {
                    let mut module = declaration.module.clone();
                    module.push(declaration.name.clone());
                    placed.insert(format!("{folder}/{file}"), module);
                }
            }
            scans.push((module, mentions, declarations));
        }
        let test_modules: BTreeSet<ModulePath> = scans
            .iter()
            .flat_map(|(_, _, declarations)| declarations)
            .filter(|declaration| declaration.test)
            .map(|declaration| joined(&declaration.module, &declaration.name))
            .collect();
        let modules = sources
            .into_iter()
            .zip(scans)
            .map(|(source, (module, mut mentions, declarations))| {
                let own = placed.get(&source.path).cloned().unwrap_or(module.clone());
                for mention in &mut mentions {
                    mention.module.splice(..module.len(), own.iter().cloned());
                }
                Module {
                    source,
                    test: (1..=own.len()).any(|length| test_modules.contains(&own[..length])),
                    module: own,
                    mentions,
                    declared: declarations.into_iter().map(|declaration| declaration.name).collect(),
                }
            })
            .collect();
        Self::link(modules)
    }

    fn link(modules: Vec<Module<'a>>) -> Self {
        let mut all = Self {
            modules: Vec::new(),
            children: BTreeMap::new(),
            bound: BTreeMap::new(),
            globs: BTreeMap::new(),
            items: BTreeMap::new(),
        };
        for module in &modules {
            for length in 0..module.module.len() {
                let (parent, name) = (module.module[..length].to_vec(), module.module[length].clone());
                all.children.entry(parent).or_default().insert(name);
            }
            all.items.insert(module.module.clone(), items(module.source));
            let imports = module.mentions.iter().filter(|mention| mention.import);
            for mention in imports.filter(|mention| mention.module == module.module) {
                let Some(target) = module.resolve(mention) else { continue };
                if let Some(name) = &mention.bound {
                    all.bound.entry(module.module.clone()).or_default().insert(name.clone(), target);
                } else if mention.glob {
                    all.globs.entry(module.module.clone()).or_default().push(target);
                }
            }
        }
        all.modules = modules;
        all
    }

    /// Whether `name` is a file or folder of the module `parent`.
    pub(crate) fn has_child(&self, parent: &[String], name: &str) -> bool {
        self.children.get(parent).is_some_and(|children| children.contains(name))
    }

    /// Where `name`, found in the module `parent`, comes from: what an import there means, or the module whose names
    /// `parent` takes over with `*`. `None` if nothing there brings it in.
    pub(crate) fn origin(&self, parent: &[String], name: &str) -> Option<ModulePath> {
        if let Some(target) = self.bound.get(parent).and_then(|names| names.get(name)) {
            return Some(target.clone());
        }
        let targets = self.globs.get(parent)?;
        targets
            .iter()
            .find(|&target| self.items.get(target).is_some_and(|items| items.contains(name)))
            .cloned()
    }

    /// Every path that the imports of the module `parent` bring in.
    pub(crate) fn brought_in(&self, parent: &[String]) -> Vec<ModulePath> {
        let named = self.bound.get(parent).into_iter().flat_map(BTreeMap::values);
        named.chain(self.globs.get(parent).into_iter().flatten()).cloned().collect()
    }
}

impl Module<'_> {
    /// The path from the crate's root that `mention` means; `None` if it leads out of the crate or begins with a name
    /// that an import or the file itself brings in.
    pub(crate) fn resolve(&self, mention: &Mention) -> Option<ModulePath> {
        if mention.global {
            return None;
        }
        let mut path = mention.module.clone();
        let mut segments = mention.segments.iter();
        match mention.segments.first().map(String::as_str) {
            Some("crate") => {
                path.clear();
                segments.next();
            }
            Some("self") => {
                segments.next();
            }
            Some("super") => {}
            Some(name) if self.declared.contains(name) => path.clone_from(&self.module),
            _ => return None,
        }
        for segment in segments {
            if segment == "super" {
                path.pop();
            } else {
                path.push(segment.clone());
            }
        }
        Some(path)
    }

    /// Whether the first name of `mention` can mean an external crate.
    pub(crate) fn may_be_external(&self, mention: &Mention) -> bool {
        let Some(first) = mention.segments.first() else { return false };
        let brought_in = |other: &Mention| {
            other.bound.as_ref() == Some(first) && other.segments.first() != Some(first) && !other.global
        };
        mention.global || (!self.declared.contains(first) && !self.mentions.iter().any(brought_in))
    }
}

fn joined(module: &[String], name: &str) -> ModulePath {
    let mut path = module.to_vec();
    path.push(name.to_owned());
    path
}

/// The binary is a crate of its own; it stands beside the rooms under a name that no room can have.
pub(crate) const BINARY: &str = "(binary)";

fn module_of_file(path: &str) -> ModulePath {
    if path == "src/main.rs" {
        return vec![BINARY.to_owned()];
    }
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: ModulePath = inside.split('/').map(str::to_owned).collect();
    if inside == "lib" || module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

fn items(source: &Source) -> BTreeSet<String> {
    const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "union"];
    (1..source.tokens.len())
        .filter(|&index| KEYWORDS.contains(&source.code(index - 1)))
        .filter_map(|index| source.word(index).map(str::to_owned))
        .collect()
}

struct Reader<'a> {
    source: &'a Source,
    /// The module of the file, then the inline modules around the current token with the index of their last brace.
    module: ModulePath,
    inline: Vec<usize>,
    tests: Vec<std::ops::Range<usize>>,
    mentions: Vec<Mention>,
    declarations: Vec<Declaration>,
}

impl<'a> Reader<'a> {
    fn read(source: &'a Source, module: &[String]) -> (Vec<Mention>, Vec<Declaration>) {
        let mut reader = Reader {
            source,
            module: module.to_vec(),
            inline: Vec::new(),
            tests: source.test_ranges(),
            mentions: Vec::new(),
            declarations: Vec::new(),
        };
        let mut index = 0;
        while index < source.tokens.len() {
            while reader.inline.last().is_some_and(|&end| end < index) {
                reader.inline.pop();
                reader.module.pop();
            }
            index = reader.step(index);
        }
        (reader.mentions, reader.declarations)
    }

    /// Reads what begins at `index`; the index after it.
    fn step(&mut self, index: usize) -> usize {
        let source = self.source;
        let Some(word) = source.word(index) else { return index + 1 };
        match (word, source.word(index + 1), source.code(index + 2)) {
            ("mod", Some(name), "{") => {
                self.inline.push(source.closing(index + 2));
                self.module.push(name.to_owned());
                index + 3
            }
            ("mod", Some(name), ";") => {
                self.declare(index, name);
                index + 3
            }
            ("extern", Some("crate"), _) => {
                self.mention(vec![source.code(index + 2).to_owned()], index, false, false, None);
                index + 3
            }
            // `use<'a>` says which lifetimes a type captures.
            ("use", _, _) if source.code(index + 1) != "<" => self.use_tree(index + 1, &[], false),
            _ if source.code(index + 1) == "::" => self.path(index),
            _ => index + 1,
        }
    }

    fn in_test(&self, index: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&index))
    }

    fn declare(&mut self, index: usize, name: &str) {
        // `#[path = "file"]` stands among the attributes before it: `path`, `=`, the file, `]`.
        let back = (0..index).rev().take_while(|&at| !matches!(self.source.code(at), ";" | "{" | "}"));
        let path = { back }.find(|&at| self.source.word(at) == Some("path"));
        let file = path.and_then(|at| self.source.tokens.get(at + 2)).map(|token| token.text.clone());
        let test = self.in_test(index);
        self.declarations.push(Declaration {
            name: name.to_owned(),
            module: self.module.clone(),
            file,
            test,
        });
    }

    fn mention(
        &mut self,
        segments: Vec<String>,
        index: usize,
        glob: bool,
        global: bool,
        bound: Option<&str>,
    ) {
        self.mentions.push(Mention {
            segments,
            module: self.module.clone(),
            line: self.source.line(index),
            glob,
            global,
            bound: bound.map(str::to_owned),
            import: glob || bound.is_some(),
            test: self.in_test(index),
        });
    }

    /// A path outside `use`, whose first word is at `index`.
    fn path(&mut self, index: usize) -> usize {
        let source = self.source;
        let before = |back: usize| index.checked_sub(back).map_or("", |at| source.code(at));
        let continued = before(1) == "::";
        let after_name = index >= 2 && (source.word(index - 2).is_some() || before(2) == ">");
        let mut segments = Vec::new();
        let mut at = index;
        while let Some(word) = source.word(at) {
            segments.push(word.to_owned());
            at += 1;
            if source.code(at) != "::" || source.word(at + 1).is_none() {
                break;
            }
            at += 1;
        }
        let visibility = before(1) == "in" && before(2) == "(" && before(3) == "pub";
        let keyword = matches!(before(2), "in" | "as" | "return" | "mut" | "for" | "dyn" | "impl");
        if !visibility && (!continued || keyword || !after_name) {
            self.mention(segments, index, false, continued, None);
        }
        at
    }

    /// The tree of a `use`, from `index` on, behind `prefix`; the index after it.
    fn use_tree(&mut self, index: usize, prefix: &[String], global: bool) -> usize {
        let source = self.source;
        let mut prefix = prefix.to_vec();
        let mut global = global;
        let mut at = index;
        loop {
            match source.code(at) {
                "::" => {
                    global |= prefix.is_empty();
                    at += 1;
                }
                "$" => at += 1,
                "*" => {
                    self.mention(prefix, at, true, global, None);
                    return at + 1;
                }
                "{" => {
                    let end = source.closing(at);
                    at += 1;
                    while at < end {
                        at = if source.code(at) == "," { at + 1 } else { self.use_tree(at, &prefix, global) };
                    }
                    return end + 1;
                }
                _ => {
                    let Some(word) = source.word(at) else { return at + 1 };
                    at += 1;
                    if word != "self" || prefix.is_empty() {
                        prefix.push(word.to_owned());
                    }
                    if source.code(at) == "::" {
                        continue;
                    }
                    let renamed = (source.code(at) == "as").then(|| source.word(at + 1)).flatten();
                    let bound = renamed.or(prefix.last().map(String::as_str)).unwrap_or(word).to_owned();
                    self.mention(prefix, at - 1, false, global, Some(&bound));
                    return if renamed.is_some() { at + 2 } else { at };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Vec<String> {
        let source = Source::scan("src/a/b.rs", text);
        let show = |mention: &Mention| {
            let start = if mention.global { "::" } else { "" };
            let end = if mention.glob { "::*" } else { "" };
            let test = if mention.test { " (test)" } else { "" };
            format!("{start}{}{end}{test}", mention.segments.join("::"))
        };
        Reader::read(&source, &module_of_file("src/a/b.rs")).0.iter().map(show).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let text = "use crate::{base::{self, ids::{A, B as C}}, d::*};\nuse ::half::f16; pub(crate) use super::super::e;";
        assert_eq!(
            written(text),
            [
                "crate::base",
                "crate::base::ids::A",
                "crate::base::ids::B",
                "crate::d::*",
                "::half::f16",
                "super::super::e"
            ]
        );
    }

    #[test]
    fn paths_in_code_attributes_and_macros_are_seen() {
        let text = "#[derive(bincode::Encode, ::serde::Serialize)] struct A;\nmacro_rules! m { () => { $crate::c::d() } }\n\
            fn f(x: &dyn super::T) -> Vec<u8> { Vec::<u8>::new(); <x::Y as crate::z::W>::call::<u8>(); \"crate::no\" }";
        assert_eq!(
            written(text),
            [
                "bincode::Encode",
                "::serde::Serialize",
                "crate::c::d",
                "super::T",
                "Vec",
                "x::Y",
                "crate::z::W"
            ]
        );
    }

    #[test]
    fn visibility_captures_and_comments_are_no_imports() {
        assert!(written("pub(in crate::a) fn f<'a>() -> impl Sized + use<'a> {} // crate::b::C").is_empty());
    }

    #[test]
    fn test_code_is_marked() {
        assert_eq!(
            written("use x::A;\n#[cfg(test)]\nmod tests { use super::*; use y::B; }\nuse z::C;"),
            ["x::A", "super::* (test)", "y::B (test)", "z::C"]
        );
    }

    #[test]
    fn paths_resolve_from_where_they_stand() {
        let tree = Tree::of_texts(&[
            ("src/a/mod.rs", "mod b;\npub use b::{B, b as named};\npub use self::c::*;"),
            (
                "src/a/b.rs",
                "use super::c::C; mod inner { use super::super::c::D; use super::E; }\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;",
            ),
            ("src/a/b_tests.rs", "use super::B;"),
            ("src/a/c.rs", "pub fn shared() {} use ::csv::X; use std::io;"),
        ]);
        let all = Crate::read(&tree);
        let resolved = |path: &str| -> Vec<String> {
            let module = all.modules.iter().find(|module| module.source.path == path).unwrap();
            module.mentions.iter().filter_map(|mention| Some(module.resolve(mention)?.join("/"))).collect()
        };
        assert_eq!(resolved("src/a/b.rs"), ["a/c/C", "a/c/D", "a/b/E"]);
        assert_eq!(resolved("src/a/b_tests.rs"), ["a/b/B"]);
        assert!(resolved("src/a/c.rs").is_empty());
        let a = ["a".to_owned()];
        assert_eq!(all.origin(&a, "B").unwrap().join("/"), "a/b/B");
        assert_eq!(all.origin(&a, "named").unwrap().join("/"), "a/b/b");
        assert_eq!(all.origin(&a, "shared").unwrap().join("/"), "a/c");
        assert_eq!(all.origin(&a, "nowhere"), None);
        assert!(all.has_child(&a, "c") && !all.has_child(&a, "d"));
        let tests: Vec<bool> = all.modules.iter().map(|module| module.test).collect();
        assert_eq!(tests, [false, false, true, false]);
    }
}
