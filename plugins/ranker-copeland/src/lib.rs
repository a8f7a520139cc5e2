//! Ranker: Copeland's method, majorities won minus majorities lost (Copeland 1951).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{
    Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankerPromises, RankingProblem, Rating,
};
use metareward_plugin::{
    FromOptions, Options,
    ranking::{Scores, Ties, rate_each},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`Copeland`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CopelandOptions {
    /// Divides a player's score by the number of its opponents, for battles in which not everyone met everyone.
    pub normalized: bool,
}

impl Options for CopelandOptions {}

/// Majorities won minus majorities lost.
#[derive(Clone, Debug)]
pub struct Copeland {
    options: CopelandOptions,
}

impl FromOptions for Copeland {
    type Options = CopelandOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "copeland".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "majorities won minus majorities lost".to_owned(),
        }
    }

    fn from_options(options: CopelandOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Copeland {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ranker for Copeland {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises { ignores_order: true, mirrors_ratings: true, likelihood: None })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        rate_each(problems, Ties::Counted, |_, meetings| {
            let mut scores = vec![0.0; meetings.players()];
            let mut opponents = vec![0.0; meetings.players()];
            for pair in meetings.pairs() {
                let (low, high) = (pair.low as usize, pair.high as usize);
                let majority = f64::from(i8::from(pair.low_wins > pair.high_wins))
                    - f64::from(i8::from(pair.low_wins < pair.high_wins));
                scores[low] += majority;
                scores[high] -= majority;
                opponents[low] += 1.0;
                opponents[high] += 1.0;
            }
            if self.options.normalized {
                for (score, opponents) in scores.iter_mut().zip(&opponents) {
                    *score /= f64::max(*opponents, 1.0);
                }
            }
            Ok(Scores::direct(scores))
        })
    }
}

metareward_plugin::export!(ranker: Copeland);
