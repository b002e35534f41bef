//! A damping that is chosen by what retrained models said.

use serde_json::json;

use crate::heads::{failed, measured};

const FIT: [&str; 8] =
    ["fit", "texts", "--truth", "t.safetensors", "--queries", "queries.jsonl", "--format", "json"];

#[test]
fn the_damping_with_the_highest_score_on_half_of_the_subsets_is_taken() {
    let place = measured();
    let before = place.run(&["fit", "texts", "--format", "json"]).ok().json();
    assert!(before.get("trials").is_none(), "{before}");
    let report = place.run(&FIT).ok().json();
    let trials = report["trials"].as_array().expect("trials");
    assert_eq!(
        (trials.len(), &report["queries"], &report["subsets_choosing"], &report["subsets_held_out"]),
        (7, &json!(6), &json!(6), &json!(6)),
        "{report}"
    );
    let lds = |trial: &serde_json::Value| trial["lds"].as_f64().expect("a number");
    let chosen: Vec<_> = trials.iter().filter(|trial| trial["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1, "{report}");
    assert!(trials.iter().all(|trial| lds(trial) <= lds(chosen[0])), "{report}");
    // The damping of the fit is the chosen share of the kernel's trace: of the default's as their shares.
    let share = chosen[0]["damping"].as_f64().expect("a number") / (0.3 / 512.0);
    let of = |report: &serde_json::Value| report["damping"][0].as_f64().expect("a number");
    assert!((of(&report) / of(&before) / share - 1.0).abs() < 1e-9, "{report} {before}");
    assert!(report["held_out_chosen"]["lds"].is_number() && report["held_out_difference"]["low"].is_number());
    // One more commit, not one for each trial.
    assert_eq!(report["commit"].as_u64(), before["commit"].as_u64().map(|commit| commit + 1));
}

#[test]
fn what_no_damping_can_be_chosen_by_is_refused() {
    let place = measured();
    for more in [["--damping", "0.1"], ["--curvature", "identity"]] {
        let run = place.run(&[&FIT[..], &more].concat());
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains("--truth"), "{run:?}");
    }
    assert_eq!(place.run(&["fit", "texts", "--truth", "t.safetensors"]).code, 2);
    place.run(&["delete", "texts", "--key", "r1"]).ok();
    failed(&place.run(&FIT), &["\"r1\"", "not in the store"]);
}
