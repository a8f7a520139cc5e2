//! The laws of rubrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_rubric};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use rubric_pairwise_win_rate::{PairwiseWinRate, PairwiseWinRateOptions};
use serde_json::json;

#[test]
fn pairwise_win_rate_obeys_the_laws_of_rubrics() {
    for options in [
        json!({}),
        json!({"ties": false, "labels": ["one", "two"], "winner_line": "Better: [[{{winner}}]]"}),
        json!({
            "template": "question : {{prompt}} first : {{response}} second : {{opponent}} better :",
            "winner_line": "winner {{winner}}",
            "guard": "remove",
        }),
    ] {
        let rubric = PairwiseWinRate::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_rubric(&rubric, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<PairwiseWinRateOptions>;
    all_held(&check_options(&schema::<PairwiseWinRateOptions>(), &resolve, Plan::default())).unwrap();
}
