//! The laws of samplers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_sampler};
use metareward_plugin::{FromOptions, read_options};
use sampler_nucleus::Nucleus;
use serde_json::json;

#[test]
fn nucleus_obeys_the_laws_of_samplers() {
    for options in [json!({}), json!({"temperature": 0, "top_k": 3, "min_p": 0.1, "stop": ["\n\n"]})] {
        let sampler = Nucleus::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&sampler, Plan::default())).unwrap();
    }
}
