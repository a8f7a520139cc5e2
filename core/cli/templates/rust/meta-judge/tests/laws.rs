//! The laws of meta-judges, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_meta_judge, check_options};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{PlainWins, PlainWinsOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [json!({}), json!({"win": 1, "tie": 0})] {
        let plugin = PlainWins::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_meta_judge(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<PlainWinsOptions>(),
        &resolve_options::<PlainWinsOptions>,
        Plan::default(),
    ))
    .unwrap();
}
