//! Gradient scores of the rows that embeddings find.

use serde_json::{Value, json};

use crate::heads::{failed, measured, trained, with_texts};

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
}
