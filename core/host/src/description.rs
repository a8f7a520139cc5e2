//! What a plugin from outside says of itself, checked.

use metareward_api::{Kind, PluginInfo};
use metareward_plugin::wire::Cross;
use serde_json::Value;

use crate::{LoadError, bindings::types as wire, log, options};

/// Longest name, version or summary that is taken over.
const LONGEST: usize = 200;

/// Kind, name, version and summary, and the schema of its options.
pub(crate) fn read(said: wire::Description, exported: Kind) -> Result<(PluginInfo, Value), LoadError> {
    let wire::Description { kind, name, version, summary, options_schema } = said;
    let kind: Kind = kind.cross();
    if kind != exported {
        return Err(LoadError::NoPlugin(format!("it says that it is a {kind}, but exports a {exported}")));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(allowed) {
        let name = log::clean(&name);
        return Err(LoadError::NoPlugin(format!("its name {name:?} is not of letters, digits, `-`, `_` and `.`")));
    }
    let schema: Value = serde_json::from_str(&options_schema)
        .map_err(|error| LoadError::NoPlugin(format!("its schema of options is no JSON: {error}")))?;
    if !schema.is_object() {
        return Err(LoadError::NoPlugin("its schema of options is no JSON object".to_owned()));
    }
    let short = |text: &str| log::clean(text).chars().take(LONGEST).collect();
    Ok((PluginInfo { kind, name, version: short(&version), summary: short(&summary) }, options::spelled(schema)))
}
