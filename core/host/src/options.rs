//! Options of plugins from outside: checked against the schema that the plugin reports.

use metareward_api::OptionError;
use metareward_plugin::nearest;
use serde_json::{Map, Value};

/// All options as the plugin will get them: what is given over the schema's defaults, whole numbers as numbers with a
/// point where the schema wants those. `null` asks for the defaults.
pub(crate) fn resolve(schema: &Value, given: &Value) -> Result<Value, OptionError> {
    let given = match given {
        Value::Null => &Map::new(),
        Value::Object(object) => object,
        other => return Err(OptionError::new(format!("expected a table of options, found {other}"))),
    };
    let mut path = Vec::new();
    table(schema, given, None, &mut path).map(Value::Object)
}

/// The schema with its defaults in the spelling in which the plugin gets them: languages with one kind of number write 1
/// for 1.0.
pub(crate) fn spelled(mut schema: Value) -> Value {
    // Where nothing is given, nothing can be refused.
    let defaults = resolve(&schema, &Value::Null).unwrap_or_default();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    for (key, property) in properties {
        if let (Some(default), Some(value)) = (property.get_mut("default"), defaults.get(key)) {
            default.clone_from(value);
        }
    }
    schema
}

/// One table of options. `default` is what its parent says of it.
fn table(
    schema: &Value,
    given: &Map<String, Value>,
    default: Option<&Value>,
    path: &mut Vec<String>,
) -> Result<Map<String, Value>, OptionError> {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for key in given.keys() {
        if !properties.contains_key(key) {
            path.push(key.clone());
            return Err(OptionError::at(path.join("."), unknown(key, properties)));
        }
    }
    let mut resolved = Map::new();
    for (key, property) in properties {
        path.push(key.clone());
        let default = default.and_then(|table| table.get(key)).or_else(|| property.get("default"));
        let inner = property.get("properties").is_some();
        let value = match given.get(key) {
            Some(Value::Object(table_given)) if inner => {
                Some(Value::Object(table(property, table_given, default, path)?))
            }
            Some(value) => Some(value.clone()),
            None => default.cloned(),
        };
        if let Some(value) = value {
            resolved.insert(key.clone(), number(property, value));
        }
        path.pop();
    }
    Ok(resolved)
}

/// One spelling: 1 becomes 1.0 where the schema says number.
fn number(schema: &Value, value: Value) -> Value {
    let is_number = match schema.get("type") {
        Some(Value::String(name)) => name == "number",
        Some(Value::Array(names)) => names.iter().any(|name| name == "number"),
        _ => false,
    };
    match (&value, schema.get("items")) {
        (Value::Number(_), _) if is_number => value.as_f64().map_or(value, Value::from),
        (Value::Array(items), Some(schema)) => items.iter().map(|item| number(schema, item.clone())).collect(),
        _ => value,
    }
}

/// Checks resolved options by the whole of the schema.
pub(crate) fn validate(schema: &Value, resolved: &Value) -> Result<(), OptionError> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| OptionError::new(format!("the plugin's schema of options cannot be used: {error}")))?;
    match validator.iter_errors(resolved).next() {
        None => Ok(()),
        Some(error) => {
            let key = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
            let message = error.to_string();
            Err(if key.is_empty() { OptionError::new(message) } else { OptionError::at(key, message) })
        }
    }
}

fn unknown(key: &str, known: &Map<String, Value>) -> String {
    if known.is_empty() {
        return "unknown option; the plugin has none".to_owned();
    }
    let hint = nearest(key, known.keys().map(String::as_str)).map(|name| format!("did you mean `{name}`? "));
    let list = known.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!("unknown option; {}known options: {list}", hint.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "factor": {"type": "number", "default": 0.5, "minimum": 0},
                "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
                "noise": {
                    "type": "object",
                    "properties": {"order": {"type": "number"}, "missing": {"type": "number"}},
                    "default": {"order": 0.25, "missing": 0.125},
                },
                "steps": {"type": ["integer", "null"], "default": null},
            },
        })
    }

    #[test]
    fn defaults_are_filled_in_and_numbers_have_one_spelling() {
        let all = json!({"factor": 0.5, "mode": "fast", "noise": {"order": 0.25, "missing": 0.125}, "steps": null});
        assert_eq!(resolve(&schema(), &Value::Null).unwrap(), all);
        let some = resolve(&schema(), &json!({"factor": 2, "noise": {"order": 1}})).unwrap();
        assert_eq!(some["factor"].to_string(), "2.0");
        assert_eq!(some["noise"].to_string(), r#"{"missing":0.125,"order":1.0}"#);
        assert_eq!(resolve(&schema(), &some).unwrap(), some);
    }

    #[test]
    fn a_schema_shows_its_defaults_as_they_are_resolved() {
        let whole = |number: Value| json!({"properties": {"a": {"type": "number", "default": number}, "b": {}}});
        assert_eq!(spelled(whole(json!(1))).to_string(), whole(json!(1.0)).to_string());
        assert_eq!(spelled(schema()), schema());
    }

    #[test]
    fn unknown_options_come_with_a_suggestion_and_their_place() {
        let message = |given| resolve(&schema(), &given).unwrap_err().to_string();
        assert!(message(json!({"facter": 1})).starts_with("option `facter`: unknown option; did you mean `factor`?"));
        assert!(message(json!({"noise": {"oder": 1}})).starts_with("option `noise.oder`: unknown option"));
        assert_eq!(message(json!(3)), "expected a table of options, found 3");
    }

    #[test]
    fn values_are_checked_by_the_schema() {
        let message = |given| validate(&schema(), &resolve(&schema(), &given).unwrap()).unwrap_err().to_string();
        assert!(message(json!({"factor": -1})).starts_with("option `factor`: -1"));
        assert!(message(json!({"mode": "mean"})).starts_with("option `mode`: \"mean\""));
        validate(&schema(), &resolve(&schema(), &Value::Null).unwrap()).unwrap();
    }
}
