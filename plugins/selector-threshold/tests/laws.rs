//! The laws of selectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_selector};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use selector_threshold::{Threshold, ThresholdOptions};
use serde_json::json;

#[test]
fn threshold_obeys_the_laws_of_selectors() {
    for options in [
        json!({}),
        json!({"chosen_min": 4, "rejected_max": 2, "min_gap": 0, "prefer": "length", "unit": "tokens"}),
        json!({"chosen_min": 3.4, "min_gap": 2.5}),
        json!({"prefer": "random", "min_gap": 0}),
        json!({"prefer": "length", "min_gap": 0}),
    ] {
        let selector = Threshold::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_selector(&selector, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<ThresholdOptions>;
    all_held(&check_options(&schema::<ThresholdOptions>(), &resolve, Plan::default())).unwrap();
}
