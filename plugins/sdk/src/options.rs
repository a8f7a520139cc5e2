//! Options of a plugin: a JSON object in, a checked struct out, and errors that name the key.

use metareward_api::{OptionError, Plugin, PluginInfo};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The options of a plugin: a struct with a default for every field. A field may be such a struct itself; enums with
/// data in them are not supported.
///
/// Derive `Serialize`, `Deserialize` and `JsonSchema` with `#[serde(default, deny_unknown_fields)]` and skip no field, so
/// that every option is in the default's JSON: that is how the known names are found. The fields' doc comments are what
/// users read of the options.
pub trait Options: Serialize + DeserializeOwned + Default + JsonSchema {
    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// The first option that is out of its range, with what was expected.
    fn check(&self) -> Result<(), OptionError> {
        Ok(())
    }
}

/// A plugin that is made from options.
pub trait FromOptions: Plugin + Sized + 'static {
    /// Its options.
    type Options: Options;

    /// Kind, name and version, known without making the plugin. [`Plugin::info`] returns the same.
    fn describe() -> PluginInfo;

    /// Makes the plugin. The options have passed [`Options::check`].
    ///
    /// # Errors
    /// When an option cannot be used, for example a template that does not parse.
    fn from_options(options: Self::Options) -> Result<Self, OptionError>;
}

/// Options from a JSON object; `null` is an empty object. Options that are not given have their defaults.
///
/// # Errors
/// An unknown key (with the nearest known one), a value of the wrong type, a value out of its range.
pub fn read_options<T: Options>(given: &Value) -> Result<T, OptionError> {
    let given = match given {
        Value::Null => &Map::new(),
        Value::Object(object) => object,
        other => return Err(OptionError::new(format!("expected a table of options, found {other}"))),
    };
    let mut merged = Value::Object(default_options::<T>()?);
    apply::<T>(&mut merged, &mut Vec::new(), given)?;
    let options = T::deserialize(merged).map_err(|error| OptionError::new(plain(&error)))?;
    options.check()?;
    Ok(options)
}

/// Puts what is given over the defaults, one value at a time: what fails then fails because of this value.
fn apply<T: Options>(
    merged: &mut Value,
    path: &mut Vec<String>,
    given: &Map<String, Value>,
) -> Result<(), OptionError> {
    for (key, value) in given {
        let table = path.iter().try_fold(&mut *merged, |table, name| table.get_mut(name));
        let Some(Value::Object(table)) = table else {
            return Err(OptionError::at(path.join("."), "expected a value, found a table"));
        };
        path.push(key.clone());
        let known: Vec<String> = table.keys().cloned().collect();
        match (table.get_mut(key), value) {
            (None, _) => return Err(OptionError::at(path.join("."), unknown(key, &known))),
            (Some(Value::Object(inner)), Value::Object(value)) if !inner.is_empty() => {
                apply::<T>(merged, path, value)?;
            }
            (Some(place), value) => {
                *place = value.clone();
                T::deserialize(&*merged).map_err(|error| OptionError::at(path.join("."), plain(&error)))?;
            }
        }
        path.pop();
    }
    Ok(())
}

/// The options as they will be used, defaults included, in one spelling: what a run records.
///
/// # Errors
/// As [`read_options`].
pub fn resolve_options<T: Options>(given: &Value) -> Result<Value, OptionError> {
    serde_json::to_value(read_options::<T>(given)?).map_err(|error| OptionError::new(error.to_string()))
}

/// All options with their defaults.
///
/// # Errors
/// When `T` is not a struct with named fields.
pub fn default_options<T: Options>() -> Result<Map<String, Value>, OptionError> {
    match serde_json::to_value(T::default()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(OptionError::new(format!("options must be a struct with named fields, not {other}"))),
        Err(error) => Err(OptionError::new(error.to_string())),
    }
}

/// JSON schema of the options: `properties`, each with its `description` and `default`. Without references, so that a
/// reader needs no more than the object.
pub fn schema<T: Options>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The known name that `name` was probably meant to be, or `None` when none is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lowered = name.to_lowercase().replace(['-', ' '], "_");
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lowered, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(likeness, _)| *likeness >= 0.75)
        // The first of equally near names, so that the answer follows the order of `known`.
        .fold(None, |best: Option<(f64, &str)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, candidate)| candidate)
}

fn unknown(key: &str, known: &[String]) -> String {
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = nearest(key, known.iter().map(String::as_str)).map(|name| format!("did you mean `{name}`? "));
    if known.is_empty() {
        "unknown option; the plugin has none".to_owned()
    } else {
        format!("unknown option; {}known options: {list}", hint.unwrap_or_default())
    }
}

/// serde's message in words that do not need Rust to be understood.
fn plain(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    for (rust, words) in [
        ("expected f64", "expected a number"),
        ("expected u32", "expected a whole number from 0"),
        ("expected u64", "expected a whole number from 0"),
        ("expected a string", "expected a text"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("unknown variant ", "unknown value "),
    ] {
        message = message.replace(rust, words);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        regularization: f64,
        top_k: Option<u32>,
        unit: Unit,
        stop: Vec<String>,
        noise: Noise,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Noise {
        order: f64,
        missing: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Unit {
        Characters,
        Tokens,
    }

    impl Default for Sample {
        fn default() -> Self {
            let noise = Noise { order: 0.25, missing: 0.125 };
            Self { regularization: 0.5, top_k: None, unit: Unit::Characters, stop: Vec::new(), noise }
        }
    }

    impl Options for Sample {
        fn check(&self) -> Result<(), OptionError> {
            if self.regularization < 0.0 {
                return Err(OptionError::at("regularization", "expected a number from 0"));
            }
            Ok(())
        }
    }

    fn message(given: Value) -> String {
        read_options::<Sample>(&given).unwrap_err().to_string()
    }

    #[test]
    fn absent_options_have_their_defaults() {
        assert_eq!(read_options::<Sample>(&Value::Null).unwrap(), Sample::default());
        assert_eq!(read_options::<Sample>(&json!({})).unwrap(), Sample::default());
        let some: Sample = read_options(&json!({"top_k": 3, "unit": "tokens"})).unwrap();
        assert_eq!(some, Sample { top_k: Some(3), unit: Unit::Tokens, ..Sample::default() });
    }

    #[test]
    fn resolved_options_have_one_spelling() {
        let whole = resolve_options::<Sample>(&json!({"regularization": 1})).unwrap();
        let fraction = resolve_options::<Sample>(&json!({"regularization": 1.0})).unwrap();
        assert_eq!(whole.to_string(), fraction.to_string());
        assert_eq!(resolve_options::<Sample>(&whole).unwrap(), whole);
    }

    #[test]
    fn errors_name_the_key_and_what_was_expected() {
        assert_eq!(
            message(json!({"regularisation": 1})),
            "option `regularisation`: unknown option; did you mean `regularization`? known options: `noise`, \
             `regularization`, `stop`, `top_k`, `unit`"
        );
        assert_eq!(
            message(json!({"zzz": 1})),
            "option `zzz`: unknown option; known options: `noise`, `regularization`, `stop`, `top_k`, `unit`"
        );
        assert_eq!(
            message(json!({"regularization": "much"})),
            "option `regularization`: invalid type: string \"much\", expected a number"
        );
        assert_eq!(
            message(json!({"top_k": -1})),
            "option `top_k`: invalid value: integer `-1`, expected a whole number from 0"
        );
        assert_eq!(
            message(json!({"unit": "words"})),
            "option `unit`: unknown value `words`, expected `characters` or `tokens`"
        );
        assert_eq!(message(json!({"regularization": -1})), "option `regularization`: expected a number from 0");
        assert_eq!(message(json!([1])), "expected a table of options, found [1]");
    }

    #[test]
    fn tables_in_options_keep_their_other_values_and_name_their_keys() {
        let options: Sample = read_options(&json!({"noise": {"order": 1}})).unwrap();
        assert_eq!(options.noise, Noise { order: 1.0, missing: 0.125 });
        assert_eq!(
            message(json!({"noise": {"mising": 1}})),
            "option `noise.mising`: unknown option; did you mean `missing`? known options: `missing`, `order`"
        );
        assert_eq!(
            message(json!({"noise": {"order": true}})),
            "option `noise.order`: invalid type: boolean `true`, expected a number"
        );
        assert!(message(json!({"noise": 3})).starts_with("option `noise`: invalid type: integer `3`"));
    }

    #[test]
    fn nearest_knows_dashes_and_slips() {
        assert_eq!(nearest("top-k", ["top_p", "top_k"]), Some("top_k"));
        assert_eq!(nearest("ello", ["elo", "newman"]), Some("elo"));
        assert_eq!(nearest("bradley", ["elo", "newman"]), None);
    }
}
