//! What each verb does when all goes well.

use std::fs;

use serde_json::{Value, json};

use crate::scene::{PETS, Scene, VERBS, floats, npy};

fn keys(answer: &Value, side: &str) -> Vec<String> {
    let hits = answer[side].as_array().expect("a list of rows");
    hits.iter().map(|hit| hit["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn create_says_what_it_made_and_keeps_what_is_there() {
    let place = Scene::new();
    let arguments =
        ["create", "s", "--encoder", "vectors:4:int8", "--field", "year:integer", "--format", "json"];
    let made = place.run(&arguments).ok().json();
    assert_eq!(made["fields"], json!([{"name": "year", "type": "integer"}]));
    assert_eq!(
        made["columns"][0],
        json!({"name": "embedding", "encoder": "vectors:4", "element": "int8", "width": 4})
    );
    let again = place.run(&arguments);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.starts_with("error: ") && again.err.contains('s'), "{again:?}");
    place.verify("s");
}

#[test]
fn create_leaves_no_folder_behind_when_it_fails() {
    let place = Scene::new();
    let run = place.run(&["create", "s", "--encoder", "hashed", "--field", "x:text", "--field", "x:text"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(!place.path("s").exists());
}

#[test]
fn ingest_then_query_answers_with_the_contract_of_json() {
    let place = Scene::new().with_pets();
    let run = place.run(&["query", "pets", "cats", "-k", "2", "--format", "json"]).ok();
    let answer = run.json();
    assert_eq!(answer["query"], json!({"kind": "text", "value": "cats"}));
    assert_eq!(
        (&answer["score"], &answer["kind"], &answer["exact"]),
        (&json!("learned"), &json!("dot"), &json!(true))
    );
    assert_eq!(answer["searched"], json!({"rows": 5, "segments": 1, "plan": "scan"}));
    assert!(answer["elapsed_ms"].as_f64().is_some_and(|elapsed| elapsed >= 0.0));
    let first = &answer["proponents"][0];
    assert_eq!((&first["rank"], &first["key"]), (&json!(1), &json!("b")), "{run:?}");
    assert_eq!(first["text"], json!("two cats on a roof"));
    assert_eq!(first["metadata"], json!({"year": 1995, "kind": "cat"}));
    assert!(first["score"].as_f64().is_some_and(|score| score > 0.0));
    assert!(first["z"].is_f64() && first["percentile"].is_f64());
}

#[test]
fn query_by_key_and_by_vector_and_both_ends() {
    let place = Scene::new().with_points();
    let by_key = place.run(&["query", "points", "--key", "p0", "--format", "json"]).ok().json();
    assert_eq!(by_key["query"], json!({"kind": "key", "value": "p0"}));
    assert_eq!(
        (keys(&by_key, "proponents"), keys(&by_key, "opponents")),
        (vec!["p0".into(), "p3".into()], vec!["p2".into()])
    );
    assert_eq!(by_key["opponents"][0]["score"], json!(-1.0));
    place.write("q.npy", npy("<f4", "False", "(3,)", &floats(&[0.0, 2.0, 0.0])));
    let by_vector =
        place.run(&["query", "points", "--vector", "q.npy", "--side", "proponents", "--format", "json"]);
    let by_vector = by_vector.ok().json();
    assert_eq!(by_vector["query"], json!({"kind": "vector", "value": "q.npy"}));
    assert_eq!(keys(&by_vector, "proponents"), ["p1", "p3"]);
    assert_eq!(by_vector["proponents"][0]["score"], json!(2.0));
    assert_eq!(by_vector["opponents"], json!([]));
    let cosine = place
        .run(&["query", "points", "--vector", "q.npy", "--kind", "cosine", "--exact", "--format", "json"]);
    assert_eq!(cosine.ok().json()["proponents"][0]["score"], json!(1.0));
}

#[test]
fn several_vectors_give_one_answer_a_line() {
    let place = Scene::new().with_points();
    place.write("q.npy", npy("<f4", "False", "(2, 3)", &floats(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])));
    let lines = place.run(&["query", "points", "--vector", "q.npy", "--format", "json"]).ok().json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["query"], json!({"kind": "vector", "value": "q.npy", "row": 2}));
    assert_eq!(keys(&lines[0], "proponents")[0], "p0");
    assert_eq!(keys(&lines[1], "proponents")[0], "p1");
}

#[test]
fn filters_choose_rows_and_explanations_say_how() {
    let place = Scene::new().with_pets();
    let arguments = [
        "query",
        "pets",
        "cat",
        "--where",
        "year >= 2000 AND kind <> 'dog'",
        "--explain",
        "--format",
        "json",
    ];
    let answer = place.run(&arguments).ok().json();
    let mut found = [keys(&answer, "proponents"), keys(&answer, "opponents")].concat();
    found.sort();
    assert!(found.iter().all(|key| key == "d"), "{answer}");
    assert_eq!(answer["searched"]["rows"], json!(1));
    assert_eq!(answer["explain"]["live_rows"], json!(5));
    assert!(answer["explain"]["stages_ms"]["scan"].is_f64());
}

#[test]
fn a_file_that_grew_is_read_from_where_it_ended() {
    let place = Scene::new().with_pets();
    place.write("pets.jsonl", format!("{PETS}{{\"id\": \"f\", \"text\": \"a new cat\"}}\n"));
    let run = place.run(&["ingest", "pets", "pets.jsonl", "--key", "id", "--format", "json"]).ok();
    assert_eq!((&run.json()["rows_read"], &run.json()["rows"]), (&json!(1), &json!(6)), "{run:?}");
    assert!(run.err.contains("going on behind the 5 rows"), "{run:?}");
    let run = place.run(&["ingest", "pets", "pets.jsonl", "--key", "id", "--format", "json"]).ok();
    assert_eq!((&run.json()["rows_read"], &run.json()["commits"]), (&json!(0), &json!(0)), "{run:?}");
    place.verify("pets");
}

#[test]
fn standard_input_is_acknowledged_commit_by_commit() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:1"]).ok();
    let rows: String = (0..5).map(|row| format!("{{\"id\": \"r{row}\", \"v\": [{row}]}}\n")).collect();
    let arguments = ["ingest", "s", "-", "--key", "id", "--vector", "v", "--commit-rows", "2"];
    let run = place.run_with_input(&arguments, &rows).ok();
    let expected = [
        json!({"committed": 2, "last_key": "r1"}),
        json!({"committed": 4, "last_key": "r3"}),
        json!({"committed": 5, "last_key": "r4"}),
    ];
    assert_eq!(run.json_lines(), expected);
    assert!(run.err.contains("5 rows read"), "{run:?}");
    let again = place.run_with_input(&[&arguments[..], &["--on-duplicate", "skip"]].concat(), &rows).ok();
    assert!(again.err.contains("5 skipped"), "{again:?}");
    let replaced =
        place.run_with_input(&[&arguments[..], &["--on-duplicate", "replace"]].concat(), &rows).ok();
    assert!(replaced.err.contains("5 replaced"), "{replaced:?}");
    assert_eq!(place.rows("s"), 5);
    place.verify("s");
}

#[test]
fn csv_text_lines_and_several_files_are_read() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "hashed:64", "--field", "year:integer"]).ok();
    place.write("a.csv", "id,body,year\n1,a cat,1990\n2,\"a dog, wet\",1991\n");
    place.write("b.txt", "rain\nsun\n");
    place.run(&["ingest", "s", "a.csv", "--key", "id", "--text", "body"]).ok();
    place.write("c.txt", "snow\n");
    let run = place.run(&["ingest", "s", "b.txt", "c.txt", "--format", "json"]).ok();
    assert_eq!((&run.json()["rows_added"], &run.json()["rows"]), (&json!(3), &json!(5)), "{run:?}");
    let answer =
        place.run(&["query", "s", "dog", "-k", "1", "--where", "year = 1991", "--format", "json"]).ok();
    assert_eq!(answer.json()["proponents"][0]["key"], json!("2"), "{answer:?}");
}

#[test]
fn one_commit_for_the_whole_input_where_asked() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:1"]).ok();
    let rows: String = (0..5).map(|row| format!("{{\"v\": [{row}]}}\n")).collect();
    place.write("rows.jsonl", rows);
    let arguments =
        ["ingest", "s", "rows.jsonl", "--vector", "v", "--commit-rows", "2", "--atomic", "--format", "json"];
    let run = place.run(&arguments).ok();
    assert_eq!((&run.json()["commits"], &run.json()["rows"]), (&json!(1), &json!(5)), "{run:?}");
}

#[test]
fn import_adds_rows_with_vectors_and_metadata() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:2", "--field", "year:integer"]).ok();
    place.write("keys.jsonl", "{\"key\": \"x\"}\n{\"key\": \"y\"}\n");
    place.write("m.jsonl", "{\"year\": 1990}\n{\"year\": 2000}\n");
    place.write("e.npy", npy("<f4", "False", "(2, 2)", &floats(&[1.0, 0.0, 0.0, 1.0])));
    let arguments = [
        "import",
        "s",
        "--keys",
        "keys.jsonl",
        "--embeddings",
        "e.npy",
        "--metadata",
        "m.jsonl",
        "--format",
        "json",
    ];
    let run = place.run(&arguments).ok();
    assert_eq!((&run.json()["rows_imported"], &run.json()["filled"]), (&json!(2), &json!(false)), "{run:?}");
    let answer = place.run(&["query", "s", "--key", "y", "--where", "year > 1995", "--format", "json"]).ok();
    assert_eq!(keys(&answer.json(), "proponents"), ["y"]);
    let again = place.run(&arguments);
    assert_eq!(again.code, 1, "{again:?}");
    let skipped = place.run(&[&arguments[..], &["--on-duplicate", "skip"]].concat()).ok();
    assert_eq!(skipped.json()["rows_skipped"], json!(2), "{skipped:?}");
    assert_eq!(place.rows("s"), 2);
    place.verify("s");
}

#[test]
fn an_import_that_is_large_enough_is_indexed_and_verify_tells_of_damage() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:2"]).ok();
    let rows = 3000_usize;
    place.write("keys.jsonl", (0..rows).map(|row| format!("{{\"key\": \"k{row}\"}}\n")).collect::<String>());
    let values: Vec<f32> = (0..rows).flat_map(|row| [(row as f32).sin(), (row as f32).cos()]).collect();
    place.write("e.npy", npy("<f4", "False", &format!("({rows}, 2)"), &floats(&values)));
    place.write("q.npy", npy("<f4", "False", "(2,)", &floats(&[1.0, 0.5])));
    place.run(&["import", "s", "--keys", "keys.jsonl", "--embeddings", "e.npy"]).ok();
    let stats = place.run(&["stats", "s", "--format", "json"]).ok().json();
    assert_eq!((&stats["index"]["rows"], &stats["index"]["damaged"]), (&json!(3000), &json!(0)), "{stats}");
    place.verify("s");

    let query = ["query", "s", "--vector", "q.npy", "--format", "json", "--explain"];
    let by_codes = place.run(&query).ok().json();
    let exact = place.run(&[&query[..], &["--exact"]].concat()).ok().json();
    assert_eq!(by_codes["explain"]["rows_by_codes"], json!(3000), "{by_codes}");
    assert_eq!(exact["explain"]["rows_by_codes"], json!(0), "{exact}");
    for end in ["proponents", "opponents"] {
        assert_eq!(keys(&by_codes, end), keys(&exact, end));
    }

    let index = place.path("s/segments/1.1.idx");
    let mut bytes = fs::read(&index).unwrap();
    bytes[5000] ^= 1;
    fs::write(&index, bytes).unwrap();
    let run = place.run(&["verify", "s", "--deep"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.out.contains("1.1.idx") && run.out.contains("remove this file"), "{run:?}");
    assert_eq!(keys(&place.run(&query).ok().json(), "proponents"), keys(&exact, "proponents"));
    fs::remove_file(&index).unwrap();
    place.run(&["alter", "s", "--add-field", "year:integer"]).ok();
    place.verify("s");
}

#[test]
fn alter_adds_a_field_and_a_column_that_import_fills() {
    let place = Scene::new().with_pets();
    let run = place.run(&["alter", "pets", "--add-column", "extra=vectors:2:f16", "--format", "json"]).ok();
    assert_eq!(run.json()["columns"][1]["name"], json!("extra"), "{run:?}");
    let empty = place.run(&["query", "pets", "--key", "a", "--column", "extra"]);
    assert_eq!(empty.code, 1, "{empty:?}");
    place.write(
        "keys.jsonl",
        ["a", "b", "c", "d", "e"].map(|key| format!("{{\"key\": \"{key}\"}}\n")).concat(),
    );
    let values: Vec<f32> = (0..10).map(|value| value as f32 / 4.0).collect();
    place.write("e.npy", npy("<f4", "False", "(5, 2)", &floats(&values)));
    let filled =
        place.run(&["import", "pets", "--keys", "keys.jsonl", "--embeddings", "e.npy", "--format", "json"]);
    assert_eq!(filled.ok().json()["filled"], json!(true));
    let answer = place.run(&["query", "pets", "--key", "a", "--column", "extra", "--format", "json"]).ok();
    assert_eq!(keys(&answer.json(), "proponents")[0], "e");
    place.run(&["alter", "pets", "--add-field", "size:float"]).ok();
    let run = place.run(&["alter", "pets", "--drop-column", "extra", "--format", "json"]).ok();
    assert_eq!(run.json()["columns"].as_array().map(Vec::len), Some(1), "{run:?}");
    assert_eq!(run.json()["fields"][2], json!({"name": "size", "type": "float"}), "{run:?}");
    place.verify("pets");
}

#[test]
fn deleted_rows_answer_no_more() {
    let place = Scene::new().with_pets();
    let run = place.run(&["delete", "pets", "--key", "a", "--key", "b", "--format", "json"]).ok();
    assert_eq!((&run.json()["rows_deleted"], &run.json()["rows"]), (&json!(2), &json!(3)), "{run:?}");
    let run = place.run(&["delete", "pets", "--where", "kind = 'both'", "--format", "json"]).ok();
    assert_eq!((&run.json()["rows_deleted"], &run.json()["rows"]), (&json!(1), &json!(2)), "{run:?}");
    let none = place.run(&["delete", "pets", "--where", "kind = 'fish'", "--format", "json"]).ok();
    assert_eq!((&none.json()["rows_deleted"], &none.json()["commit"]), (&json!(0), &Value::Null), "{none:?}");
    let answer = place.run(&["query", "pets", "cats", "--format", "json"]).ok().json();
    let shown = [keys(&answer, "proponents"), keys(&answer, "opponents")].concat();
    assert!(shown.iter().all(|key| key == "c" || key == "e"), "{shown:?}");
    assert_eq!(place.run(&["stats", "pets", "--format", "json"]).ok().json()["deleted_rows"], json!(3));
    place.verify("pets");
}

#[test]
fn compaction_merges_segments_and_erases_what_was_deleted() {
    let place = Scene::new();
    place.run(&["create", "store", "--encoder", "hashed"]).ok();
    let lines: String =
        (0..9).map(|row| format!("{{\"id\": \"r{row}\", \"text\": \"text {row}\"}}\n")).collect();
    place.run_with_input(&["ingest", "store", "-", "--key", "id", "--commit-rows", "3"], lines).ok();
    place.run(&["delete", "store", "--key", "r4"]).ok();
    let ask =
        || keys(&place.run(&["query", "store", "text 7", "--format", "json"]).ok().json(), "proponents");
    let before = ask();
    assert!(before.len() > 4 && !before.contains(&"r4".to_owned()), "{before:?}");
    assert_eq!(place.run(&["stats", "store", "--format", "json"]).ok().json()["segments"], 3);
    let report = place.run(&["compact", "store", "--format", "json"]).ok().json();
    assert_eq!((&report["merges"], &report["segments_merged"]), (&1.into(), &3.into()), "{report}");
    assert_eq!((&report["rows_written"], &report["rows_erased"]), (&8.into(), &1.into()), "{report}");
    assert_eq!((&report["segments"], &report["rows"]), (&1.into(), &8.into()), "{report}");
    assert_eq!(ask(), before);
    let again = place.run(&["compact", "store", "--format", "json"]).ok().json();
    assert_eq!(again["merges"], 0, "{again}");
    place.verify("store");
}

#[test]
fn stats_have_the_names_of_the_contract() {
    let place = Scene::new().with_pets();
    let stats = place.run(&["stats", "pets", "--format", "json"]).ok().json();
    for name in [
        "rows",
        "deleted_rows",
        "segments",
        "bytes_on_disk",
        "bytes_mapped",
        "embedding",
        "sketch",
        "curvature",
        "index",
        "commit",
    ] {
        assert!(stats.get(name).is_some(), "{name}: {stats}");
    }
    assert_eq!((&stats["rows"], &stats["commit"]), (&json!(5), &json!(2)));
    assert_eq!(stats["embedding"][0]["encoder"], json!("hashed:64"));
    assert!(stats["bytes_mapped"].as_u64() > Some(0));
    let unmapped = place.run(&["stats", "pets", "--no-mmap", "--threads", "1", "--format", "json"]);
    assert_eq!(unmapped.ok().json()["rows"], json!(5));
    let answer = ["query", "pets", "cats", "--format", "csv"];
    let copied = place.run(&[&answer[..], &["--no-mmap", "--threads", "1"]].concat()).ok();
    assert_eq!(copied.out, place.run(&answer).ok().out);
}

#[test]
fn damage_is_found_and_a_damaged_catalog_is_repaired() {
    let place = Scene::new().with_pets();
    let catalog = place.path("pets/catalog.redb");
    let whole = fs::read(&catalog).expect("a catalog");
    let mut damaged = whole.clone();
    damaged.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x5a);
    fs::write(&catalog, &damaged).expect("a file can be written");
    let found = place.run(&["verify", "pets", "--deep", "--format", "json"]);
    assert_eq!(found.code, 3, "{found:?}");
    let opened = place.run(&["delete", "pets", "--key", "a"]);
    assert_eq!(opened.code, 1, "{opened:?}");
    assert!(opened.err.contains("ascribe repair"), "{opened:?}");
    assert_eq!(place.run(&["repair", "pets", "--format", "json"]).ok().json()["rows"], json!(5));
    place.verify("pets");
    place.run(&["delete", "pets", "--key", "a"]).ok();

    let rows = fs::read_dir(place.path("pets/segments")).expect("segments");
    let file = rows
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension() == Some("rows".as_ref()));
    let file = file.expect("a row file");
    let mut bytes = fs::read(&file).expect("a row file");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("a file can be written");
    let found = place.run(&["verify", "pets", "--deep"]);
    assert_eq!(found.code, 3, "{found:?}");
    assert!(found.out.contains(".rows") && found.err.is_empty(), "{found:?}");
}

#[test]
fn the_hidden_check_reads_a_catalog_and_survives_damage() {
    let place = Scene::new().with_pets();
    let bytes = fs::read(place.path("pets/catalog.redb")).expect("a catalog");
    let catalog = fs::File::open(place.path("pets/catalog.redb")).expect("a file");
    let manifest = place.command(&["check-catalog"]).stdin(catalog).output().expect("the binary runs").stdout;
    assert!(manifest.starts_with(b"ASCRMAN\0"), "{:?}", &manifest[..manifest.len().min(64)]);
    let cut = place.run_with_input(&["check-catalog"], &bytes[..bytes.len() / 2]);
    assert_eq!((cut.code, cut.out.as_str()), (1, ""), "{cut:?}");
    assert!(!cut.err.contains("panicked"), "{cut:?}");
}

#[test]
fn completions_and_the_manual_name_every_verb() {
    let place = Scene::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).ok().out;
        assert!(VERBS.iter().all(|verb| script.contains(verb)), "{shell}");
        assert!(!script.contains("check-catalog"), "{shell}");
    }
    let manual = place.run(&["man"]).ok().out;
    for verb in VERBS {
        assert!(manual.contains(&format!(".SH \"ASCRIBE {}\"", verb.to_uppercase())), "{verb}");
    }
    assert!(!manual.contains("check\\-catalog"));
}

#[test]
fn the_demo_leaves_a_store_that_its_commands_work_on() {
    let place = Scene::new();
    let run = place.run(&["demo", "--dir", "tour"]).ok();
    let place_of = |text: &str| run.out.find(text).unwrap_or_else(|| panic!("{text}: {}", run.out));
    assert!(run.out.contains("1. Ingested 4,084 artworks"), "{}", run.out);
    let after = &run.out[place_of("200 were read")..];
    assert!(after.contains("Sunflower Seeds, by Ai, Weiwei"), "{after}");
    assert!(!run.out[..place_of("200 were read")].contains("Sunflower Seeds, by"), "{}", run.out);
    let deleted = &run.out[place_of("7. Deleted 86 rows")..];
    assert!(!deleted.contains("by Kossoff, Leon"), "{deleted}");
    assert!(run.out.contains("no problem"), "{}", run.out);
    let commands: Vec<&str> = run.out[place_of("The store stays")..].lines().skip(1).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        assert_eq!(place.shell(command).code, 0, "{command}");
    }
    place.verify("tour/store");
    place.run(&["demo", "--dir", "tour"]).ok();
    place.write("mine", "x");
    let refused = place.run(&["demo", "--dir", "."]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(place.path("mine").exists());
}
