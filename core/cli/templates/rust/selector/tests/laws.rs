//! The laws of selectors, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_selector};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{ClearWinner, ClearWinnerOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [json!({}), json!({"margin": 1.5, "unit": "tokens"})] {
        let plugin = ClearWinner::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_selector(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<ClearWinnerOptions>(),
        &resolve_options::<ClearWinnerOptions>,
        Plan::default(),
    ))
    .unwrap();
}
