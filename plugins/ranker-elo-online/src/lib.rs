//! Ranker: Elo ratings updated battle by battle (Elo 1978).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{
    Battle, Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankerPromises, RankingProblem, Rating,
};
use metareward_plugin::{
    FromOptions, Options,
    ranking::{Scores, Ties, rate_each},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`EloOnline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EloOnlineOptions {
    /// K: the most that a battle of weight 1 can move a rating; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub k: f64,
    /// Rating that everyone starts with.
    pub initial: f64,
    /// Odds that a difference of `scale` stands for; above 1.
    #[schemars(extend("exclusiveMinimum" = 1.0))]
    pub base: f64,
    /// Difference in rating at which the odds are `base` to one; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub scale: f64,
}

impl Default for EloOnlineOptions {
    fn default() -> Self {
        Self { k: 4.0, initial: 1000.0, base: 10.0, scale: 400.0 }
    }
}

impl Options for EloOnlineOptions {
    fn check(&self) -> Result<(), OptionError> {
        for (key, value, above) in [("k", self.k, 0.0), ("base", self.base, 1.0), ("scale", self.scale, 0.0)] {
            if !(value.is_finite() && value > above) {
                return Err(OptionError::at(key, format!("expected a number above {above}, found {value}")));
            }
        }
        if !self.initial.is_finite() {
            return Err(OptionError::at("initial", format!("expected a number, found {}", self.initial)));
        }
        Ok(())
    }
}

/// Elo ratings in the order of the battles.
#[derive(Clone, Debug)]
pub struct EloOnline {
    options: EloOnlineOptions,
}

impl FromOptions for EloOnline {
    type Options = EloOnlineOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "elo-online".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Elo ratings updated battle by battle, in order".to_owned(),
        }
    }

    fn from_options(options: EloOnlineOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for EloOnline {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl EloOnline {
    /// What the left player of a battle gains and the right one loses, given how far the left one is ahead.
    fn gain(&self, battle: &Battle, lead: f64) -> f64 {
        let odds = libm::exp(-lead.abs() / self.options.scale * libm::log(self.options.base));
        let (better, worse) = (1.0 / (1.0 + odds), odds / (1.0 + odds));
        let (left, right) = if lead >= 0.0 { (better, worse) } else { (worse, better) };
        // Won less expected: 1 − left = right where left won, 0 − left where it lost, 1/2 − left at a tie.
        self.options.k
            * (battle.left_wins * right - battle.right_wins * left + battle.ties * (0.5 * right - 0.5 * left))
    }
}

impl Ranker for EloOnline {
    /// The order matters, so it is not promised that it does not.
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises { ignores_order: false, mirrors_ratings: true, likelihood: None })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        rate_each(problems, Ties::Counted, |problem, meetings| {
            // Points above the initial rating: mirrored results mirror them to the last bit.
            let mut points = vec![0.0; meetings.players()];
            for battle in &problem.battles {
                let (left, right) = (battle.left as usize, battle.right as usize);
                let gain = self.gain(battle, points[left] - points[right]);
                points[left] += gain;
                points[right] -= gain;
            }
            Ok(Scores::direct(points.into_iter().map(|points| self.options.initial + points).collect()))
        })
    }
}

metareward_plugin::export!(ranker: EloOnline);
