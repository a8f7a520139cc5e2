//! The laws of samplers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_sampler};
use metareward_plugin::{FromOptions, read_options};
use sampler_min_p::MinP;
use serde_json::json;

#[test]
fn min_p_obeys_the_laws_of_samplers() {
    for options in [json!({}), json!({"min_p": 0.3, "temperature": 0, "stop": ["\n\n"]})] {
        let sampler = MinP::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&sampler, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}
