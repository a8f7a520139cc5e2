//! Honest options and wrong ones.

use metareward_api::OptionError;
use metareward_laws::check_options;
use serde_json::{Value, json};

use crate::{PLAN, case, every_law_breaks, holds};

/// Options `beta` and `unit` with defaults.
fn resolve(options: &Value) -> Result<Value, OptionError> {
    let mut all = json!({"beta": 0.1, "unit": "characters"});
    for (key, value) in options.as_object().unwrap() {
        match all.get_mut(key) {
            Some(place) => *place = value.clone(),
            None => return Err(OptionError::at(key, "unknown")),
        }
    }
    Ok(all)
}

fn schema() -> Value {
    json!({"properties": {
        "beta": {"description": "how far", "default": 0.1},
        "unit": {"description": "what of", "default": "characters"},
    }})
}

#[test]
fn every_law_of_options_breaks() {
    let grows = |options: &Value| {
        let mut all = resolve(options)?;
        all["beta"] = json!(all["beta"].as_f64().unwrap() * 2.0);
        Ok(all)
    };
    let forgets = |options: &Value| match options.get("beta") {
        Some(beta) => Ok(json!({"beta": beta, "unit": options.get("unit").unwrap_or(&Value::Null)})),
        None => resolve(options),
    };
    let careless = |options: &Value| resolve(options).or_else(|_| resolve(&json!({})));
    let names: Vec<&str> = check_options(&schema(), &resolve, PLAN).iter().map(|outcome| outcome.law).collect();
    let mut outdated = schema();
    outdated["properties"]["beta"]["default"] = json!(0.2);
    let cases = [
        case("the schema names every option", "another default than the one used", || {
            check_options(&outdated, &resolve, PLAN)
        }),
        case("the schema names every option", "no schema", || check_options(&Value::Null, &resolve, PLAN)),
        case("options round-trip", "doubled every time", || check_options(&schema(), &grows, PLAN)),
        case("an option that is left out", "no default beside another option", || {
            check_options(&schema(), &forgets, PLAN)
        }),
        case("an option that does not exist", "unknown options ignored", || check_options(&schema(), &careless, PLAN)),
    ];
    every_law_breaks(&names, &cases);
    holds(&check_options(&schema(), &resolve, PLAN), &[]);
}
