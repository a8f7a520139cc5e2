//! The laws of rubrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_rubric};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use rubric_holistic_10::{Holistic10, Holistic10Options};
use serde_json::json;

#[test]
fn holistic_10_obeys_the_laws_of_rubrics() {
    for options in [
        json!({}),
        json!({"aggregate": "median", "conflict": "last", "score_line": "Rating: [[{{score}}]]"}),
        json!({
            "template": "judge : {{prompt}} answer : {{response}} mark :",
            "score_line": "score {{score}}",
            "guard": "remove",
        }),
    ] {
        let rubric = Holistic10::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_rubric(&rubric, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<Holistic10Options>;
    all_held(&check_options(&schema::<Holistic10Options>(), &resolve, Plan::default())).unwrap();
}
