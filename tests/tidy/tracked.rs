//! What may lie in the repository, and no paths of one machine in it.

use crate::tree::{Finding, Tree};

/// What stands at the top, besides dot-files. Anything else belongs into one of these folders.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "src",
    "storage-format",
    "tests",
    "benches",
    "tools",
];

/// A clone stays quick; larger data is made by a script or fetched by its user.
const FILE_BYTES_MAX: u64 = 5 << 20;

/// Folders that exist on the machine of whoever wrote the line. Put together here, so that this file passes its rule.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Parts of host names that only a private network or a package mirror has.
const PRIVATE_PARTS: [&str; 6] = ["registry", "mirror", "artifactory", "nexus", "jfrog", "proxy"];
const PRIVATE_ENDS: [&str; 5] = [".internal", ".local", ".corp", ".lan", ".intranet"];
const OWN_HOSTS: [&str; 4] = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]"];

const PUBLIC_INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Only the known names stand at the top, and no file is large.
pub(crate) fn places_and_sizes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let top = file.path.split('/').next().unwrap_or_default();
        if !TOP_LEVEL.contains(&top) && !top.starts_with('.') {
            let text = format!(
                "`{top}` at the top of the repository: only {} and dot-files stand there",
                TOP_LEVEL.join(", ")
            );
            findings.push(Finding::new(&file.path, 1, text));
        }
        if file.size_bytes > FILE_BYTES_MAX {
            let text = format!(
                "{} bytes, at most {FILE_BYTES_MAX}: make it by a script, or keep a smaller sample",
                file.size_bytes
            );
            findings.push(Finding::new(&file.path, 1, text));
        }
    }
    findings
}

/// No text names a folder or a host that other machines do not have.
pub(crate) fn machine_names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let lines = file.text.as_deref().unwrap_or_default().lines().enumerate();
        for (index, line) in lines {
            if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| names_folder(line, folder)) {
                let text =
                    format!("path of one machine ({folder}...): write it relative, or take it from a flag");
                findings.push(Finding::new(&file.path, index + 1, text));
            }
            if let Some(host) = hosts(line).into_iter().find(|host| is_private(host)) {
                let text = format!(
                    "host `{host}` exists for one network only: name a public one, or take it from a flag"
                );
                findings.push(Finding::new(&file.path, index + 1, text));
            }
            let source = line.strip_prefix("source = \"").and_then(|rest| rest.strip_suffix('"'));
            let locked = file.path.ends_with("Cargo.lock").then_some(source).flatten();
            if locked.is_some_and(|source| source != PUBLIC_INDEX) {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "package from elsewhere: lock it from crates.io",
                ));
            }
        }
    }
    findings
}

/// Whether `folder` stands in `line` as the beginning of a path.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let inside = |before: char| before.is_alphanumeric() || "_.-~*})>".contains(before);
        !line[..at].chars().next_back().is_some_and(inside)
    })
}

/// Hosts of the addresses in `line`, with their ports.
fn hosts(line: &str) -> Vec<&str> {
    let ends = |next: char| next.is_whitespace() || "/\"'`<>(),;?#|\\".contains(next);
    let mut hosts = Vec::new();
    for start in ["http://", "https://"] {
        for (at, _) in line.match_indices(start) {
            let host = line[at + start.len()..].split(ends).next().unwrap_or_default();
            hosts.extend(host.rsplit('@').next().map(|host| host.trim_end_matches(['.', ':'])));
        }
    }
    hosts
}

fn is_private(host: &str) -> bool {
    let port = host.rsplit_once(':').filter(|(_, port)| port.chars().all(|next| next.is_ascii_digit()));
    let name = port.map_or(host, |(name, _)| name);
    // A host made up by a script is not known here.
    if name.is_empty() || name.contains(['$', '{', '%']) || OWN_HOSTS.contains(&name) {
        return false;
    }
    !name.contains('.')
        || port.is_some()
        || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
        || PRIVATE_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::File;

    fn found(path: &str, text: &str) -> Vec<usize> {
        machine_names(&Tree::of_texts(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            for before in ["", "cd ", "\"", "path=", "(", "`", "file://"] {
                assert_eq!(
                    found("README.md", &format!("\n{before}{folder}somebody")),
                    [2],
                    "{before}{folder}"
                );
            }
            for before in ["https://example.org", "tools", "$DIR", "{}", ".", "~"] {
                assert_eq!(found("README.md", &format!("{before}{folder}x")), [], "{before}{folder}");
            }
        }
    }

    #[test]
    fn private_hosts_are_found() {
        for host in [
            "registry.example.org/x",
            "crates-mirror.example.org",
            "build.corp",
            "somewhere",
            "10.0.0.7:8080",
            "a@nexus.example.org",
        ] {
            assert_eq!(found("tools/check", &format!("\nurl=\"http{}{host}\"", "s://")), [2], "{host}");
        }
        for host in [
            "example.org",
            "localhost:8787",
            "127.0.0.1:8787/x",
            "github.com/rust-lang/crates.io-index",
            "$HOST:80",
            "{host}/x",
        ] {
            assert_eq!(found("tools/check", &format!("url=\"http{}{host}\"", "://")), [], "{host}");
        }
    }

    #[test]
    fn packages_from_elsewhere_are_found() {
        assert_eq!(found("Cargo.lock", "source = \"git+ssh://example.org/x\"\n"), [1]);
        assert_eq!(found("Cargo.lock", &format!("source = \"{PUBLIC_INDEX}\"\n")), []);
    }

    #[test]
    fn strangers_at_the_top_are_found() {
        let tree = Tree::of_texts(&[
            ("notes.txt", ""),
            ("docs/a.md", ""),
            ("src/a.rs", ""),
            (".ci/run", ""),
            ("tools/check", ""),
        ]);
        let paths: Vec<_> = places_and_sizes(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["notes.txt", "docs/a.md"]);
    }

    #[test]
    fn large_files_are_found() {
        let file = |path: &str, size_bytes| File { path: path.to_owned(), size_bytes, text: None };
        let files = vec![file("tests/a.bin", FILE_BYTES_MAX), file("tests/b.bin", FILE_BYTES_MAX + 1)];
        let paths: Vec<_> = places_and_sizes(&Tree { files, sources: Vec::new() })
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(paths, ["tests/b.bin"]);
    }
}
