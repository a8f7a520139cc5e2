//! Ranker: average win rates, a tie being half a win.
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

/// What the average is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// The opponents: every opponent weighs the same, however often one met it.
    #[default]
    Opponents,
    /// The battles: the share of their weight that was won.
    Battles,
}

/// Options of [`WinRate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WinRateOptions {
    /// What the average is taken over: "opponents", who then all weigh the same, or "battles".
    pub over: Over,
}

impl Options for WinRateOptions {}

/// Average win rates.
#[derive(Clone, Debug)]
pub struct WinRate {
    options: WinRateOptions,
}

impl FromOptions for WinRate {
    type Options = WinRateOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "win-rate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "average win rates over opponents or battles, a tie being half a win".to_owned(),
        }
    }

    fn from_options(options: WinRateOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for WinRate {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ranker for WinRate {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises { ignores_order: true, mirrors_ratings: true, likelihood: None })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        rate_each(problems, Ties::Counted, |_, meetings| {
            // What was won, and out of how much.
            let mut sums = vec![(0.0, 0.0); meetings.players()];
            for pair in meetings.pairs() {
                let (low, high) = (pair.low_wins + 0.5 * pair.ties, pair.high_wins + 0.5 * pair.ties);
                let (low, high, all) = match self.options.over {
                    Over::Opponents => (low / (low + high), high / (low + high), 1.0),
                    Over::Battles => (low, high, low + high),
                };
                for (player, won) in [(pair.low, low), (pair.high, high)] {
                    let sum = &mut sums[player as usize];
                    *sum = (sum.0 + won, sum.1 + all);
                }
            }
            // Whoever met nobody is put in the middle.
            let rate = |(won, all): &(f64, f64)| if *all > 0.0 { won / all } else { 0.5 };
            Ok(Scores::direct(sums.iter().map(rate).collect()))
        })
    }
}

metareward_plugin::export!(ranker: WinRate);
