//! The laws of samplers, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_sampler};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{GreedyFirst, GreedyFirstOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [
        json!({}),
        json!({"temperature": 0.3, "top_p": 1, "greedy": 0}),
    ] {
        let plugin = GreedyFirst::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_sampler(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<GreedyFirstOptions>(),
        &resolve_options::<GreedyFirstOptions>,
        Plan::default(),
    ))
    .unwrap();
}
