//! Laws of the options that plugins are made from.

use std::collections::BTreeSet;

use metareward_api::OptionError;
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::outcome::{LawOutcome, Plan, ensure, equal, law};

const ROUND_TRIP: &str = "options round-trip: what is resolved resolves to itself";
const PARTS: &str = "an option that is left out is the default, whatever else is given";
const SCHEMA: &str = "the schema names every option, with a description and its default";
const UNKNOWN: &str = "an option that does not exist is refused, with its name";

/// Checks a plugin's options. `schema` is the JSON schema that the plugin reports of them. `resolve` takes a JSON object of
/// options as they stand in a config and returns all options with their values, defaults filled in; the empty
/// object must be accepted.
pub fn check_options(
    schema: &Value,
    resolve: &dyn Fn(&Value) -> Result<Value, OptionError>,
    plan: Plan,
) -> Vec<LawOutcome> {
    let defaults = || object(resolve(&Value::Object(Map::new())).map_err(refused)?);
    vec![
        law(SCHEMA, Plan { cases: 1, ..plan }, Just(()), |()| described(schema, &defaults()?)),
        law(ROUND_TRIP, Plan { cases: 1, ..plan }, Just(()), |()| {
            let options = Value::Object(defaults()?);
            equal("resolved once more", &resolve(&options).map_err(refused)?, &options)?;
            // As a run's record holds them.
            let text = options.to_string();
            let read: Value = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
            equal("written and read", &resolve(&read).map_err(refused)?, &options)
        }),
        law(PARTS, plan, any::<u64>(), |which| {
            let all = defaults()?;
            let part = all.iter().enumerate().filter(|(index, _)| which >> (index % 64) & 1 == 1);
            let part: Map<String, Value> = part.map(|(_, (key, value))| (key.clone(), value.clone())).collect();
            let found = resolve(&Value::Object(part.clone())).map_err(refused)?;
            equal(&format!("resolved from {}", Value::Object(part)), &found, &Value::Object(all))
        }),
        law(UNKNOWN, plan, "[a-z_]{1,12}", |key| {
            if defaults()?.contains_key(&key) {
                return Ok(());
            }
            let options = Value::Object(Map::from_iter([(key.clone(), Value::Null)]));
            match resolve(&options) {
                Ok(options) => Err(format!("{options}")),
                Err(error) => ensure(error.to_string().contains(&key), || format!("the message is: {error}")),
            }
        }),
    ]
}

fn described(schema: &Value, defaults: &Map<String, Value>) -> Result<(), String> {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let names = |map: &Map<String, Value>| map.keys().cloned().collect::<BTreeSet<String>>();
    equal("options in the schema", &names(properties), &names(defaults))?;
    for (name, property) in properties {
        let description = property.get("description").and_then(Value::as_str).unwrap_or("");
        ensure(!description.trim().is_empty(), || format!("{name} has no description"))?;
        equal(&format!("default of {name}"), &property.get("default"), &defaults.get(name))?;
    }
    Ok(())
}

fn object(options: Value) -> Result<Map<String, Value>, String> {
    match options {
        Value::Object(options) => Ok(options),
        other => Err(format!("not an object: {other}")),
    }
}

fn refused(error: OptionError) -> String {
    format!("refused: {error}")
}
