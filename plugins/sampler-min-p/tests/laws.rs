//! The laws of samplers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_sampler};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use sampler_min_p::{MinP, MinPOptions};
use serde_json::json;

#[test]
fn min_p_obeys_the_laws_of_samplers() {
    for options in [json!({}), json!({"min_p": 0.3, "temperature": 0, "stop": ["\n\n"]})] {
        let sampler = MinP::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&sampler, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<MinPOptions>;
    all_held(&check_options(&schema::<MinPOptions>(), &resolve, Plan::default())).unwrap();
}
