//! The laws of selectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{PluginError, Selector, SelectorPromises};
use metareward_laws::{Plan, all_held, check_options, check_selector, check_selector_family};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use selector_length_control::{LengthControl, LengthControlOptions};
use serde_json::json;

#[test]
fn length_control_obeys_the_laws_of_selectors() {
    for (options, promises) in [
        (json!({}), SelectorPromises { rho: Some(0.0), max_chosen_length: None, ignores_order: true }),
        (
            json!({"rho": 0.32, "unit": "tokens", "ties": "random", "max_chosen_length": 10}),
            SelectorPromises { rho: Some(0.32), max_chosen_length: Some(10), ignores_order: true },
        ),
        (
            json!({"rho": 0.9, "ties": "first", "max_chosen_length": 2500}),
            SelectorPromises { rho: Some(0.9), max_chosen_length: Some(2500), ignores_order: false },
        ),
        (
            json!({"prefer": "random", "ties": "first"}),
            SelectorPromises { ignores_order: true, ..SelectorPromises::default() },
        ),
    ] {
        let selector = LengthControl::from_options(read_options(&options).unwrap()).unwrap();
        assert_eq!(selector.promises().unwrap(), promises, "{options}");
        let outcomes = check_selector(&selector, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}

#[test]
fn a_larger_rho_never_lengthens_the_chosen_text() {
    let make = |rho: f64| -> Result<Box<dyn Selector>, PluginError> {
        let options = LengthControlOptions { rho, ..LengthControlOptions::default() };
        let selector = LengthControl::from_options(options).map_err(|error| PluginError::new(error.to_string()))?;
        Ok(Box::new(selector))
    };
    all_held(&check_selector_family(&make, Plan { cases: 512, seed: 2 })).unwrap();
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<LengthControlOptions>;
    all_held(&check_options(&schema::<LengthControlOptions>(), &resolve, Plan::default())).unwrap();
}
