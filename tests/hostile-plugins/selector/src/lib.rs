//! A selector with one fault per mode.

use metareward_plugin::{
    FromOptions, Options,
    api::{Candidate, Kind, NoPair, OptionError, Plugin, PluginError, PluginInfo, Selection, Selector},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing: the first against the second.
    #[default]
    Honest,
    /// Chosen is rejected.
    Same,
    /// A candidate after the last.
    Unknown,
    /// A length that no candidate has.
    Length,
    /// A unit that nobody knows, at length.
    Unit,
}

/// Options of [`Hostile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostileOptions {
    /// What goes wrong.
    pub mode: Mode,
}

impl Options for HostileOptions {}

/// The selector.
#[derive(Debug)]
pub struct Hostile(Mode);

impl FromOptions for Hostile {
    type Options = HostileOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Selector,
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "One fault per mode".to_owned(),
        }
    }

    fn from_options(options: HostileOptions) -> Result<Self, OptionError> {
        Ok(Self(options.mode))
    }
}

impl Plugin for Hostile {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Selector for Hostile {
    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(if self.0 == Mode::Unit { "furlongs ".repeat(1 << 20) } else { "tokens".to_owned() })
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        let select = |group: &Vec<Candidate>| {
            let [first, second, ..] = group.as_slice() else { return Err(NoPair::TooFewCandidates) };
            let (chosen_length, rejected_length) = (first.tokens, second.tokens);
            let honest = Selection { chosen: 0, rejected: 1, chosen_length, rejected_length };
            Ok(match self.0 {
                Mode::Honest | Mode::Unit => honest,
                Mode::Same => Selection { rejected: 0, ..honest },
                Mode::Unknown => Selection { rejected: u32::MAX, ..honest },
                Mode::Length => Selection { chosen_length: chosen_length + 1, ..honest },
            })
        };
        Ok(groups.iter().map(select).collect())
    }
}

metareward_plugin::export!(selector: Hostile);
