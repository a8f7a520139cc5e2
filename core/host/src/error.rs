//! What can go wrong between a config and a plugin that is ready.

use metareward_api::{Kind, OptionError};

/// Why there is no such plugin, or why it cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No plugin of this kind has the name.
    #[error("unknown {kind} `{name}`; {}known: {}", suggestion.as_ref().map_or(String::new(), |name| format!("did you mean `{name}`? ")), list(known))]
    Unknown {
        /// The kind asked for.
        kind: Kind,
        /// The name asked for.
        name: String,
        /// The nearest known name.
        suggestion: Option<String>,
        /// All names of the kind.
        known: Vec<String>,
    },
    /// The options were refused.
    #[error("{kind} `{name}`: {error}")]
    Options {
        /// The plugin's kind.
        kind: Kind,
        /// The plugin's name.
        name: String,
        /// The option and what was expected.
        error: OptionError,
    },
    /// Two plugins of one kind have the same name.
    #[error("two plugins of kind {kind} are named `{name}`; rename one")]
    Duplicate {
        /// Their kind.
        kind: Kind,
        /// Their name.
        name: String,
    },
    /// A plugin says that it is of another kind than the one it is registered as.
    #[error("plugin `{name}` is of kind {found}, registered as {expected}")]
    WrongKind {
        /// The plugin's name.
        name: String,
        /// The kind it was registered as.
        expected: Kind,
        /// The kind it says it is.
        found: Kind,
    },
}

fn list(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
