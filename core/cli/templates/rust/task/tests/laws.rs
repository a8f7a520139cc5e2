//! The laws of tasks, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_task};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{Additions, AdditionsOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [json!({}), json!({"digits": 1})] {
        let plugin = Additions::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_task(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<AdditionsOptions>(),
        &resolve_options::<AdditionsOptions>,
        Plan::default(),
    ))
    .unwrap();
}
