//! How a config names a plugin.

use serde::{Deserialize, Serialize};

/// A built-in plugin by name, or a file by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Name of a built-in plugin, or path of a `.wasm` component or of a dynamic library (`.so`, `.dylib`, `.dll`).
    pub plugin: String,
    /// sha256 of the file, in hexadecimal. A library needs it; a component may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What the text in [`Source::plugin`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A name.
    BuiltIn,
    /// The path of a component.
    Component,
    /// The path of a dynamic library.
    Library,
    /// A path of neither.
    UnknownFile,
}

impl Source {
    /// A plugin without a hash.
    pub fn named(plugin: impl Into<String>) -> Self {
        Self { plugin: plugin.into(), sha256: None }
    }

    /// Whether the text is a name or a path, and what lies there by its ending.
    pub fn meaning(&self) -> Meaning {
        let ending = self.plugin.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        match ending.as_deref() {
            Some("wasm") => Meaning::Component,
            Some("so" | "dylib" | "dll") => Meaning::Library,
            _ if self.plugin.contains(['/', '\\']) => Meaning::UnknownFile,
            _ => Meaning::BuiltIn,
        }
    }
}

impl From<&str> for Source {
    fn from(plugin: &str) -> Self {
        Self::named(plugin)
    }
}

impl From<&String> for Source {
    fn from(plugin: &String) -> Self {
        Self::named(plugin.clone())
    }
}
