//! Ranker: Elo ratings by maximum likelihood (paper section 3, step 6), that is, Bradley–Terry on the Elo scale.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{
    Kind, Likelihood, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankerPromises, RankingProblem, Rating,
};
use metareward_plugin::{
    FromOptions, Options,
    ranking::{BradleyTerry, Scores, Solver, Ties, rate_each},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a tie is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TieWorth {
    /// Nothing, as in the paper: two players who only tied have not met.
    #[default]
    Ignored,
    /// Half a win for either side.
    Half,
}

/// Options of [`Elo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EloOptions {
    /// λ of the penalty (λ/2)·Σ eps². 0 is plain maximum likelihood wherever a finite maximum exists.
    #[schemars(range(min = 0.0))]
    pub regularization: f64,
    /// Difference in rating at which the odds are ten to one; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub scale: f64,
    /// Mean rating of every group of players that met.
    pub base: f64,
    /// What a tie is worth: nothing ("ignored", as in the paper), or half a win for either side ("half").
    pub ties: TieWorth,
}

impl Default for EloOptions {
    fn default() -> Self {
        Self { regularization: 0.01, scale: 400.0, base: 1000.0, ties: TieWorth::Ignored }
    }
}

impl Options for EloOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.regularization.is_finite() && self.regularization >= 0.0) {
            let message = format!("expected a number from 0, found {}", self.regularization);
            return Err(OptionError::at("regularization", message));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(OptionError::at("scale", format!("expected a number above 0, found {}", self.scale)));
        }
        if !self.base.is_finite() {
            return Err(OptionError::at("base", format!("expected a number, found {}", self.base)));
        }
        Ok(())
    }
}

/// Elo ratings by maximum likelihood.
#[derive(Clone, Debug)]
pub struct Elo {
    options: EloOptions,
}

impl FromOptions for Elo {
    type Options = EloOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "elo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Elo ratings by maximum likelihood".to_owned(),
        }
    }

    fn from_options(options: EloOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Elo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Elo {
    /// Rating points of one natural logarithm of odds.
    fn points(&self) -> f64 {
        self.options.scale / std::f64::consts::LN_10
    }

    fn tie_share(&self) -> f64 {
        match self.options.ties {
            TieWorth::Ignored => 0.0,
            TieWorth::Half => 0.5,
        }
    }
}

impl Ranker for Elo {
    /// The likelihood is promised where there is a penalty: without one it has a finite maximum only for some battles.
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        let regularization = self.options.regularization;
        let likelihood = Likelihood { points: self.points(), regularization, tie_share: self.tie_share() };
        Ok(RankerPromises {
            ignores_order: true,
            mirrors_ratings: true,
            likelihood: (regularization > 0.0).then_some(likelihood),
        })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let ties = match self.options.ties {
            TieWorth::Ignored => Ties::Ignored,
            TieWorth::Half => Ties::Counted,
        };
        let likelihood = BradleyTerry { regularization: self.options.regularization, tie_share: self.tie_share() };
        let (base, points) = (self.options.base, self.points());
        let mut solver = Solver::default();
        rate_each(problems, ties, |_, meetings| {
            let fit = solver.fit(meetings, likelihood);
            let ratings = fit.eps.iter().map(|eps| base + points * eps).collect();
            Ok(Scores { ratings, converged: fit.converged, steps: fit.steps })
        })
    }
}

metareward_plugin::export!(ranker: Elo);
