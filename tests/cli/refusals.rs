//! Bad input: refused with its place, exit code 1, and nothing of it in the store.

use crate::scene::{Run, Scene, floats, npy};

/// One line that says what is wrong, and where.
fn refused(run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{run:?}");
    assert!(run.err.starts_with("error: "), "{run:?}");
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), 1, "{run:?}");
    for word in words {
        assert!(run.err.contains(word), "{word:?} is not in {run:?}");
    }
}

#[test]
fn bad_lines_of_jsonl_are_refused_with_line_and_field() {
    let good = "{\"id\": \"new\", \"v\": [1, 2, 3]}\n";
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        ("wrong width", b"{\"id\": \"x\", \"v\": [1, 2]}\n".to_vec(), &["line 2", "3"]),
        ("infinity", b"{\"id\": \"x\", \"v\": [1, 2, 1e39]}\n".to_vec(), &["line 2", "\"v\"", "finite"]),
        ("no number", b"{\"id\": \"x\", \"v\": [1, 2, NaN]}\n".to_vec(), &["line 2"]),
        ("missing key", b"{\"v\": [1, 2, 3]}\n".to_vec(), &["line 2", "\"id\""]),
        ("empty key", b"{\"id\": \"\", \"v\": [1, 2, 3]}\n".to_vec(), &["line 2", "\"id\""]),
        ("duplicate key", b"{\"id\": \"p1\", \"v\": [1, 2, 3]}\n".to_vec(), &["line 2", "p1"]),
        ("twice in the input", b"{\"id\": \"new\", \"v\": [1, 2, 3]}\n".to_vec(), &["line 2", "new"]),
        ("not UTF-8", b"{\"id\": \"\xff\", \"v\": [1, 2, 3]}\n".to_vec(), &["line 2", "UTF-8"]),
        ("cut off", b"{\"id\": \"x\", \"v\": [1, 2".to_vec(), &["line 2"]),
    ];
    let place = Scene::new().with_points();
    for (what, line, words) in cases {
        let bytes = [good.as_bytes(), &line].concat();
        let arguments = ["ingest", "points", "bad.jsonl", "--key", "id", "--vector", "v"];
        place.write("bad.jsonl", &bytes);
        let run = place.run(&arguments);
        refused(&run, &[words, &["bad.jsonl", "nothing was committed"]].concat());
        assert_eq!(place.rows("points"), 4, "{what}");
        let piped = place.run_with_input(&["ingest", "points", "-", "--key", "id", "--vector", "v"], &bytes);
        refused(&piped, &[words, &["stdin"]].concat());
        assert_eq!(place.rows("points"), 4, "{what}");
        place.verify("points");
    }
}

#[test]
fn batches_before_a_bad_line_stay_unless_all_or_nothing_was_asked() {
    let place = Scene::new().with_points();
    let rows = "{\"id\": \"n1\", \"v\": [1, 2, 3]}\n{\"id\": \"n2\", \"v\": [1, 2, 3]}\n{\"id\": \"n3\"}\n";
    place.write("bad.jsonl", rows);
    let arguments = ["ingest", "points", "bad.jsonl", "--key", "id", "--vector", "v", "--commit-rows", "2"];
    refused(&place.run(&[&arguments[..], &["--atomic"]].concat()), &["line 3", "nothing was committed"]);
    assert_eq!(place.rows("points"), 4);
    refused(&place.run(&arguments), &["line 3", "2 rows up to bad.jsonl, line 2"]);
    assert_eq!(place.rows("points"), 6);
    place.verify("points");
}

#[test]
fn values_that_do_not_fit_their_field_are_refused() {
    let place = Scene::new().with_pets();
    place.write("bad.jsonl", "{\"id\": \"x\", \"text\": \"t\", \"year\": \"1990\"}\n");
    refused(&place.run(&["ingest", "pets", "bad.jsonl", "--key", "id"]), &["line 1", "year", "integer"]);
    place.write("bad.csv", "id,text,year\nx,t,soon\n");
    refused(&place.run(&["ingest", "pets", "bad.csv", "--key", "id"]), &["bad.csv", "year", "integer"]);
    place.write("bad.csv", "id,text,year\nx,t\n");
    refused(&place.run(&["ingest", "pets", "bad.csv", "--key", "id"]), &["bad.csv", "2 fields"]);
    place.write("bad.jsonl", "{\"id\": \"x\", \"year\": 1990}\n");
    refused(&place.run(&["ingest", "pets", "bad.jsonl", "--key", "id"]), &["line 1", "text"]);
    assert_eq!(place.rows("pets"), 5);
    place.verify("pets");
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let place = Scene::new().with_pets();
    place.write("rows.parquet", "PAR1");
    place.write("rows.xyz", "x");
    refused(&place.run(&["ingest", "pets", "rows.parquet"]), &["rows.parquet", "Parquet"]);
    refused(&place.run(&["ingest", "pets", "rows.xyz"]), &["rows.xyz", ".jsonl"]);
    refused(&place.run(&["ingest", "pets", "missing.jsonl"]), &["missing.jsonl"]);
    refused(&place.run(&["ingest", "pets", "pets"]), &["folder"]);
    refused(&place.run(&["import", "pets", "--keys", "missing.jsonl"]), &["missing.jsonl"]);
    assert_eq!(place.rows("pets"), 5);
}

#[test]
fn bad_matrices_are_refused_whole() {
    let place = Scene::new().with_points();
    place.write("keys.jsonl", "{\"key\": \"x\"}\n{\"key\": \"y\"}\n");
    let values = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let not_finite = floats(&[1.0, 2.0, 3.0, 4.0, f32::NAN, 6.0]);
    let big_endian: Vec<u8> = [1.0_f32; 6].iter().flat_map(|value| value.to_be_bytes()).collect();
    let whole = npy("<f4", "False", "(2, 3)", &values);
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        ("Fortran order", npy("<f4", "True", "(2, 3)", &values), &["Fortran", "ascontiguousarray"]),
        ("big-endian", npy(">f4", "False", "(2, 3)", &big_endian), &[">f4", "little-endian"]),
        ("other type", npy("<i4", "False", "(2, 3)", &values), &["<i4"]),
        ("not a number", npy("<f4", "False", "(2, 3)", &not_finite), &["row 2", "NaN"]),
        ("width", npy("<f4", "False", "(3, 2)", &values), &["2", "3"]),
        ("rows", npy("<f4", "False", "(1, 3)", &values[..12]), &["keys.jsonl"]),
        ("cut off", whole[..whole.len() - 1].to_vec(), &["cut off"]),
        ("cut off in the header", whole[..40].to_vec(), &["npy"]),
        ("added to", [whole.clone(), vec![0]].concat(), &["added to"]),
    ];
    for (what, bytes, words) in cases {
        place.write("e.npy", bytes);
        let run = place.run(&["import", "points", "--keys", "keys.jsonl", "--embeddings", "e.npy"]);
        refused(&run, &[words, &["e.npy"]].concat());
        assert_eq!(place.rows("points"), 4, "{what}");
        place.verify("points");
    }
    place.write("e.npy", &whole);
    for (keys, words) in [
        ("{\"key\": \"x\"}\n{\"key\": \"x\"}\n", &["keys.jsonl, line 2", "\"x\""][..]),
        ("{\"key\": \"x\"}\n{\"name\": \"y\"}\n", &["keys.jsonl, line 2", "key"]),
        ("{\"key\": \"x\"}\n{\"key\": \"p0\"}\n", &["keys.jsonl", "p0"]),
    ] {
        place.write("keys.jsonl", keys);
        let run = place.run(&["import", "points", "--keys", "keys.jsonl", "--embeddings", "e.npy"]);
        refused(&run, words);
        assert_eq!(place.rows("points"), 4);
    }
    place.verify("points");
}

#[test]
fn bad_questions_are_refused() {
    let place = Scene::new().with_pets().with_points();
    refused(&place.run(&["query", "pets", "x", "--where", "colour = 1"]), &["colour", "year", "kind"]);
    refused(&place.run(&["query", "pets", "x", "--where", "year ="]), &[]);
    refused(&place.run(&["query", "pets", "x", "--where", "year = 'soon'"]), &["year"]);
    refused(&place.run(&["delete", "pets", "--where", "colour = 1"]), &["colour", "nothing was deleted"]);
    refused(&place.run(&["delete", "pets", "--key", "a", "--key", "zz"]), &["zz", "nothing was deleted"]);
    refused(&place.run(&["query", "pets", "--key", "zz"]), &["zz"]);
    refused(&place.run(&["query", "pets", "x", "--column", "other"]), &["other", "embedding"]);
    refused(&place.run(&["query", "points", "some text"]), &["--vector"]);
    place.write("q.npy", npy("<f4", "False", "(2,)", &floats(&[1.0, 2.0])));
    refused(&place.run(&["query", "points", "--vector", "q.npy"]), &["q.npy", "3"]);
    place.write("q.npy", npy("<f4", "False", "(3,)", &floats(&[1.0, f32::INFINITY, 2.0])));
    refused(&place.run(&["query", "points", "--vector", "q.npy"]), &["q.npy"]);
    place.write("q.txt", "1 2 3");
    refused(&place.run(&["query", "points", "--vector", "q.txt"]), &["q.txt", ".npy"]);
    assert_eq!(place.rows("pets"), 5);
    place.verify("pets");
}

#[test]
fn what_is_no_store_and_what_cannot_be_done_yet_is_refused() {
    let place = Scene::new().with_pets();
    std::fs::create_dir(place.path("empty")).expect("a folder");
    for verb in [
        &["stats", "missing"][..],
        &["stats", "empty"],
        &["verify", "empty"],
        &["repair", "missing"],
        &["query", "pets.jsonl", "x"],
        &["ingest", "missing", "pets.jsonl"],
    ] {
        refused(&place.run(verb), &[]);
    }
    assert_eq!(std::fs::read_dir(place.path("empty")).expect("a folder").count(), 0, "nothing is left in it");
    assert!(!place.path("missing").exists());
    std::fs::create_dir(place.path("model")).expect("a folder");
    refused(&place.run(&["create", "new", "--encoder", "model"]), &["model"]);
    refused(&place.run(&["create", "new", "--encoder", "./model"]), &["model"]);
    assert!(!place.path("new").exists());
    refused(&place.run(&["alter", "pets", "--add-field", "year:text"]), &["year"]);
    refused(&place.run(&["alter", "pets", "--drop-column", "other"]), &["other"]);
    refused(&place.run(&["alter", "pets", "--add-column", "embedding=hashed"]), &["embedding"]);
    place.verify("pets");
}
