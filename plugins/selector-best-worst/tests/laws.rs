//! The laws of selectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{Selector, SelectorPromises};
use metareward_laws::{Plan, all_held, check_options, check_selector};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use selector_best_worst::{BestWorst, BestWorstOptions};
use serde_json::json;

#[test]
fn best_worst_obeys_the_laws_of_selectors() {
    for (options, rho) in [
        (json!({}), Some(0.0)),
        (json!({"unit": "tokens"}), Some(0.0)),
        (json!({"ties": "random"}), None),
        (json!({"tolerance": 3}), None),
    ] {
        let selector = BestWorst::from_options(read_options(&options).unwrap()).unwrap();
        let promises = SelectorPromises { rho, max_chosen_length: None, ignores_order: true };
        assert_eq!(selector.promises().unwrap(), promises, "{options}");
        all_held(&check_selector(&selector, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<BestWorstOptions>;
    all_held(&check_options(&schema::<BestWorstOptions>(), &resolve, Plan::default())).unwrap();
}
