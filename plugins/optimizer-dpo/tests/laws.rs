//! The laws of optimizers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{OptimizerPromises, Plan, all_held, check_optimizer};
use metareward_plugin::{FromOptions, read_options};
use optimizer_dpo::Dpo;
use serde_json::json;

#[test]
fn dpo_obeys_the_laws_of_optimizers() {
    for (options, pulls_apart) in [
        (json!({}), true),
        (json!({"beta": 0.5, "length_normalized": true}), true),
        // With smoothed labels the loss rises again beyond the margin that the smoothing believes in.
        (json!({"label_smoothing": 0.1}), false),
    ] {
        let optimizer = Dpo::from_options(read_options(&options).unwrap()).unwrap();
        let outcomes = check_optimizer(&optimizer, OptimizerPromises { pulls_apart }, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}
