//! The laws of rankers, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_ranker};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{NetWins, NetWinsOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [json!({}), json!({"scale": 400, "prior": 0.1})] {
        let plugin = NetWins::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_ranker(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<NetWinsOptions>(),
        &resolve_options::<NetWinsOptions>,
        Plan::default(),
    ))
    .unwrap();
}
