//! The laws of optimizers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::Optimizer;
use metareward_laws::{Plan, all_held, check_optimizer, check_options};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use optimizer_sppo::{Sppo, SppoOptions};
use serde_json::json;

#[test]
fn sppo_obeys_the_laws_of_optimizers() {
    for (options, pulls_apart) in [(json!({}), false), (json!({"beta": 0.05, "nll_weight": 1}), false)] {
        let optimizer = Sppo::from_options(read_options(&options).unwrap()).unwrap();
        assert_eq!(optimizer.promises().unwrap().pulls_apart, pulls_apart, "{options}");
        let outcomes = check_optimizer(&optimizer, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<SppoOptions>;
    all_held(&check_options(&schema::<SppoOptions>(), &resolve, Plan::default())).unwrap();
}
