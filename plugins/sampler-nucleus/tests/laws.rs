//! The laws of samplers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_sampler};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use sampler_nucleus::{Nucleus, NucleusOptions};
use serde_json::json;

#[test]
fn nucleus_obeys_the_laws_of_samplers() {
    for options in [json!({}), json!({"temperature": 0, "top_k": 3, "min_p": 0.1, "stop": ["\n\n"]})] {
        let sampler = Nucleus::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&sampler, Plan::default())).unwrap();
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<NucleusOptions>;
    all_held(&check_options(&schema::<NucleusOptions>(), &resolve, Plan::default())).unwrap();
}
