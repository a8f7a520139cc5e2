//! The laws of samplers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_sampler};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use sampler_top_n_sigma::{TopNSigma, TopNSigmaOptions};
use serde_json::json;

#[test]
fn top_n_sigma_obeys_the_laws_of_samplers() {
    for options in [
        json!({}),
        json!({"n": 0, "candidates": 5}),
        json!({"n": 3, "temperature": 2.5, "candidates": 100}),
        json!({"temperature": 0}),
    ] {
        let sampler = TopNSigma::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&sampler, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<TopNSigmaOptions>;
    all_held(&check_options(&schema::<TopNSigmaOptions>(), &resolve, Plan::default())).unwrap();
}
