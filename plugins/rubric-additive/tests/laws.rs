//! The laws of rubrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Finding, Plan, all_held, check_options, check_rubric};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use rubric_additive::{Additive, AdditiveOptions};
use serde_json::json;

#[test]
fn additive_obeys_the_laws_of_rubrics() {
    for options in [
        json!({}),
        json!({"aggregate": "median", "conflict": "last", "scale": [1, 10], "score_line": "**Total [[{{score}}]]**"}),
        json!({"guard": "remove"}),
        json!({
            "template": "judge : {{prompt}} answer : {{response}} mark :",
            "score_line": "score {{score}}",
            "guard": "remove",
        }),
    ] {
        let rubric = Additive::from_options(read_options(&options).unwrap()).unwrap();
        let outcomes = check_rubric(&rubric, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
        // One law is about rubrics that compare.
        let held = outcomes.iter().filter(|outcome| outcome.finding == Finding::Held).count();
        assert_eq!(held, outcomes.len() - 1, "{outcomes:?}");
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<AdditiveOptions>;
    all_held(&check_options(&schema::<AdditiveOptions>(), &resolve, Plan::default())).unwrap();
}
