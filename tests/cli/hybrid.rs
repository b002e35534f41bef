//! Gradient scores of the rows that embeddings or codes find.

use serde_json::{Value, json};

use crate::heads::{failed, measured, trained, with_texts};
use crate::scene::Scene;

const ASK: [&str; 9] =
    ["query", "texts", "a cat near the dog", "--label", "animal", "--members", "raw", "--format", "json"];

fn keys(answer: &Value) -> Vec<String> {
    let hits = answer["proponents"].as_array().expect("hits");
    hits.iter().map(|hit| hit["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn candidates_by_text_are_scored_by_gradients() {
    let place = with_texts();
    trained(&place);
    place.run(&["fit", "texts"]).ok();
    let gradient = place.run(&[&ASK[..], &["--score", "gradient"]].concat()).ok().json();
    let hybrid = place.run(&[&ASK[..], &["--score", "hybrid"]].concat()).ok().json();
    assert_eq!(
        (&hybrid["score"], &hybrid["searched"]["plan"], &hybrid["exact"]),
        (&json!("hybrid"), &json!("candidates"), &json!(false)),
        "{hybrid}"
    );
    assert!(!keys(&hybrid).is_empty(), "{hybrid}");
    // Of the rows that share a word with the text, in the order of their gradient scores.
    let order: Vec<String> = keys(&gradient).into_iter().filter(|key| keys(&hybrid).contains(key)).collect();
    let shared: Vec<String> = keys(&hybrid).into_iter().filter(|key| order.contains(key)).collect();
    assert_eq!(shared, order);
    let few = place.run(&[&ASK[..], &["--score", "hybrid", "--candidates", "2"]].concat()).ok().json();
    assert!(keys(&few).len() <= 2, "{few}");
    let key = ["query", "texts", "--key", "r3", "--score", "hybrid", "--format", "json"];
    assert!(keys(&place.run(&key).ok().json()).contains(&"r3".to_owned()));
}

#[test]
fn codes_find_candidates_where_they_were_kept() {
    let place = with_texts();
    trained(&place);
    let report = place.run(&["fit", "texts", "--codes", "16", "--format", "json"]).ok().json();
    assert!(report["codes"].as_u64() > Some(0) && report["codes_share"].as_f64() > Some(0.3), "{report}");
    let hybrid = [&ASK[..], &["--score", "hybrid", "-k", "3"]].concat();
    let reason = |more: &[&str]| {
        let answer = place.run(&[&hybrid[..], &["--explain"], more].concat()).ok().json();
        answer["explain"]["plan_reason"].as_str().unwrap_or_default().to_owned()
    };
    assert!(reason(&[]).contains("by codes of"), "{}", reason(&[]));
    assert!(reason(&["--candidates-by", "embedding"]).contains("by embedding column"));
    // All rows are candidates: the answer is that of gradient scores.
    let all = place.run(&hybrid).ok().json();
    let gradient = place.run(&[&ASK[..], &["--score", "gradient", "-k", "3"]].concat()).ok().json();
    assert_eq!(keys(&all), keys(&gradient));
    let run = place.run(&[&ASK[..], &["--candidates-by", "codes"]].concat());
    assert!(run.code == 2 && run.err.contains("--score hybrid"), "{run:?}");
}

#[test]
fn a_sketch_file_and_a_store_without_embeddings_have_candidates_by_codes() {
    let place = Scene::new().with_models();
    place.run(&["fit", "models", "--curvature", "fisher"]).ok();
    let ask = ["query", "models", "--sketch", "queries.safetensors", "--score", "hybrid", "--format", "json"];
    failed(&place.run(&ask), &["has no codes", "ascribe fit --curvature fisher --codes 256"]);
    place.run(&["fit", "models", "--curvature", "fisher", "--codes", "32"]).ok();
    let lines = place.run(&ask).ok().json_lines();
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line["searched"]["plan"] == json!("candidates")), "{lines:?}");
    let key = ["query", "models", "--key", "r3", "--score", "hybrid", "--format", "json"];
    assert!(keys(&place.run(&key).ok().json()).contains(&"r3".to_owned()));
    let run = place.run(&[&ask[..], &["--candidates-by", "embedding"]].concat());
    assert!(run.code == 2 && run.err.contains("no embedding"), "{run:?}");
}

#[test]
fn hybrid_questions_without_an_embedding_or_a_gradient_are_refused() {
    let place = with_texts();
    trained(&place);
    place.run(&["fit", "texts"]).ok();
    let run = place.run(&["query", "texts", "a cat", "--score", "hybrid"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("--label"), "{run:?}");
    failed(
        &place.run(&[&ASK[..], &["--score", "hybrid", "--layers"]].concat()),
        &["--layers", "--score gradient"],
    );
    failed(
        &place.run(&[&ASK[..], &["--score", "hybrid", "--curvature", "fisher"]].concat()),
        &["ascribe fit"],
    );
}

#[test]
fn hybrid_scores_are_measured_beside_the_others() {
    let place = measured();
    let eval = [
        "eval",
        "lds",
        "texts",
        "--truth",
        "t.safetensors",
        "--queries",
        "queries.jsonl",
        "--format",
        "json",
    ];
    let report =
        place.run(&[&eval[..], &["--score", "hybrid,gradient", "--candidates", "100"]].concat()).ok().json();
    let methods = report["methods"].as_array().expect("methods");
    let names: Vec<&str> =
        methods.iter().map(|method| method["score"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["hybrid, 100 candidates", "gradient"], "{report}");
    assert!(methods.iter().all(|method| method["ndcg_at_20"]["mean"].as_f64() > Some(0.5)), "{report}");
    // Both ways of finding candidates, once codes were kept.
    place.run(&["fit", "texts", "--codes", "16"]).ok();
    let both = ["--score", "hybrid,gradient", "--candidates-by", "codes,embedding", "--candidates", "100"];
    let report = place.run(&[&eval[..], &both].concat()).ok().json();
    let methods = report["methods"].as_array().expect("methods");
    let names: Vec<&str> =
        methods.iter().map(|method| method["score"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["hybrid, 100 candidates", "hybrid, 100 candidates by codes", "gradient"], "{report}");
    let run = place.run(&[&eval[..], &["--score", "gradient", "--candidates-by", "codes"]].concat());
    assert!(run.code == 2 && run.err.contains("--score hybrid"), "{run:?}");
}
