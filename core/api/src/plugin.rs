//! What all plugins have in common.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The seven decisions of the method, each replaceable on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// How answers are drawn: [`crate::Sampler`].
    Sampler,
    /// What the judge is asked and how its answer is read: [`crate::Rubric`].
    Rubric,
    /// Which judgments meet and what the verdicts weigh: [`crate::MetaJudge`].
    MetaJudge,
    /// Ratings from battles: [`crate::Ranker`].
    Ranker,
    /// Which two candidates become chosen and rejected: [`crate::Selector`].
    Selector,
    /// The preference loss: [`crate::Optimizer`].
    Optimizer,
    /// What the model works on: [`crate::Task`].
    Task,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Sampler => "sampler",
            Kind::Rubric => "rubric",
            Kind::MetaJudge => "meta-judge",
            Kind::Ranker => "ranker",
            Kind::Selector => "selector",
            Kind::Optimizer => "optimizer",
            Kind::Task => "task",
        })
    }
}

/// Version of the plugin contract, semantic: a plugin made for another major version is refused.
pub const API_VERSION: &str = "0.1.0";

/// A plugin's name and version, recorded with every run that uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// Which trait the plugin implements.
    pub kind: Kind,
    /// Short name as written in a config, for example `elo`.
    pub name: String,
    /// Version of the plugin, semantic.
    pub version: String,
    /// One line for people.
    pub summary: String,
}

/// The part of every plugin that is the same for all kinds.
pub trait Plugin: Send + Sync {
    /// The plugin's kind, name and version.
    fn info(&self) -> PluginInfo;
}

/// Why a plugin gave no answer. The message is a lowercase fragment that fits "ranker elo failed in rate: …".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginError {
    /// What happened and, where there is one, what to do.
    pub message: String,
    /// Index, in the batch that was passed, of the item that the error is about.
    pub item: Option<usize>,
}

impl PluginError {
    /// An error about the whole call.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), item: None }
    }

    /// An error about one item of the batch.
    pub fn at(item: usize, message: impl Into<String>) -> Self {
        Self { message: message.into(), item: Some(item) }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            Some(item) => write!(f, "item {item}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for PluginError {}

/// Why options were refused, before the run starts. The message is a lowercase fragment that says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionError {
    /// The option, where the error is about one.
    pub key: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl OptionError {
    /// An error about the options as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { key: None, message: message.into() }
    }

    /// An error about one option.
    pub fn at(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: Some(key.into()), message: message.into() }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "option `{key}`: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for OptionError {}
