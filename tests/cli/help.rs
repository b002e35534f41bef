//! Help: what is printed works.

use std::fs;
use std::path::PathBuf;

use crate::scene::{Scene, VERBS, floats, npy};

/// The commands under `Example` in the help of a verb.
fn example(help: &str) -> Vec<&str> {
    let at = help.find("\nExample").unwrap_or_else(|| panic!("no example: {help}"));
    help[at..].lines().skip(2).take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

/// A folder with the stores that the example of a verb takes as given.
fn made_for(arguments: &[&str]) -> Scene {
    let place = Scene::new();
    match arguments {
        ["fit", ..] => place.with_models(),
        ["convert", ..] => {
            let index =
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/importers/bergson/whole");
            fs::create_dir(place.path("index")).expect("a folder can be made");
            for name in ["info.json", "gradients.bin", "config.yaml", "processor_config.yaml"] {
                fs::copy(index.join(name), place.path("index").join(name)).expect("a file can be copied");
            }
            let keys: String = (0..12).map(|row| format!("{{\"key\": \"r{row}\"}}\n")).collect();
            place.write("rows.jsonl", keys);
            place
        }
        ["score" | "self", ..] => {
            let place = place.with_models();
            place.run(&["fit", "models"]).ok();
            place
        }
        ["train-head", ..] => place.with_pets(),
        ["measure-truth", ..] | ["eval", "lds", ..] => {
            let place = place.with_pets();
            place.run(&["train-head", "pets", "--label", "kind", "--runs", "1"]).ok();
            place.run(&["fit", "pets"]).ok();
            let query = |key: &str, kind: &str| {
                format!("{{\"key\": \"{key}\", \"text\": \"a {kind}\", \"kind\": \"{kind}\"}}\n")
            };
            place.write("q.jsonl", query("q0", "cat") + &query("q1", "dog"));
            place
        }
        _ => place,
    }
}

#[test]
fn every_example_works_as_printed() {
    let mut others = vec![vec!["--help"], vec!["eval", "recall", "--help"]];
    if cfg!(feature = "bert") {
        others.push(vec!["eval", "lds", "--help"]);
    }
    for arguments in VERBS.iter().map(|verb| vec![*verb, "--help"]).chain(others) {
        let place = made_for(&arguments);
        let help = place.run(&arguments).ok().out;
        let commands = example(&help);
        assert!(!commands.is_empty(), "{help}");
        assert!(commands.iter().all(|line| line.len() < 80), "wrapped on a narrow terminal: {commands:?}");
        if arguments[0] == "demo" {
            continue; // Its own test runs it, in a folder that goes away.
        }
        place.write("keys.jsonl", "{\"key\": \"x\"}\n{\"key\": \"y\"}\n");
        place.write("vectors.npy", npy("<f4", "False", "(2, 4)", &floats(&[0.5; 8])));
        let run = place.shell(&commands.join("\n"));
        assert_eq!(run.code, 0, "{commands:?}: {run:?}");
    }
}

#[test]
fn help_lists_every_verb_that_works_and_no_other() {
    let place = Scene::new();
    let help = place.run(&["--help"]).ok().out;
    let from = help.find("Commands:").expect("a list of commands");
    let until = help.find("Options:").expect("a list of options");
    let mut listed: Vec<&str> = help[from..until]
        .lines()
        .skip(1)
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    listed.sort_unstable();
    let mut expected = VERBS.to_vec();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let all: String = VERBS.iter().map(|verb| place.run(&[verb, "--help"]).ok().out).collect();
    for words in ["backup", "serve", "reencode"] {
        assert!(!all.contains(words), "{words}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_suggests() {
    let place = Scene::new().with_pets();
    for arguments in [
        &["querry", "pets", "x"][..],
        &["query", "pets"],
        &["query", "pets", "x", "--key", "a"],
        &["query", "pets", "x", "-k", "0"],
        &["query", "pets", "x", "-k", "100001"],
        &["query", "pets", "x", "--side", "left"],
        &["query", "pets", "x", "--format", "xml"],
        &["query", "pets", "x", "--threads", "0"],
        &["query", "pets", "x", "--threads", "100000"],
        &["create", "new"],
        &["create", "new", "--encoder", "nonsense"],
        &["create", "new", "--encoder", "vectors:0"],
        &["create", "new", "--encoder", "hashed", "--field", "year"],
        &["create", "new", "--encoder", "hashed", "--field", "year:number"],
        &["alter", "pets"],
        &["alter", "pets", "--add-field", "x:text", "--drop-column", "embedding"],
        &["alter", "pets", "--add-column", "hashed"],
        &["ingest", "pets"],
        &["ingest", "pets", "-", "pets.jsonl"],
        &["ingest", "pets", "pets.jsonl", "more.jsonl", "--atomic"],
        &["ingest", "pets", "pets.jsonl", "--commit-every", "2"],
        &["ingest", "pets", "pets.jsonl", "--commit-rows", "0"],
        &["ingest", "pets", "pets.jsonl", "--key", "id", "--text", "id"],
        &["ingest", "pets", "pets.jsonl", "--column", "embedding"],
        &["delete", "pets"],
        &["delete", "pets", "--key", "a", "--where", "year > 0"],
        &["compact", "completions", "tcsh"],
        &["eval", "recall"],
        &["eval", "lds", "pets"],
        &["eval", "recall", "pets", "-k", "0"],
        &["eval", "recall", "pets", "--queries", "0"],
        &["eval", "recall", "pets", "--queries", "100001"],
        &["eval", "recall", "pets", "--seed", "-1"],
        &["query", "pets", "x", "--label", "y"],
    ] {
        let run = place.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {run:?}");
        assert!(run.err.starts_with("error: "), "{arguments:?}: {run:?}");
    }
    assert!(place.run(&["querry"]).err.contains("'query'"));
    assert!(!place.path("new").exists());
    assert_eq!(place.rows("pets"), 5);
    place.verify("pets");
    let bare = place.run(&[]);
    assert_eq!(bare.code, 2, "{bare:?}");
    place.run(&["--version"]).ok();
}
