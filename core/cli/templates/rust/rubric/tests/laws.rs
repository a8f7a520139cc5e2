//! The laws of rubrics, and of options.
#![allow(clippy::unwrap_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_options, check_rubric};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use {{file}}::{Helpfulness, HelpfulnessOptions};

#[test]
fn it_obeys_the_laws_of_its_kind() {
    for options in [
        json!({}),
        json!({"aggregate": "median", "criteria": "Short is good."}),
    ] {
        let plugin = Helpfulness::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_rubric(&plugin, Plan::default()))
            .unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn its_options_obey_theirs() {
    all_held(&check_options(
        &schema::<HelpfulnessOptions>(),
        &resolve_options::<HelpfulnessOptions>,
        Plan::default(),
    ))
    .unwrap();
}
