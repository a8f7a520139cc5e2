//! Preference optimizer: odds ratio preference optimization (Hong et al. 2024, equations 4, 6 and 7).
//!
//! With p = exp(log π(y) / |y|) the mean probability per token and odds = p / (1 − p) the loss of a pair is
//! −log π(c) / |c| − λ·log σ(log odds(c) − log odds(r)): supervised fine-tuning and preference in one. There is no
//! reference.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{
    Kind, Optimizer, OptimizerPromises, OptionError, PairLogProbs, Plugin, PluginError, PluginInfo, PreferenceLoss,
};
use metareward_plugin::{
    FromOptions, Options,
    preference::{self, Nll, NllPer, Term},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`Orpo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OrpoOptions {
    /// Weight of the odds ratio beside the NLL (λ in the paper, `beta` in TRL); above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Weight of the NLL of the chosen completion; the paper's is 1.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted; the paper's is per token.
    pub nll_per: NllPer,
}

impl OrpoOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for OrpoOptions {
    fn default() -> Self {
        Self { beta: 0.1, nll_weight: 1.0, nll_per: NllPer::Token }
    }
}

impl Options for OrpoOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        self.nll().check()
    }
}

/// Odds ratio preference optimization.
#[derive(Clone, Debug)]
pub struct Orpo {
    options: OrpoOptions,
}

impl FromOptions for Orpo {
    type Options = OrpoOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "orpo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "odds ratio preference optimization (ORPO): NLL and odds ratio in one loss, no reference"
                .to_owned(),
        }
    }

    fn from_options(options: OrpoOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Orpo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

/// The highest mean log-probability per token that the odds are taken of: at 0 they are infinite.
const CERTAIN: f64 = -1e-7;

/// log(p / (1 − p)) of the probability with this logarithm, and its derivative by the logarithm. Above [`CERTAIN`] both are
/// those of [`CERTAIN`], so that a rejected completion that is certain is still pulled down.
fn log_odds(log_probability: f64) -> (f64, f64) {
    let log_probability = log_probability.min(CERTAIN);
    // 1 − p without cancellation where p is near 1.
    let other = -libm::expm1(log_probability);
    (log_probability - libm::log(other), 1.0 / other)
}

impl Optimizer for Orpo {
    /// Pulls apart: the loss falls in the margin throughout.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: true })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(false)
    }

    /// None: without a reference the first loss depends on the model.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(None)
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let beta = self.options.beta;
        preference::batch(pairs, self.options.nll(), |item, pair| {
            let [per_chosen, per_rejected] = preference::per_token_of_both(item, pair)?;
            let (chosen, rejected) = (per_chosen * pair.policy_chosen, per_rejected * pair.policy_rejected);
            let (chosen_odds, chosen_slope) = log_odds(chosen);
            let (rejected_odds, rejected_slope) = log_odds(rejected);
            let z = chosen_odds - rejected_odds;
            let (loss, slope) = preference::smoothed_logistic(z, 0.0);
            Ok(Term {
                loss: beta * loss,
                chosen_gradient: beta * slope * chosen_slope * per_chosen,
                rejected_gradient: -beta * slope * rejected_slope * per_rejected,
                chosen_reward: beta * chosen,
                rejected_reward: beta * rejected,
                metrics: vec![("log_odds_ratio", z)],
            })
        })
    }
}

metareward_plugin::export!(optimizer: Orpo);
