//! `convert` and `import --from`, through to scores.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::folder::{agree, expected, fixtures, matrix};

/// A folder to work in, with the fixtures beside it.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Exit code, standard output and standard error; `@` before an argument stands for the folder of the fixtures.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let arguments = arguments.iter().map(|argument| match argument.strip_prefix('@') {
            Some(name) => fixtures().join(name).into_os_string(),
            None => argument.into(),
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_ascribe"));
        let output = command.args(arguments).current_dir(self.0.path()).output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// What a run answers.
    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.run(&[arguments, &["--format", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).expect("JSON")
    }

    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let (found, out, err) = self.run(arguments);
        assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {err}");
        for word in words {
            assert!(err.contains(word), "{word:?} is not in {err}");
        }
    }

    fn scores(&self, name: &str) -> Vec<Vec<f64>> {
        let bytes = fs::read(self.path(name)).expect("a file");
        let matrix = ascribe::sources::Matrix::from_npy(&bytes, name).expect("npy");
        let row = |row| {
            let mut values = Vec::new();
            matrix.read_rows(row, 1, &mut values).expect("a row");
            values.into_iter().map(f64::from).collect()
        };
        (0..matrix.rows()).map(row).collect()
    }
}

fn has_note(report: &Value, words: &str) -> bool {
    report["notes"]
        .as_array()
        .expect("notes")
        .iter()
        .any(|note| note["note"].as_str().is_some_and(|note| note.contains(words)))
}

#[test]
fn gradients_of_each_tool_become_scores_of_queries() {
    let expected = expected();
    let mean: Vec<Vec<f64>> = {
        let kernels: Vec<_> =
            expected["trak"]["projected_queries"].as_array().unwrap().iter().map(matrix).collect();
        let both = kernels[0].iter().zip(&kernels[1]);
        both.map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect()).collect()
    };
    let trak_rows = ["--from", "trak", "@trak/projected", "--parameters", "53"];
    let trak_queries = [trak_rows.as_slice(), &["--experiment", "test"]].concat();
    let bergson_queries = ["--from", "bergson", "@bergson/queries"];
    for (tool, rows, queries, wanted) in [
        (
            "bergson",
            ["--from", "bergson", "@bergson/projected"].as_slice(),
            bergson_queries.as_slice(),
            matrix(&expected["bergson"]["projected_queries"]),
        ),
        ("trak", &trak_rows, &trak_queries, mean),
        (
            "logix",
            &["--from", "logix", "@logix/whole"],
            &["--from", "logix", "@logix/whole", "--keys", "@rows.keys.jsonl"],
            matrix(&expected["logix"]["whole"]),
        ),
    ] {
        let scene = Scene::new();
        scene.json(&[["convert", "--out", "schema.json"].as_slice(), rows].concat());
        scene.json(&["create", "models", "--sketch", "schema.json", "--field", "label:integer"]);
        let keys = ["--keys", "@rows.keys.jsonl"];
        let report = scene.json(&[["import", "models"].as_slice(), rows, &keys].concat());
        assert_eq!((&report["rows"], &report["from"]), (&Value::from(12), &Value::from(tool)), "{report}");
        assert!(report["notes"].as_array().is_some_and(|notes| !notes.is_empty()), "{report}");
        scene.json(&[["convert", "--out", "q.safetensors"].as_slice(), queries].concat());
        scene.json(&["fit", "models", "--curvature", "identity"]);
        scene.json(&["score", "models", "--queries", "q.safetensors", "--out", "s.npy", "--members", "raw"]);
        agree(tool, &scene.scores("s.npy"), &wanted, 1e-5);
        let (code, _, err) = scene.run(&["verify", "models", "--deep"]);
        assert_eq!(code, 0, "{err}");
        // Fields of the keys came with the rows.
        let found =
            scene.json(&["query", "models", "--key", "r4", "--score", "gradient", "--where", "label = 1"]);
        assert_eq!(found["proponents"][0]["metadata"]["label"], Value::from(1), "{found}");
    }
}

#[test]
fn what_stands_beside_gradients_serves_fits() {
    let models = |from: &[&str]| {
        let scene = Scene::new();
        scene.json(&[["convert", "--out", "schema.json"].as_slice(), from].concat());
        scene.json(&["create", "models", "--sketch", "schema.json"]);
        let report =
            scene.json(&[["import", "models"].as_slice(), from, &["--keys", "@rows.keys.jsonl"]].concat());
        (scene, report)
    };
    // 1 - p, which TRAK keeps, is what its kernel and the margin kernel need.
    let trak = ["--from", "trak", "@trak/whole"];
    let (scene, report) = models(&trak);
    assert!(has_note(&report, "1 - p of each row's own label"), "{report}");
    for (curvature, fitted) in [("trak", "trak"), ("auto", "margin")] {
        let report = scene.json(&["fit", "models", "--curvature", curvature]);
        assert_eq!(report["curvature"], Value::from(fitted), "{report}");
    }
    // It comes along in a sketch file.
    scene.json(&[["convert", "--out", "rows.safetensors"].as_slice(), &trak].concat());
    scene.json(&["create", "again", "--sketch", "schema.json"]);
    let rows = ["import", "again", "--sketches", "rows.safetensors", "--keys", "@rows.keys.jsonl"];
    scene.json(&rows);
    let report = scene.json(&["fit", "again"]);
    assert_eq!(report["curvature"], Value::from("margin"), "{report}");

    // Factors of kronfluence, for gradients of the modules that it saw.
    let scene = Scene::new();
    let (schema, bytes) = sketches_of_perceptron();
    fs::write(scene.path("schema.json"), schema).unwrap();
    fs::write(scene.path("rows.safetensors"), bytes).unwrap();
    scene.json(&["create", "models", "--sketch", "schema.json"]);
    scene.json(&["import", "models", "--sketches", "rows.safetensors", "--keys", "@rows.keys.jsonl"]);
    let fit = ["fit", "models", "--curvature", "ekfac", "--factors", "@kronfluence/perceptron/factors_ekfac"];
    let report = scene.json(&fit);
    assert_eq!(report["factors"], Value::from("own"), "{report}");
    let fit = ["fit", "models", "--curvature", "ekfac", "--factors"];
    scene.refused(&[fit.as_slice(), &["@bergson/whole"]].concat(), 1, &["bergson"]);
    let twice = ["@kronfluence/perceptron/factors_ekfac"; 2];
    scene.refused(&[fit.as_slice(), &twice].concat(), 1, &["factors of 2 members"]);
}

/// Schema and sketch file of 12 rows of a perceptron with layers "0" and "2", 6-5-3 with biases.
fn sketches_of_perceptron() -> (String, Vec<u8>) {
    let module = |name: &str, out: usize, input: usize| serde_json::json!({"name": name, "out": out, "in": input, "bias": true, "encoding": "dense"});
    let schema = serde_json::json!({
        "members": 1,
        "checkpoints": [{"run": 0, "epoch": 1}],
        "loss": "made up",
        "labels": "true",
        "modules": [module("0", 5, 7), module("2", 3, 6)],
    });
    let (schema, mut data) = (schema.to_string(), Vec::new());
    let mut tensor = |out: usize, input: usize| {
        let start = data.len();
        let value = |at: usize| ((at * 7 % 23) as f32 / 11.0 - 1.0).to_le_bytes();
        data.extend((0..12 * out * input).flat_map(value));
        serde_json::json!({"dtype": "F32", "shape": [12, out, input], "data_offsets": [start, data.len()]})
    };
    let header = serde_json::json!({
        "__metadata__": {"ascribe.sketch": "1", "schema": schema},
        "m0.0.g": tensor(5, 7),
        "m0.2.g": tensor(3, 6),
    });
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    (schema, bytes)
}

#[test]
fn a_store_without_a_sketch_column_gets_one() {
    let scene = Scene::new();
    // Without keys those of the log are the keys.
    scene.json(&["create", "points", "--encoder", "vectors:2"]);
    let report = scene.json(&["import", "points", "--from", "logix", "@logix/whole"]);
    assert_eq!(report["rows_imported"], Value::from(12), "{report}");
    assert!(has_note(&report, "pickles"), "{report}");
    let stats = scene.json(&["stats", "points"]);
    assert_eq!(stats["sketch"][0]["name"], Value::from("sketch"), "{stats}");
    assert_eq!(stats["sketch"][0]["width"], Value::from(45), "{stats}");
    // A second set of gradients of the same rows goes into a column of its own.
    let low_rank = ["import", "points", "--from", "logix", "@logix/low-rank"];
    scene.refused(&low_rank, 1, &["rows of two schemas cannot be compared", "--column"]);
    let report = scene.json(&[&low_rank[..], &["--column", "low-rank"]].concat());
    assert_eq!(report["filled"], Value::from(true), "{report}");
}

#[test]
fn scores_of_other_tools_become_matrices_with_keys() {
    let scene = Scene::new();
    let keys = ["--keys", "@rows.keys.jsonl", "--out", "s.npy"];
    let from = ["convert", "--from", "kronfluence", "@kronfluence/perceptron/scores_ekfac_modules"];
    let report = scene.json(&[&from[..], &keys].concat());
    assert!(has_note(&report, "2 modules were added up"), "{report}");
    agree("kronfluence", &scene.scores("s.npy"), &matrix(&expected()["kronfluence"]["ekfac"]), 1e-5);
    let lines = fs::read_to_string(scene.path("s.keys.jsonl")).unwrap();
    assert_eq!(lines.lines().next(), Some("{\"key\":\"r0\"}"));
    assert_eq!(lines.lines().count(), 12);
    let from = ["convert", "--from", "trak", "@trak/projected", "--experiment", "test"];
    scene.json(&[&from[..], &keys].concat());
    agree("trak", &scene.scores("s.npy"), &matrix(&expected()["trak"]["scores"]), 1e-6);
    scene.refused(&[&from[..], &["--out", "t.npy"]].concat(), 2, &["trak keeps no keys", "--keys"]);
    fs::write(scene.path("few.jsonl"), "{\"key\": \"a\"}\n").unwrap();
    let few = ["--keys", "few.jsonl", "--out", "t.npy"];
    scene.refused(&[&from[..], &few].concat(), 1, &["1 keys for 12 rows"]);
    assert!(!scene.path("t.npy").exists());
}

#[test]
fn a_refused_folder_leaves_nothing_behind() {
    let scene = Scene::new();
    scene.json(&["create", "points", "--encoder", "vectors:2"]);
    let import = |from: &[&'static str]| [&["import", "points"], from].concat();
    scene.refused(&import(&["--from", "bergson", "@bergson/whole"]), 2, &["bergson keeps no keys", "--keys"]);
    let keys = ["--keys", "@rows.keys.jsonl"];
    let with = |from: &[&'static str]| [&import(from)[..], &keys].concat();
    scene.refused(&with(&["--from", "bergson", "@bergson/sum"]), 1, &["config.yaml", "aggregation"]);
    scene.refused(
        &with(&["--from", "kronfluence", "@kronfluence"]),
        1,
        &["keeps no gradients", "ascribe convert"],
    );
    scene.refused(&with(&["--from", "bergson", "@bergson/queries"]), 1, &["3 rows", "nothing was imported"]);
    scene.refused(&with(&["--from", "other", "@bergson/whole"]), 2, &["the tools are bergson, trak"]);
    scene.refused(&with(&["--from", "bergson", "nowhere"]), 1, &["nowhere", "check the path"]);
    let pickle = "@logix/whole/state/covariance_state.pt";
    scene.refused(&with(&["--from", "logix", pickle]), 1, &["torch pickle", "weights_only=True"]);
    scene.refused(&["import", "points", "--parameters", "3", "--keys", "k"], 2, &["--from"]);
    scene.refused(&["convert", "--from", "trak", "@trak/whole", "--out", "x.txt"], 2, &["name it .json"]);
    // A row that is not finite is refused with its place.
    let folder = scene.path("copy");
    fs::create_dir(&folder).unwrap();
    for name in ["info.json", "gradients.bin", "processor_config.yaml", "config.yaml"] {
        fs::copy(fixtures().join("bergson/whole").join(name), folder.join(name)).unwrap();
    }
    let mut values = fs::read(folder.join("gradients.bin")).unwrap();
    values[53 * 4 * 2..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(folder.join("gradients.bin"), values).unwrap();
    scene.refused(&with(&["--from", "bergson", "copy"]), 1, &["copy, row 3", "nothing was imported"]);
    let stats = scene.json(&["stats", "points"]);
    assert_eq!((&stats["rows"], &stats["sketch"]), (&Value::from(0), &Value::Array(vec![])), "{stats}");
}
