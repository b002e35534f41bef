//! The formats that rows come in: files, compressed files, folders and patterns, and going on with each.

use std::fs;
use std::path::PathBuf;

use crate::scene::{PETS, Scene};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    path.to_str().expect("a path of text").to_owned()
}

/// A scene with an empty store `rows` for vectors of width 3.
fn with_rows() -> Scene {
    let scene = Scene::new();
    scene
        .run(&[
            "create",
            "rows",
            "--encoder",
            "vectors:3",
            "--field",
            "year:integer",
            "--field",
            "seen:timestamp",
            "--field",
            "price:float",
            "--field",
            "kind:text",
        ])
        .ok();
    scene
}

/// A scene with an empty store `pets` of texts.
fn with_empty_pets() -> Scene {
    let scene = Scene::new();
    scene.run(&["create", "pets", "--encoder", "hashed:64", "--field", "year:integer"]).ok();
    scene
}

fn ingest<'a>(store: &'a str, files: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["ingest", store];
    arguments.extend(files);
    arguments.extend(["--format", "json"]);
    arguments
}

#[test]
fn columnar_files_are_ingested_once() {
    let mut names = vec!["plain.feather", "stream.arrow"];
    if cfg!(feature = "compression") {
        names.extend(["lz4.feather", "zstd.feather"]);
    }
    if cfg!(feature = "parquet") {
        names.extend(["none.parquet", "snappy.parquet", "zstd.parquet", "brotli.parquet"]);
    }
    for name in names {
        let scene = with_rows();
        let path = fixture(&format!("columnar/{name}"));
        let arguments = ["ingest", "rows", &path, "--key", "key", "--vector", "vector", "--commit-rows", "2"];
        scene.run(&arguments).ok();
        assert_eq!(scene.rows("rows"), 5, "{name}");
        let again = scene.run(&arguments).ok();
        assert!(again.err.contains("going on behind the 5 rows"), "{name}: {again:?}");
        assert_eq!(scene.rows("rows"), 5, "{name}");
        let found = ["year = 1990", "seen >= '2020-01-01'", "price = 12.5"].map(|filter| {
            let query = [
                "query",
                "rows",
                "--key",
                "r0",
                "--where",
                filter,
                "--side",
                "proponents",
                "--format",
                "jsonl",
            ];
            scene.run(&query).ok().json_lines().len()
        });
        assert_eq!(found, [1, 1, 1], "{name}");
        scene.verify("rows");
    }
}

#[test]
fn an_ingest_that_a_bad_row_ended_goes_on_behind_the_last_commit() {
    let scene = with_rows();
    let path = fixture("columnar/stream.arrow");
    let whole = fs::read(&path).expect("a fixture");
    // The last batch is cut off: the rows before it are committed.
    scene.write("rows.arrow", &whole[..whole.len() - 100]);
    let arguments =
        ["ingest", "rows", "rows.arrow", "--key", "key", "--vector", "vector", "--commit-rows", "1"];
    let run = scene.run(&arguments);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("3 rows up to rows.arrow, row 3 are committed and stay"), "{run:?}");
    scene.write("rows.arrow", &whole);
    let run = scene.run(&arguments).ok();
    assert!(run.err.contains("going on behind the 3 rows"), "{run:?}");
    assert_eq!(scene.rows("rows"), 5);
}

#[test]
#[cfg(feature = "compression")]
fn compressed_lines_are_ingested_and_go_on_when_they_grow() {
    use std::io::Write;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    let zstd = |text: &str| zstd::stream::encode_all(text.as_bytes(), 3).expect("memory takes it");
    let (first, second) = PETS.split_at(PETS.find("{\"id\": \"c\"").expect("row c"));
    for (name, old, more) in
        [("pets.jsonl.gz", gzip(first), gzip(second)), ("pets.jsonl.zst", zstd(first), zstd(second))]
    {
        let scene = with_empty_pets();
        scene.write(name, &old);
        let arguments = ["ingest", "pets", name, "--key", "id"];
        scene.run(&arguments).ok();
        scene.write(name, [old, more].concat());
        let run = scene.run(&arguments).ok();
        assert!(run.err.contains("going on behind the 2 rows"), "{name}: {run:?}");
        assert_eq!(scene.rows("pets"), 5, "{name}");
    }
}

#[test]
fn saved_datasets_are_ingested_and_a_split_must_be_named() {
    let scene = with_empty_pets();
    let single = fixture("datasets/single");
    let run = scene.run(&ingest("pets", &[&single])).ok();
    assert_eq!(run.json()["rows_added"], 4, "{run:?}");
    let splits = fixture("datasets/splits");
    let run = scene.run(&ingest("pets", &[&splits]));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("\"train\", \"test\"") && run.err.contains("datasets/splits/train"), "{run:?}");
    scene.run(&ingest("pets", &[&format!("{splits}/train"), &format!("{splits}/test")])).ok();
    assert_eq!(scene.rows("pets"), 7);
}

#[test]
fn folders_and_patterns_are_expanded() {
    let scene = with_empty_pets();
    fs::create_dir(scene.path("data")).expect("a folder");
    scene.write("data/b.jsonl", "{\"text\": \"from b\"}\n");
    scene.write("data/a.csv", "text\nfrom a\n");
    scene.write("data/notes.md", "not rows");
    let run = scene.run(&ingest("pets", &["data"])).ok();
    assert_eq!(run.json()["rows_added"], 2, "{run:?}");
    assert!(run.err.contains("data: not reading notes.md"), "{run:?}");
    scene.write("data/c.jsonl", "{\"text\": \"from c\"}\n");
    let run = scene.run(&ingest("pets", &["data/*.jsonl", "data/c.jsonl"])).ok();
    assert_eq!(run.json()["rows_added"], 1, "{run:?}");
    assert!(run.err.contains("data/c.jsonl is named twice; reading it once"), "{run:?}");
    assert!(run.err.contains("data/b.jsonl: going on behind the 1 rows"), "{run:?}");
    let run = scene.run(&ingest("pets", &["data/*.parquet"]));
    assert!(run.code == 1 && run.err.contains("no file matches \"data/*.parquet\""), "{run:?}");
    let run = scene.run(&["ingest", "pets", "data", "--atomic"]);
    assert!(run.code == 2 && run.err.contains("--atomic takes one input alone"), "{run:?}");
}

#[test]
fn damage_inside_a_decoder_ends_in_one_line() {
    let scene = with_rows();
    let whole = fs::read(fixture("columnar/plain.feather")).expect("a fixture");
    let mut walled = 0;
    // The schema stands at the start of a file's footer.
    for offset in (whole.len() - 1200..whole.len() - 10).step_by(3) {
        let mut bytes = whole.clone();
        bytes[offset] ^= 0x3f;
        scene.write("rows.feather", &bytes);
        let run = scene.run(&["ingest", "rows", "rows.feather", "--key", "key", "--on-duplicate", "skip"]);
        assert!([0, 1].contains(&run.code) && !run.err.contains("panicked"), "byte {offset}: {run:?}");
        walled += usize::from(run.err.contains("types that are not known"));
        if walled > 0 {
            return;
        }
    }
    panic!("not one change reached the wall");
}
