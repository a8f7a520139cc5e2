//! A ranker whose ratings come from where no plugin may look.

use metareward_plugin::{
    FromOptions, Options, api,
    api::{Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankingProblem, Rating},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// None.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReachesOptions {}

impl Options for ReachesOptions {}

/// Reads a file, or asks a machine.
#[derive(Debug)]
pub struct Reaches;

impl FromOptions for Reaches {
    type Options = ReachesOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "reaches".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Reaches for files or sockets".to_owned(),
        }
    }

    fn from_options(_: ReachesOptions) -> Result<Self, OptionError> {
        Ok(Self)
    }
}

impl Plugin for Reaches {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

#[cfg(not(feature = "sockets"))]
fn length() -> std::io::Result<usize> {
    Ok(std::fs::read("/etc/passwd")?.len())
}

#[cfg(feature = "sockets")]
fn length() -> std::io::Result<usize> {
    use std::io::Read;
    let mut text = Vec::new();
    std::net::TcpStream::connect("127.0.0.1:80")?.read_to_end(&mut text)
}

impl Ranker for Reaches {
    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let length = length().map_err(|error| PluginError::new(error.to_string()))? as f64;
        let rate = |problem: &RankingProblem| Rating {
            ratings: vec![length; problem.players as usize],
            converged: true,
            steps: 0,
            remarks: vec![api::Remark::NoBattles],
        };
        Ok(problems.iter().map(rate).collect())
    }
}

metareward_plugin::export!(ranker: Reaches);
