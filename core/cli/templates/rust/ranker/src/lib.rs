//! Ranker: wins minus losses, as a share of all battles.

use metareward_plugin::{
    FromOptions, Options,
    api::{
        Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankerPromises, RankingProblem,
        Rating,
    },
    ranking::{Scores, Ties, rate_each},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`NetWins`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetWinsOptions {
    /// The rating of somebody who won everything, with any number of battles.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub scale: f64,
    /// Weight of battles that nobody won, added for every player: few battles then say less than many.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub prior: f64,
}

impl Default for NetWinsOptions {
    fn default() -> Self {
        Self {
            scale: 1.0,
            prior: 1.0,
        }
    }
}

impl Options for NetWinsOptions {
    fn check(&self) -> Result<(), OptionError> {
        for (key, value) in [("scale", self.scale), ("prior", self.prior)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(OptionError::at(
                    key,
                    format!("expected a number above 0, found {value}"),
                ));
            }
        }
        Ok(())
    }
}

/// Wins minus losses.
#[derive(Clone, Debug)]
pub struct NetWins {
    options: NetWinsOptions,
}

impl FromOptions for NetWins {
    type Options = NetWinsOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "wins minus losses, as a share of all battles".to_owned(),
        }
    }

    fn from_options(options: NetWinsOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for NetWins {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ranker for NetWins {
    /// What the laws hold this ranker to beyond the laws of all rankers.
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises {
            ignores_order: true,
            mirrors_ratings: true,
            likelihood: None,
        })
    }

    /// `rate_each` refuses malformed problems and adds the remarks: who never lost, who never won, who never met.
    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let NetWinsOptions { scale, prior } = self.options;
        rate_each(problems, Ties::Counted, |_, meetings| {
            // Net wins, and the weight of all battles, per player.
            let mut sums = vec![(0.0, prior); meetings.players()];
            for pair in meetings.pairs() {
                let lead = pair.low_wins - pair.high_wins;
                let all = pair.low_wins + pair.high_wins + pair.ties;
                for (player, lead) in [(pair.low, lead), (pair.high, -lead)] {
                    let sum = &mut sums[player as usize];
                    *sum = (sum.0 + lead, sum.1 + all);
                }
            }
            Ok(Scores::direct(
                sums.iter()
                    .map(|(lead, all)| scale * (lead / all))
                    .collect(),
            ))
        })
    }
}

metareward_plugin::export!(ranker: NetWins);
