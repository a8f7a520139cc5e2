//! A meta-judge with one fault per mode.

use metareward_plugin::{
    FromOptions, Options,
    api::{
        Battle, Kind, Match, Message, MetaJudge, MetaJudgeItem, OptionError, Plugin, PluginError, PluginInfo,
        PositionWins, Role, Unreadable, VerdictSet, Weighed, WeightScope, Winner,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing: the first judgment against the second.
    #[default]
    Honest,
    /// A match with a judgment that is not there.
    Unknown,
    /// A judgment that meets itself.
    Itself,
    /// A battle of a judgment that is not there.
    Battle,
    /// A weight below 0.
    Weight,
    /// A conversation that ends with the assistant's words.
    Speaks,
}

/// Options of [`Hostile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostileOptions {
    /// What goes wrong.
    pub mode: Mode,
}

impl Options for HostileOptions {}

/// The meta-judge.
#[derive(Debug)]
pub struct Hostile(Mode);

impl FromOptions for Hostile {
    type Options = HostileOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::MetaJudge,
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

impl MetaJudge for Hostile {
    fn scope(&self) -> Result<WeightScope, PluginError> {
        Ok(WeightScope::Response)
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        let second = |players: u32| match self.0 {
            Mode::Unknown => players,
            Mode::Itself => 0,
            _ => 1,
        };
        Ok(players.iter().map(|players| vec![Match { first: 0, second: second(*players) }]).collect())
    }

    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let role = if self.0 == Mode::Speaks { Role::Assistant } else { Role::User };
        Ok(items.iter().map(|item| vec![Message { role, content: item.prompt.to_owned() }]).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        Ok(vec![Ok(Winner::First); texts.len()])
    }

    fn weigh(&self, sets: &[VerdictSet], _: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        let left_wins = if self.0 == Mode::Weight { -1.0 } else { 1.0 };
        let weigh = |set: &VerdictSet| {
            let right = if self.0 == Mode::Battle { set.players } else { 1 };
            let battle = Battle { left: 0, right, left_wins, right_wins: 0.0, ties: 0.0 };
            Weighed { weights: [1.0, 1.0], battles: vec![battle] }
        };
        Ok(sets.iter().map(weigh).collect())
    }
}

metareward_plugin::export!(meta_judge: Hostile);
