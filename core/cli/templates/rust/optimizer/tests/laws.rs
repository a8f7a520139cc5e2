//! The laws of optimizers, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_optimizer, check_options};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{Margin, MarginOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [json!({}), json!({"beta": 1, "margin": 0})] {
        let plugin = Margin::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_optimizer(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<MarginOptions>(),
        &resolve_options::<MarginOptions>,
        Plan::default(),
    ))
    .unwrap();
}
