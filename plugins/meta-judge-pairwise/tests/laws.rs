//! The laws of meta-judges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use meta_judge_pairwise::{Pairwise, PairwiseOptions};
use metareward_laws::{Plan, all_held, check_meta_judge, check_options};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;

#[test]
fn pairwise_obeys_the_laws_of_meta_judges() {
    for options in [
        json!({}),
        json!({"position_weights": false, "scope": "response"}),
        json!({"disagreement": "tie", "labels": ["one", "two"], "winner_line": "The better one: [[{{winner}}]]"}),
        json!({"strip_score": "Score: {{score}}", "scope": "run"}),
        json!({
            "template": "judge : {{prompt}} answer : {{response}} first : {{first}} second : {{second}} better :",
            "winner_line": "winner {{winner}}",
            "guard": "remove",
            "strip_score": "score {{score}}",
        }),
    ] {
        let judge = Pairwise::from_options(read_options(&options).unwrap()).unwrap();
        let outcomes = check_meta_judge(&judge, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<PairwiseOptions>;
    all_held(&check_options(&schema::<PairwiseOptions>(), &resolve, Plan::default())).unwrap();
}
