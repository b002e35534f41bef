//! Relative links in Markdown lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Finding, Tree};

/// Relative links and anchors of every Markdown file lead to files of the repository and to headings in them.
pub(crate) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let places = tree.places();
    for file in tree.files.iter().filter(|file| file.extension() == "md") {
        let Some(text) = &file.text else { continue };
        for (line, target) in targets(text) {
            let outside = target.contains("://") || target.starts_with("mailto:");
            if outside {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let place = if path.is_empty() { Some(file.path.clone()) } else { joined(&file.path, path) };
            let Some(place) = place.filter(|place| places.contains(place.as_str()) || place.is_empty())
            else {
                let text = format!(
                    "link to `{target}` leads nowhere: name a file of the repository, relative to this one"
                );
                findings.push(Finding::new(&file.path, line, text));
                continue;
            };
            let of_markdown = place.ends_with(".md") && !anchor.is_empty();
            if of_markdown && !anchors(tree.text(&place).unwrap_or_default()).contains(anchor) {
                let text =
                    format!("link to `{target}`: {place} has no heading `{anchor}`; correct the anchor");
                findings.push(Finding::new(&file.path, line, text));
            }
        }
    }
    findings
}

/// `link` seen from the file `from`; `None` if it leaves the repository or is absolute.
fn joined(from: &str, link: &str) -> Option<String> {
    if link.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Lines outside fenced blocks, counted from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, Some(mark)) => fence = Some(mark),
            (None, None) => lines.push((index + 1, line)),
            _ => {}
        }
    }
    lines
}

fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    // An odd number of quotes leaves the last one open: what follows it is prose.
    let open_tail = parts.len().is_multiple_of(2).then(|| parts.len() - 1);
    let keep = |index: usize| index.is_multiple_of(2) || Some(index) == open_tail;
    parts.iter().enumerate().map(|(index, part)| if keep(index) { part } else { "_" }).collect()
}

/// Targets outside code spans: of `[text](target)`, `![text](target)` and `[name]: target`.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut targets = Vec::new();
    let mut take = |line: usize, raw: &str| {
        let raw = raw.trim();
        let target = match raw.strip_prefix('<') {
            Some(rest) => rest.split('>').next(),
            None => raw.split_whitespace().next(),
        };
        targets.extend(target.map(|target| (line, target.to_owned())));
    };
    for (number, line) in prose(text) {
        let line = without_code(line);
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            take(number, &rest[..end]);
            rest = &rest[end..];
        }
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
        if let Some((_, target)) = definition {
            take(number, target);
        }
    }
    targets
}

/// Anchors of the headings, as the usual renderers name them, and of explicit `id="..."`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).into_iter().filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| title.trim().to_owned())
    });
    for title in headings {
        let keep = |next: char| next.is_alphanumeric() || matches!(next, '-' | '_' | ' ');
        let slug: String = title.to_lowercase().chars().filter(|&next| keep(next)).collect();
        let slug = slug.replace(' ', "-");
        let seen = times.entry(slug.clone()).or_default();
        anchors.insert(if *seen == 0 { slug } else { format!("{slug}-{seen}") });
        *seen += 1;
    }
    for part in text.split("id=\"").skip(1) {
        anchors.extend(part.split('"').next().map(str::to_owned));
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<usize> {
        let tree = Tree::of_texts(&[
            ("storage-format/rows.md", text),
            (
                "storage-format/catalog.md",
                "# The catalog\n## Keys, values & `more`\n## Same\n## Same\n```\n# No heading in code\n```\n<a id=\"here\"></a>",
            ),
            ("tools/demo", ""),
        ]);
        links(&tree).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn broken_links_are_found() {
        for text in [
            "\n[a](gone.md)",
            "\n![a](picture.png)",
            "\n[a](../../outside)",
            "\n[a](/tools/demo)",
            "\n[a](#no-heading)",
            "\n[a](catalog.md#gone)",
            "\n[a](catalog.md#same-2)",
            "\n[a](catalog.md#no-heading-in-code)",
            "\n[a]: gone.md \"title\"",
            "\nan ` open quote and [a](gone.md)",
        ] {
            assert_eq!(found(text), [2], "{text}");
        }
        assert_eq!(found("[a](gone.md) [b](lost.md)"), [1, 1]);
        assert_eq!(found("```\n[a](gone.md)\n```\n[b](lost.md)"), [4]);
    }

    #[test]
    fn good_links_pass() {
        let text = "# Own heading\n[a](catalog.md) [b](./catalog.md#the-catalog) [c](catalog.md#keys-values--more) [d](#own-heading)\n\
            [e](catalog.md#same-1) [f](<catalog.md#here>) [g](../tools/demo \"title\") [h](../tools/) [i](https://example.org/x)\n\
            `[j](gone.md)`\n```\n[k](gone.md)\n```\n[l]: catalog.md\n[m](../)";
        assert_eq!(found(text), []);
    }
}
