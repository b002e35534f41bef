//! A folder to work in, and the binary run in it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ascribe");

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }

    /// Fails the test unless the exit code is 0.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Standard output as one JSON value a line.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

/// Every verb that `--help` lists.
pub(crate) const VERBS: &[&str] = &[
    "create",
    "alter",
    "ingest",
    "import",
    "convert",
    "query",
    #[cfg(feature = "bert")]
    "train-head",
    "fit",
    "score",
    "self",
    #[cfg(feature = "bert")]
    "measure-truth",
    "delete",
    "compact",
    "stats",
    "eval",
    "audit",
    "verify",
    "repair",
    "demo",
    "completions",
    "man",
];

/// A folder of its own, gone after the test.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file can be written");
    }

    /// The binary with these arguments, in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path()).env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("the binary runs"))
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Run {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A verb that refuses early does not read to the end.
        let _ = stdin.write_all(input.as_ref());
        drop(stdin);
        Run::of(child.wait_with_output().expect("the binary ends"))
    }

    /// Runs a script in the folder, with the binary's folder first in the path.
    pub(crate) fn shell(&self, script: &str) -> Run {
        let mut folders = vec![PathBuf::from(BINARY).parent().expect("a folder").to_owned()];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(folders).expect("a path");
        let output = Command::new("sh")
            .args(["-e", "-c", script])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .output()
            .expect("sh runs");
        Run::of(output)
    }

    /// A store `pets` of texts with five rows, keys `a` to `e`.
    pub(crate) fn with_pets(self) -> Self {
        self.run(&[
            "create",
            "pets",
            "--encoder",
            "hashed:64",
            "--field",
            "year:integer",
            "--field",
            "kind:text",
        ])
        .ok();
        self.write("pets.jsonl", PETS);
        self.run(&["ingest", "pets", "pets.jsonl", "--key", "id"]).ok();
        self
    }

    /// A store `points` of vectors of width 3 with four rows, keys `p0` to `p3`.
    pub(crate) fn with_points(self) -> Self {
        self.run(&["create", "points", "--encoder", "vectors:3"]).ok();
        self.write("points.jsonl", POINTS);
        self.run(&["ingest", "points", "points.jsonl", "--key", "id", "--vector", "v"]).ok();
        self
    }

    /// A store `models` with gradients of 40 rows, keys `r0` to `r39`, and the files that they came from, `train` and
    /// `queries`.
    pub(crate) fn with_models(self) -> Self {
        for name in ["train.safetensors", "train.keys.jsonl", "queries.safetensors", "queries.keys.jsonl"] {
            let from =
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attribution").join(name);
            fs::copy(from, self.path(name)).expect("a file can be copied");
        }
        let train = fs::read(self.path("train.safetensors")).expect("a file");
        let length = u64::from_le_bytes(train[..8].try_into().expect("8 bytes")) as usize;
        let header: Value = serde_json::from_slice(&train[8..8 + length]).expect("a header");
        self.write("schema.json", header["__metadata__"]["schema"].as_str().expect("a schema"));
        self.run(&["create", "models", "--sketch", "schema.json", "--field", "label:integer"]).ok();
        let arguments = ["import", "models", "--keys", "train.keys.jsonl", "--sketches", "train.safetensors"];
        self.run(&arguments).ok();
        self
    }

    /// Number of live rows of a store.
    pub(crate) fn rows(&self, store: &str) -> u64 {
        self.run(&["stats", store, "--format", "json"]).ok().json()["rows"]
            .as_u64()
            .expect("a number of rows")
    }

    /// Fails the test unless every byte of the store is as it should be.
    pub(crate) fn verify(&self, store: &str) {
        let run = self.run(&["verify", store, "--deep", "--format", "json"]).ok();
        assert_eq!(run.json()["ok"], true, "{run:?}");
        assert_eq!(run.json()["catalog_checked"], true, "{run:?}");
    }
}

pub(crate) const PETS: &str = r#"{"id": "a", "text": "a cat sat on the mat", "year": 1990, "kind": "cat", "note": 1}
{"id": "b", "text": "two cats on a roof", "year": 1995, "kind": "cat"}
{"id": "c", "text": "a dog in the rain", "year": 2000, "kind": "dog"}
{"id": "d", "text": "the dog and the cat", "year": 2005, "kind": "both"}
{"id": "e", "text": "rain over the sea", "year": 2010, "kind": null}
"#;

pub(crate) const POINTS: &str = r#"{"id": "p0", "v": [1, 0, 0], "name": "east"}
{"id": "p1", "v": [0, 1, 0], "name": "north"}
{"id": "p2", "v": [-1, 0, 0], "name": "west"}
{"id": "p3", "v": [0.5, 0.5, 0], "name": "between"}
"#;

/// An npy file of version 1. `order` is `False` or `True`.
pub(crate) fn npy(kind: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

/// Little-endian single precision.
pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
