//! Ranker: Bradley–Terry strengths with ties as results of their own (Davidson 1970; Newman 2023).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod existence;
mod model;

use metareward_api::{
    Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankerPromises, RankingProblem, Rating,
};
use metareward_plugin::{
    FromOptions, Options,
    ranking::{Ascent, LEAST_REGULARIZATION, Meetings, Newton, Scores, Ties, rate_each},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use model::{Chances, chances};

use crate::{
    existence::maximum_exists,
    model::{Model, TieRate},
};

/// Options of [`Newman`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewmanOptions {
    /// λ of the penalty (λ/2)·Σ (log strength)². 0 is plain maximum likelihood wherever a finite maximum exists.
    #[schemars(range(min = 0.0))]
    pub regularization: f64,
    /// ν, how readily games are tied: between equals a tie is 2ν times as likely as either's win. Above 0; estimated from
    /// the battles where it is null.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub tie_rate: Option<f64>,
}

impl Default for NewmanOptions {
    fn default() -> Self {
        Self { regularization: 0.01, tie_rate: None }
    }
}

impl Options for NewmanOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.regularization.is_finite() && self.regularization >= 0.0) {
            let message = format!("expected a number from 0, found {}", self.regularization);
            return Err(OptionError::at("regularization", message));
        }
        match self.tie_rate {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => {
                Err(OptionError::at("tie_rate", format!("expected a number above 0 or null, found {rate}")))
            }
            _ => Ok(()),
        }
    }
}

/// Strengths under a model with ties.
#[derive(Clone, Debug)]
pub struct Newman {
    options: NewmanOptions,
}

impl FromOptions for Newman {
    type Options = NewmanOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "newman".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Bradley–Terry strengths with ties as results of their own".to_owned(),
        }
    }

    fn from_options(options: NewmanOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Newman {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ranker for Newman {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises { ignores_order: true, mirrors_ratings: true, likelihood: None })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let mut newton = Newton::default();
        let mut model = Model::default();
        let mut at = Vec::new();
        rate_each(problems, Ties::Counted, |_, meetings| {
            let rate = self.tie_rate(meetings);
            if rate == TieRate::Endless {
                // Nobody ever won: everyone is as strong as everyone else.
                return Ok(Scores::direct(vec![0.0; meetings.players()]));
            }
            let plain = self.options.regularization <= 0.0;
            let regularization = if plain && !maximum_exists(meetings, rate) {
                LEAST_REGULARIZATION
            } else {
                self.options.regularization
            };
            model.load(meetings, regularization, rate, &mut at);
            let Ascent { converged, steps } = newton.maximise(&mut model, &mut at);
            let mut ratings = at.get(..meetings.players()).unwrap_or_default().to_vec();
            for group in meetings.groups().iter() {
                let mut sum = 0.0;
                for player in group {
                    sum += ratings[*player];
                }
                for player in group {
                    ratings[*player] -= sum / group.len() as f64;
                }
            }
            Ok(Scores { ratings, converged, steps })
        })
    }
}

impl Newman {
    /// What is known of ν before the fit: given, or 0 where nobody tied, or without bound where nobody won, or to be found.
    fn tie_rate(&self, meetings: &Meetings) -> TieRate {
        let wins = meetings.pairs().iter().any(|pair| pair.low_wins > 0.0 || pair.high_wins > 0.0);
        let ties = meetings.pairs().iter().any(|pair| pair.ties > 0.0);
        match (self.options.tie_rate, wins, ties) {
            (Some(rate), _, _) => TieRate::Given(rate),
            (None, _, false) => TieRate::Given(0.0),
            (None, false, true) => TieRate::Endless,
            (None, true, true) => TieRate::Estimated,
        }
    }
}

metareward_plugin::export!(ranker: Newman);
