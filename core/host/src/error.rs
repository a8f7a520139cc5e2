//! What can go wrong between a config and a plugin that is ready.

use std::path::PathBuf;

use metareward_api::{Kind, OptionError};

/// Why there is no such plugin, or why it cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No built-in plugin of this kind has the name.
    #[error("unknown {kind} `{name}`; {}known: {}; a plugin of one's own is named by its file, ending in .wasm or .so", suggestion.as_ref().map_or(String::new(), |name| format!("did you mean `{name}`? ")), list(known))]
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
    /// The file cannot be used as a plugin.
    #[error("plugin {}: {error}", file.display())]
    Load {
        /// The file.
        file: PathBuf,
        /// What is wrong with it and what to do.
        error: LoadError,
    },
    /// A built-in plugin has no file to hash.
    #[error("{kind} `{name}` is built in and has no sha256; remove the key")]
    BuiltInHash {
        /// The plugin's kind.
        kind: Kind,
        /// The plugin's name.
        name: String,
    },
}

/// Why a file is not a usable plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The path's ending says nothing.
    #[error("is neither a component (.wasm) nor a dynamic library (.so, .dylib, .dll) by its name")]
    Ending,
    /// The hash is not the one in the config.
    #[error(
        "has sha256 {found}, but the config says {expected}; look at what changed, then run `metareward plugin pin`"
    )]
    OtherHash {
        /// The config's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// A library without a hash in the config.
    #[error(
        "is a dynamic library, which runs with your rights, so the config must give its sha256; it is {0} (`metareward plugin pin` writes it)"
    )]
    NoHash(String),
    /// The file is not what its ending says.
    #[error("is no {expected}: {message}")]
    Malformed {
        /// Component or library.
        expected: &'static str,
        /// What was found.
        message: String,
    },
    /// The file is a component or library, but no plugin of metareward.
    #[error("is no plugin of metareward: {0}")]
    NoPlugin(String),
    /// Made for another version of the contract.
    #[error("was made for plugin API {found}; this metareward speaks {spoken}; build it again with a matching SDK")]
    ApiVersion {
        /// The plugin's.
        found: String,
        /// The host's.
        spoken: String,
    },
    /// Of another kind than the place in the config.
    #[error("is a {found}, where a {expected} is wanted")]
    Kind {
        /// The place's kind.
        expected: Kind,
        /// The plugin's kind.
        found: Kind,
    },
    /// The component asks for what no plugin gets.
    #[error("asks for {0}, which no plugin gets: plugins have no files, no network and no environment")]
    Import(String),
    /// The plugin failed before its first call.
    #[error("failed while it was loaded: {0}")]
    Failed(String),
}

fn list(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
