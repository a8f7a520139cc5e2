//! Ranker: Bradley–Terry strengths by maximum likelihood (Bradley and Terry 1952), a tie being half a win for either side.
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

/// The likelihood: ties are half wins.
const TIE_SHARE: f64 = 0.5;
/// Largest logarithm of a strength that is written as a strength: exp of more is not finite.
const LARGEST: f64 = 700.0;

/// What a rating is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// The natural logarithm of the strength; mean 0 in every group.
    #[default]
    LogStrength,
    /// The strength; its geometric mean is 1 in every group.
    Strength,
}

/// Options of [`BradleyTerryRanker`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BradleyTerryOptions {
    /// λ of the penalty (λ/2)·Σ (log strength)². 0 is plain maximum likelihood wherever a finite maximum exists.
    #[schemars(range(min = 0.0))]
    pub regularization: f64,
    /// What a rating is: "log-strength", whose mean is 0 in every group of players that met, or "strength", whose geometric
    /// mean is 1.
    pub scale: Scale,
}

impl Default for BradleyTerryOptions {
    fn default() -> Self {
        Self { regularization: 0.01, scale: Scale::LogStrength }
    }
}

impl Options for BradleyTerryOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.regularization.is_finite() && self.regularization >= 0.0) {
            let message = format!("expected a number from 0, found {}", self.regularization);
            return Err(OptionError::at("regularization", message));
        }
        Ok(())
    }
}

/// Bradley–Terry strengths.
#[derive(Clone, Debug)]
pub struct BradleyTerryRanker {
    options: BradleyTerryOptions,
}

impl FromOptions for BradleyTerryRanker {
    type Options = BradleyTerryOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "bradley-terry".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Bradley–Terry strengths by maximum likelihood, a tie being half a win".to_owned(),
        }
    }

    fn from_options(options: BradleyTerryOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for BradleyTerryRanker {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ranker for BradleyTerryRanker {
    /// Mirrored results mirror logarithms of strengths; the likelihood is promised for them, where there is a penalty:
    /// without one it has a finite maximum only for some battles.
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        let BradleyTerryOptions { regularization, scale } = self.options;
        let likelihood = Likelihood { points: 1.0, regularization, tie_share: TIE_SHARE };
        Ok(RankerPromises {
            ignores_order: true,
            mirrors_ratings: scale == Scale::LogStrength,
            likelihood: (regularization > 0.0 && scale == Scale::LogStrength).then_some(likelihood),
        })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let likelihood = BradleyTerry { regularization: self.options.regularization, tie_share: TIE_SHARE };
        let mut solver = Solver::default();
        rate_each(problems, Ties::Counted, |_, meetings| {
            let fit = solver.fit(meetings, likelihood);
            let ratings = match self.options.scale {
                Scale::LogStrength => fit.eps,
                Scale::Strength => fit.eps.iter().map(|eps| libm::exp(eps.clamp(-LARGEST, LARGEST))).collect(),
            };
            Ok(Scores { ratings, converged: fit.converged, steps: fit.steps })
        })
    }
}

metareward_plugin::export!(ranker: BradleyTerryRanker);
