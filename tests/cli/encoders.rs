//! Learned encoders, several columns, devices.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::scene::Scene;

/// The model of two layers that the tests keep.
fn tiny_bert() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert")
}

/// A copy of the model in the folder.
#[cfg(feature = "bert")]
fn copy_model(place: &Scene, name: &str) {
    let folder = place.path(name);
    std::fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
    for file in [
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "vocab.txt",
        "1_Pooling/config.json",
    ] {
        std::fs::copy(tiny_bert().join(file), folder.join(file)).expect("a file of the model");
    }
}

fn columns(place: &Scene) -> Vec<Value> {
    let stats = place.run(&["stats", "s", "--format", "json"]).ok().json();
    stats["embedding"].as_array().expect("a list of columns").clone()
}

fn first_key(place: &Scene, arguments: &[&str]) -> String {
    // The model is a random one, whose vectors differ in length: nearest is what has the same direction.
    let arguments = [&["query", "s"], arguments, &["--kind", "cosine", "--format", "json"]].concat();
    place.run(&arguments).ok().json()["proponents"][0]["key"].as_str().expect("a key").to_owned()
}

#[cfg(feature = "bert")]
#[test]
fn a_store_keeps_the_model_that_it_was_made_with() {
    let place = Scene::new().with_pets();
    copy_model(&place, "model");
    place.run(&["create", "s", "--encoder", "model:f16"]).ok();
    place.run(&["ingest", "s", "pets.jsonl", "--key", "id", "--batch-size", "2"]).ok();
    // From here on the folder is not needed; a later change of it changes nothing.
    std::fs::remove_dir_all(place.path("model")).expect("the model");
    let of_text = first_key(&place, &["the dog and the cat"]);
    assert_eq!(of_text, "d");
    place.run(&["ingest", "s", "pets.jsonl", "--key", "id"]).ok();
    place.verify("s");

    let kept = columns(&place);
    assert_eq!((kept.len(), &kept[0]["element"], &kept[0]["rows"]), (1, &"f16".into(), &5.into()));
    let name = kept[0]["encoder"].as_str().expect("a name");
    assert_eq!(name, format!("bert:{}", kept[0]["width"]));
    assert_eq!(kept[0]["fingerprint"].as_str().map(str::len), Some(64));
    // The table shows enough of the fingerprint to tell two encoders apart.
    let table = place.run(&["stats", "s"]).ok().out;
    let short = &kept[0]["fingerprint"].as_str().expect("a fingerprint")[..16];
    assert!(table.contains(name) && table.contains(short), "{table}");
}

#[cfg(feature = "bert")]
#[test]
fn columns_of_several_encoders_stand_side_by_side() {
    let place = Scene::new().with_pets();
    copy_model(&place, "model");
    place.run(&["create", "s", "--encoder", "hashed:64"]).ok();
    place.run(&["ingest", "s", "pets.jsonl", "--key", "id"]).ok();
    place.run(&["alter", "s", "--add-column", "learned=./model"]).ok();
    place.run(&["alter", "s", "--add-column", "again=./model:int8"]).ok();
    // New rows get vectors in all columns.
    place
        .run_with_input(
            &["ingest", "s", "-", "--key", "id"],
            "{\"id\": \"z\", \"text\": \"zebras and lions\"}\n",
        )
        .ok();
    let all = columns(&place);
    let shown: Vec<(&str, &str)> = all
        .iter()
        .map(|column| (column["name"].as_str().expect("a name"), column["element"].as_str().expect("a type")))
        .collect();
    assert_eq!(shown, [("embedding", "f32"), ("learned", "f32"), ("again", "int8")]);
    assert!(all.iter().all(|column| column["rows"] == 6), "{all:?}");
    assert_eq!(all[1]["fingerprint"], all[2]["fingerprint"]);
    assert_ne!(all[0]["fingerprint"], all[1]["fingerprint"]);
    for column in ["embedding", "learned", "again"] {
        assert_eq!(first_key(&place, &["zebras and lions", "--column", column]), "z", "{column}");
        assert_eq!(first_key(&place, &["--key", "b", "--column", column]), "b", "{column}");
    }
    place.verify("s");
    place.run(&["alter", "s", "--drop-column", "embedding"]).ok();
    assert_eq!(first_key(&place, &["two cats on a roof"]), "b");
    place.run(&["alter", "s", "--drop-column", "again"]).ok();
    assert_eq!(columns(&place).len(), 1);
    place.verify("s");
}

#[cfg(feature = "bert")]
#[test]
fn a_folder_without_a_model_is_refused_and_nothing_is_left() {
    let place = Scene::new().with_pets();
    copy_model(&place, "model");
    std::fs::remove_file(place.path("model").join("tokenizer.json")).expect("a file of the model");
    let run = place.run(&["create", "s", "--encoder", "model"]);
    assert!(run.code == 1 && run.err.contains("tokenizer.json"), "{run:?}");
    assert!(!place.path("s").exists());
    let run = place.run(&["alter", "pets", "--add-column", "learned=model"]);
    assert!(run.code == 1 && run.err.contains("tokenizer.json"), "{run:?}");
    place.verify("pets");
}

#[cfg(not(feature = "bert"))]
#[test]
fn a_build_without_models_says_so() {
    let place = Scene::new();
    let model = tiny_bert();
    let run = place.run(&["create", "s", "--encoder", model.to_str().expect("a path")]);
    assert!(run.code == 1 && run.err.contains("--features bert"), "{run:?}");
    assert!(!place.path("s").exists());
}

#[test]
fn devices_that_are_none_are_wrong_usage_and_one_that_this_build_lacks_fails() {
    let place = Scene::new().with_pets();
    for verb in [&["ingest", "pets", "pets.jsonl"][..], &["query", "pets", "cat"]] {
        let run = place.run(&[verb, &["--device", "tpu"]].concat());
        assert!(run.code == 2 && run.err.contains("use cpu, or cuda:N"), "{run:?}");
        if !cfg!(feature = "cuda") {
            let run = place.run(&[verb, &["--device", "cuda:0"]].concat());
            assert!(run.code == 1 && run.err.contains("--features cuda"), "{run:?}");
        }
        place.run(&[verb, &["--device", "cpu"]].concat()).ok();
    }
    let run = place.run(&["ingest", "pets", "pets.jsonl", "--device", "cpu,gpu"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert_eq!(place.run(&["ingest", "pets", "pets.jsonl", "--batch-size", "0"]).code, 2);
}

#[test]
fn an_ingest_tells_what_its_stages_did() {
    let place = Scene::new().with_pets();
    let more = "{\"id\": \"f\", \"text\": \"a fish\"}\n";
    place.write("more.jsonl", more);
    let run = place.run(&["ingest", "pets", "more.jsonl", "--key", "id", "--format", "json"]).ok();
    assert_eq!(run.err, "");
    let report = run.json();
    let stages = report["stages"].as_array().expect("a list of stages");
    let items: Vec<(&str, u64)> = stages
        .iter()
        .map(|stage| (stage["stage"].as_str().expect("a name"), stage["items"].as_u64().expect("a number")))
        .collect();
    assert_eq!(items, [("read", 1), ("prepare", 1), ("encode cpu", 1), ("write", 1), ("commit", 1)]);
    assert_eq!(stages[0]["bytes"], more.len());
    assert!(stages.iter().all(|stage| stage["busy_ms"].is_number() && stage["input_wait_ms"].is_number()));
    assert!(stages.iter().all(|stage| stage["items"] == 0 || stage["items_per_s"].as_f64().unwrap() > 0.0));
    // For people the stages stand beside the messages, not in the answer.
    place.write("last.jsonl", "{\"id\": \"g\", \"text\": \"a goat\"}\n");
    let run = place.run(&["ingest", "pets", "last.jsonl", "--key", "id"]).ok();
    assert!(run.err.contains("encode cpu") && run.err.contains("output_wait"), "{run:?}");
    assert!(!run.out.contains("encode cpu") && run.out.contains("rows_added"), "{run:?}");
}

#[test]
fn a_pipe_is_committed_by_time_unless_told_otherwise() {
    let place = Scene::new().with_pets();
    let help = place.run(&["ingest", "--help"]).ok().out;
    assert!(help.contains("2s for standard input"), "{help}");
    let mut child = place
        .command(&["ingest", "pets", "-", "--key", "id"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, b"{\"id\": \"f\", \"text\": \"a fish\"}\n")
        .expect("the binary reads");
    // The pipe stays open and far from a full commit.
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut lines, &mut line).expect("an acknowledgement");
    assert_eq!(line, "{\"committed\":1,\"last_key\":\"f\"}\n");
    assert_eq!(place.rows("pets"), 6);
    drop(input);
    assert!(child.wait().expect("the binary ends").success());
}
