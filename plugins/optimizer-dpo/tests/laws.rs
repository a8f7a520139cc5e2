//! The laws of optimizers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::Optimizer;
use metareward_laws::{Plan, all_held, check_optimizer, check_options};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use optimizer_dpo::{Dpo, DpoOptions};
use serde_json::json;

#[test]
fn dpo_obeys_the_laws_of_optimizers() {
    for (options, pulls_apart) in [
        (json!({}), true),
        (json!({"beta": 0.5, "length_normalized": true}), true),
        (json!({"label_smoothing": 0.1}), false),
        (json!({"nll_weight": 1.5}), true),
        (json!({"nll_weight": 0.01, "nll_per": "sequence"}), true),
    ] {
        let optimizer = Dpo::from_options(read_options(&options).unwrap()).unwrap();
        assert_eq!(optimizer.promises().unwrap().pulls_apart, pulls_apart, "{options}");
        let outcomes = check_optimizer(&optimizer, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<DpoOptions>;
    all_held(&check_options(&schema::<DpoOptions>(), &resolve, Plan::default())).unwrap();
}
