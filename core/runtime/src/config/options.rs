//! Options of plugins: files put in, schedules taken apart.

use std::fs;

use metareward_api::{Kind, OptionError};
use metareward_host::{HostError, LoadError, PluginRecord, Registry, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Loaded, PluginSection};
use crate::{RunError, error::nearest};

/// A plugin of the config as it is used, and how the host finds it again.
pub(crate) struct Chosen {
    pub source: Source,
    pub used: PluginUse,
}

/// A plugin of the config with its options in every iteration, defaults included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginUse {
    /// Section of the config, for example `selector.actor`.
    pub section: String,
    /// What is used, one entry per iteration.
    pub iterations: Vec<PluginRecord>,
}

/// Defaults that belong to a section and not to the plugin: (section, plugin, option, value). Judge pairs are highest
/// against lowest with ties at random (paper section 3, step 7), where actor pairs look at length.
const SECTION_DEFAULTS: &[(&str, &str, &str, &str)] = &[("selector.judge", "length-control", "prefer", "random")];

impl Loaded {
    /// Replaces every `{ file = "name" }` by the text of the file, relative to the experiment.
    pub(crate) fn with_files(
        &self,
        section: &str,
        options: &Map<String, Value>,
    ) -> Result<Map<String, Value>, RunError> {
        let read = |key: &str, value: &Value| -> Result<Value, RunError> {
            let Some(Value::String(name)) =
                value.as_object().filter(|table| table.len() == 1).and_then(|t| t.get("file"))
            else {
                return Ok(value.clone());
            };
            let path = self.folder.join(name);
            let key = format!("{section}.options.{key}");
            fs::read_to_string(&path).map(Value::String).map_err(|error| RunError::PluginConfig {
                place: self.place(&key),
                key,
                message: format!("cannot read {}: {error}", path.display()),
            })
        };
        let mut replaced = Map::new();
        for (key, value) in options {
            let value = match value {
                Value::Array(items) => {
                    Value::Array(items.iter().map(|item| read(key, item)).collect::<Result<_, _>>()?)
                }
                other => read(key, other)?,
            };
            replaced.insert(key.clone(), value);
        }
        Ok(replaced)
    }

    /// A section's plugin with its options in each iteration. A list is a schedule where the plugin's default is not a list; in it,
    /// `"none"` stands for an option that is not given.
    ///
    /// # Errors
    /// An unknown plugin, a file that is missing or has another hash, an option it refuses, a text file that cannot be
    /// read, a schedule of the wrong length.
    pub(crate) fn plugin(
        &self,
        registry: &Registry,
        kind: Kind,
        section: &str,
        PluginSection { plugin, sha256, options }: &PluginSection,
    ) -> Result<Chosen, RunError> {
        let refused = |error: HostError| {
            let (key, name) = match &error {
                HostError::BuiltInHash { .. }
                | HostError::Load { error: LoadError::NoHash(_) | LoadError::OtherHash { .. }, .. } => {
                    (format!("{section}.sha256"), format!("{section}.sha256"))
                }
                _ => (format!("{section}.plugin"), section.to_owned()),
            };
            RunError::PluginConfig { place: self.place(&key), key: name, message: error.to_string() }
        };
        let source = Source { plugin: self.plugin_path(plugin), sha256: sha256.clone() };
        let mut options = self.with_files(section, options)?;
        let defaults = registry.default_options(kind, &source).map_err(refused)?;
        let name = registry.info(kind, &source).map_err(refused)?.name;
        for (of_section, of_plugin, key, value) in SECTION_DEFAULTS {
            if section == *of_section && name == *of_plugin && !options.contains_key(*key) {
                options.insert((*key).to_owned(), Value::from(*value));
            }
        }
        let iterations = self.config.iterations;
        for key in options.keys() {
            if let Some(known) = defaults.as_object().filter(|known| !known.contains_key(key)) {
                let full = format!("{section}.options.{key}");
                let suggestion = nearest(key, known.keys().map(String::as_str));
                let suggestion = suggestion.map(|known| format!("{section}.options.{known}"));
                return Err(RunError::UnknownKey { place: self.place(&full), key: full, suggestion });
            }
        }
        for (key, value) in &options {
            if let (Value::Array(items), Some(false)) = (value, defaults.get(key).map(Value::is_array))
                && u32::try_from(items.len()) != Ok(iterations)
            {
                let key = format!("{section}.options.{key}");
                let place = self.place(&key);
                return Err(RunError::ScheduleLength { place, key, length: items.len(), iterations });
            }
        }
        let mut uses = Vec::new();
        for index in 0..iterations as usize {
            let at: Map<String, Value> = options
                .iter()
                .map(|(key, value)| match value {
                    Value::Array(items) if defaults.get(key).is_some_and(|default| !default.is_array()) => {
                        let item = items.get(index).cloned().unwrap_or_default();
                        let none = item == "none" && defaults.get(key).is_some_and(Value::is_null);
                        (key.clone(), if none { Value::Null } else { item })
                    }
                    other => (key.clone(), other.clone()),
                })
                .collect();
            let record = registry.record(kind, &source, &Value::Object(at)).map_err(|error| match error {
                HostError::Options { error: OptionError { key: Some(key), message }, .. } => {
                    let key = format!("{section}.options.{key}");
                    RunError::PluginConfig { place: self.place(&key), key, message }
                }
                other => refused(other),
            })?;
            uses.push(record);
        }
        Ok(Chosen { source, used: PluginUse { section: section.to_owned(), iterations: uses } })
    }
}
