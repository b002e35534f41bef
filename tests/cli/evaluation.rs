//! `eval`: how good the answers are.

use serde_json::{Value, json};

use crate::scene::{Scene, floats, npy};

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn recall_of_scans_is_whole_at_both_ends() {
    let place = Scene::new().with_points();
    let run = place.run(&["eval", "recall", "points", "-k", "2", "--format", "json"]).ok();
    let report = run.json();
    assert_eq!(
        names(&report),
        ["rows", "k", "queries", "proponents", "opponents", "plans", "planned_ms", "exact_ms", "elapsed_ms"]
    );
    let whole = json!({"recall": 1.0, "low": 1.0, "high": 1.0});
    assert_eq!((&report["proponents"], &report["opponents"]), (&whole, &whole));
    assert_eq!(
        (&report["rows"], &report["k"], &report["queries"], &report["plans"]),
        (&json!(4), &json!(2), &json!(4), &json!({"scan": 8}))
    );
    assert!(["planned_ms", "exact_ms", "elapsed_ms"].iter().all(|time| report[time].as_f64() >= Some(0.0)));
    assert_eq!(run.err, "");
    let table = place.run(&["eval", "recall", "points", "--queries", "3"]).ok().out;
    assert!(table.contains("proponents  recall 1.0, low 1.0, high 1.0"), "{table}");
    assert!(table.contains("plans       scan 6"), "{table}");
}

#[test]
fn recall_of_an_indexed_store_is_measured_on_as_many_rows_as_asked_for() {
    let place = Scene::new();
    place.run(&["create", "s", "--encoder", "vectors:2", "--field", "year:integer"]).ok();
    let rows = 3000;
    let values: Vec<f32> = (0..2 * rows).map(|value| ((value * 37) % 101) as f32 - 50.0).collect();
    place.write("v.npy", npy("<f4", "False", &format!("({rows}, 2)"), &floats(&values)));
    let keys: String = (0..rows).map(|row| format!("{{\"key\": \"r{row}\", \"year\": {row}}}\n")).collect();
    place.write("keys.jsonl", keys);
    place.run(&["import", "s", "--keys", "keys.jsonl", "--embeddings", "v.npy"]).ok();
    let arguments = ["eval", "recall", "s", "--queries", "20", "--where", "year < 100", "--format", "json"];
    let report = place.run(&arguments).ok().json();
    assert_eq!(
        (&report["rows"], &report["k"], &report["queries"]),
        (&json!(3000), &json!(10), &json!(20)),
        "{report}"
    );
    for end in ["proponents", "opponents"] {
        // Rows of equal scores: who wins a tie does not count.
        assert_eq!(report[end]["recall"], json!(1.0), "{report}");
    }
}

#[test]
fn recall_that_cannot_be_measured_says_why() {
    let place = Scene::new().with_pets();
    place.run(&["create", "empty", "--encoder", "vectors:2"]).ok();
    for (arguments, reason) in [
        (&["empty"][..], "column \"embedding\" has no live rows"),
        (&["pets", "--column", "other"], "no embedding column \"other\"; the columns are embedding"),
        (&["pets", "--where", "size > 3"], "size"),
        (&["nothing"], "there is no such folder"),
    ] {
        let run = place.run(&[&["eval", "recall"], arguments].concat());
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{run:?}");
        assert!(run.err.starts_with("error: ") && run.err.contains(reason), "{run:?}");
    }
}
