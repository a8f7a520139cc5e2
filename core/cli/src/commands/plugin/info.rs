//! `metareward plugin info`: what a plugin is, its options, its limits, its laws.

use metareward_host::{Form, PluginCard};
use metareward_laws::laws_of;
use serde_json::{Value, json};

use crate::{args::InfoArgs, failure::Failure, plugins};

/// Longest line of text for people.
const WIDTH: usize = 100;

/// Prints all of it; with `--json` one object.
///
/// # Errors
/// When there is no such plugin or its file cannot be used.
pub fn run(args: &InfoArgs, json: bool) -> Result<(), Failure> {
    let settings = plugins::settings(&args.limits);
    let registry = plugins::registry(settings.clone())?;
    let named = plugins::find(&registry, &settings, &args.plugin, args.kind, &args.trust)?;
    let card = registry.card(named.kind, &named.source).map_err(plugins::failure)?;
    let laws = laws_of(named.kind);
    if json {
        let limits = limits(card.form, settings.fuel, settings.memory_mib);
        println!("{}", json!({ "plugin": card, "limits": limits, "laws": laws }));
        return Ok(());
    }
    let PluginCard { info, form, file, sha256, api_version, options } = &card;
    let line = |name: &str, value: &str| println!("{name:<9} {value}");
    line("kind", &info.kind.to_string());
    line("name", &info.name);
    line("version", &info.version);
    line("summary", &info.summary);
    line("form", &form.to_string());
    if let Some(file) = file {
        line("file", &file.display().to_string());
    }
    if let Some(sha256) = sha256 {
        line("sha256", sha256);
    }
    line("api", api_version);
    line(
        "limits",
        &match form {
            Form::BuiltIn => "none: it is part of metareward".to_owned(),
            Form::Component => {
                format!("{} instructions and {} MiB of memory per call", settings.fuel, settings.memory_mib)
            }
            Form::Library => format!(
                "none but {} MiB per answer: it runs with your rights and in metareward's process",
                settings.memory_mib
            ),
        },
    );
    println!("\noptions");
    let properties = options.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let default = property.get("default").map_or_else(|| "none".to_owned(), shortened);
        println!("  {name}: {}, default {default}", type_of(property));
        let description = property.get("description").and_then(Value::as_str).unwrap_or("");
        wrapped(description, "    ");
        for (value, meaning) in alternatives(property) {
            wrapped(&format!("{value}: {meaning}"), "      ");
        }
    }
    if properties.is_none_or(serde_json::Map::is_empty) {
        println!("  none");
    }
    println!("\nlaws");
    for law in laws {
        wrapped(law, "  ");
    }
    Ok(())
}

fn limits(form: Form, fuel: u64, memory_mib: u32) -> Value {
    match form {
        Form::BuiltIn => Value::Null,
        Form::Component => json!({ "fuel": fuel, "memory_mib": memory_mib }),
        Form::Library => json!({ "answer_mib": memory_mib }),
    }
}

/// A default as it fits on a line; a template is only begun.
fn shortened(default: &Value) -> String {
    const LONGEST: usize = 60;
    let text = default.to_string();
    let characters = text.chars().count();
    if characters <= LONGEST {
        return text;
    }
    format!("{}… ({characters} characters; --json shows all)", text.chars().take(LONGEST).collect::<String>())
}

/// What a value may be, in words.
fn type_of(property: &Value) -> String {
    let values = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
    if let Some(list) = property.get("enum").and_then(Value::as_array) {
        return values(list);
    }
    if let Some(value) = property.get("const") {
        return value.to_string();
    }
    let parts = ["oneOf", "anyOf"].iter().find_map(|key| property.get(key)?.as_array());
    if let Some(parts) = parts {
        return parts.iter().map(type_of).collect::<Vec<_>>().join(" or ");
    }
    let types: Vec<&str> = match property.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let words: Vec<String> = types.into_iter().map(|name| plain(name, property)).collect();
    if words.is_empty() { "any value".to_owned() } else { words.join(" or ") }
}

fn plain(name: &str, property: &Value) -> String {
    match name {
        "number" => format!("a number{}", range(property)),
        "integer" => format!("a whole number{}", range(property)),
        "string" => "a text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => match property.get("items") {
            Some(items) => format!("a list, each {}", type_of(items)),
            None => "a list".to_owned(),
        },
        "object" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

fn range(property: &Value) -> String {
    let bound = |key: &str, words: &str| property.get(key).map(|value| format!(" {words} {value}"));
    let bounds = [("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below")];
    bounds.into_iter().filter_map(|(key, words)| bound(key, words)).collect()
}

/// The values of an option that has a few, where they say what they mean.
fn alternatives(property: &Value) -> Vec<(String, String)> {
    let parts = property.get("oneOf").and_then(Value::as_array);
    let meaning = |part: &Value| {
        let value = part.get("const").or_else(|| part.get("enum")?.as_array()?.first())?;
        Some((value.to_string(), part.get("description")?.as_str()?.to_owned()))
    };
    parts.into_iter().flatten().filter_map(meaning).collect()
}

/// Prints a text in lines of [`WIDTH`], each behind `indent`; continued lines a little deeper.
fn wrapped(text: &str, indent: &str) {
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        let begun = line.trim_start().is_empty();
        if !begun && line.chars().count() + word.chars().count() >= WIDTH {
            println!("{line}");
            line = format!("{indent}  ");
        }
        if !line.trim_start().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.trim_start().is_empty() {
        println!("{line}");
    }
}
