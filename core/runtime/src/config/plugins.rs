//! Naming plugins in a config: built in or a file, with its hash and its limits.

use std::path::Path;

use metareward_host::{Meaning, Settings, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Loaded, check::Check};
use crate::RunError;

/// A plugin and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSection {
    /// Name of a built-in plugin of the section's kind, or the path of a file that holds one: a component (`.wasm`) or a
    /// dynamic library (`.so`, `.dylib`). A path is relative to the experiment; a file that is not there is looked for
    /// in `plugins.folders`.
    pub plugin: String,
    /// Hash that the plugin's file must have, 64 hexadecimal digits. A dynamic library needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The plugin's options. `{ file = "judge.txt" }` as a value stands for that file's text.
    pub options: Map<String, Value>,
}

impl PluginSection {
    pub(super) fn named(plugin: &str) -> Self {
        Self { plugin: plugin.into(), sha256: None, options: Map::new() }
    }
}

/// `[plugins]`: limits of plugins that are files, and where those are looked for. A built-in plugin has no limits, and a
/// dynamic library runs with the rights and the resources of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginsSection {
    /// Instructions that a component may take in one call, roughly. Default 20,000,000,000.
    pub fuel: u64,
    /// Memory of a component, and the size of one answer of a library, in MiB. Default 512.
    pub memory_mib: u32,
    /// Threads over which a large batch is spread; 0 takes as many as there are cores. Default 0.
    pub threads: u32,
    /// Folder for compiled components: `"auto"`, the user's cache folder; `"off"`, compile anew every time; or a path,
    /// relative to the experiment. Default `"auto"`.
    pub cache: String,
    /// Folders in which a plugin's file is looked for where it is not found from the experiment's own folder; relative to
    /// the experiment, in this order. Default none.
    pub folders: Vec<String>,
}

impl Default for PluginsSection {
    fn default() -> Self {
        let Settings { fuel, memory_mib, .. } = Settings::default();
        Self { fuel, memory_mib, threads: 0, cache: "auto".into(), folders: Vec::new() }
    }
}

/// Whether a plugin's name is the path of a file.
fn is_file(plugin: &str) -> bool {
    Source::named(plugin).meaning() != Meaning::BuiltIn
}

impl Loaded {
    /// The settings of the plugin host: `[plugins]`, with the experiment's folder as the one that paths are relative to.
    pub fn plugin_settings(&self) -> Settings {
        let PluginsSection { fuel, memory_mib, threads, cache, .. } = &self.config.plugins;
        Settings {
            fuel: *fuel,
            memory_mib: *memory_mib,
            threads: *threads as usize,
            cache: match cache.as_str() {
                "auto" => Settings::default().cache,
                "off" => None,
                folder => Some(self.folder.join(folder)),
            },
            folder: self.folder.clone(),
        }
    }

    /// A plugin's file in the first folder that has it, relative to the experiment; a built-in's name as it is.
    pub(super) fn plugin_path(&self, plugin: &str) -> String {
        if !is_file(plugin) || self.folder.join(plugin).exists() {
            return plugin.to_owned();
        }
        let found = self.config.plugins.folders.iter().map(|folder| Path::new(folder).join(plugin));
        let found = found.into_iter().find(|path| self.folder.join(path).exists());
        found.map_or_else(|| plugin.to_owned(), |path| path.display().to_string())
    }
}

impl Check<'_> {
    /// `[plugins]`.
    pub(super) fn plugins(&self, section: &PluginsSection) -> Result<(), RunError> {
        self.that(section.fuel > 0, "plugins.fuel", section.fuel, "at least 1 instruction")?;
        let memory = section.memory_mib;
        self.that((1..=4096).contains(&memory), "plugins.memory_mib", memory, "from 1 to 4096 MiB")?;
        self.that(section.threads <= 1024, "plugins.threads", section.threads, "at most 1024; 0 takes all cores")?;
        let cache = !section.cache.is_empty();
        self.that(cache, "plugins.cache", "empty", "\"auto\", \"off\" or the path of a folder")?;
        let empty = section.folders.iter().any(String::is_empty);
        self.that(!empty, "plugins.folders", "a list with an empty path", "paths of folders")
    }

    /// Name and hash of one section's plugin, as far as they can be judged without the file.
    pub(super) fn plugin(&self, key: &str, section: &PluginSection) -> Result<(), RunError> {
        let named = !section.plugin.trim().is_empty();
        self.that(named, &format!("{key}.plugin"), "empty", "the name of a built-in plugin, or the path of a file")?;
        let Some(hash) = &section.sha256 else { return Ok(()) };
        let key = format!("{key}.sha256");
        let whole = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.that(whole, &key, format!("{hash:?}"), "64 hexadecimal digits, as `sha256sum` prints them")?;
        let of_a_file = is_file(&section.plugin);
        let plugin = &section.plugin;
        self.that(of_a_file, &key, "given", &format!("left out: `{plugin}` is built in and has no file of its own"))
    }
}
