//! The laws of optimizers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::Optimizer;
use metareward_laws::{Plan, all_held, check_optimizer, check_options};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use optimizer_length_normalised::{LengthNormalised, LengthNormalisedOptions};
use serde_json::json;

#[test]
fn length_normalised_obeys_the_laws_of_optimizers() {
    for (options, pulls_apart) in [(json!({}), true), (json!({"beta": 0.1, "nll_weight": 0.2}), true)] {
        let optimizer = LengthNormalised::from_options(read_options(&options).unwrap()).unwrap();
        assert_eq!(optimizer.promises().unwrap().pulls_apart, pulls_apart, "{options}");
        let outcomes = check_optimizer(&optimizer, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<LengthNormalisedOptions>;
    all_held(&check_options(&schema::<LengthNormalisedOptions>(), &resolve, Plan::default())).unwrap();
}
