//! The laws of samplers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_sampler};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use sampler_temperature_ladder::{TemperatureLadder, TemperatureLadderOptions};
use serde_json::json;

#[test]
fn temperature_ladder_obeys_the_laws_of_samplers() {
    for options in [json!({}), json!({"lowest": 0, "highest": 0, "top_k": 3})] {
        let sampler = TemperatureLadder::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&sampler, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<TemperatureLadderOptions>;
    all_held(&check_options(&schema::<TemperatureLadderOptions>(), &resolve, Plan::default())).unwrap();
}
