//! Preference optimizer: simple preference optimization (Meng et al. 2024, equation 6).
//!
//! With z = β·(log π(c) / |c| − log π(r) / |r|) − γ, |·| the number of tokens, the loss of a pair is −log σ(z). There is no
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

/// Options of [`Simpo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimpoOptions {
    /// Scale of the reward; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Margin by which the chosen reward should be the higher one, in units of the reward; from 0. TRL's `simpo_gamma`.
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// Weight of an NLL term on the chosen completion beside the loss, as in RPO; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted.
    pub nll_per: NllPer,
}

impl SimpoOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for SimpoOptions {
    fn default() -> Self {
        Self { beta: 2.0, gamma: 1.0, nll_weight: 0.0, nll_per: NllPer::Token }
    }
}

impl Options for SimpoOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        if !(self.gamma.is_finite() && self.gamma >= 0.0) {
            return Err(OptionError::at("gamma", format!("expected a number from 0, found {}", self.gamma)));
        }
        self.nll().check()
    }
}

/// Simple preference optimization.
#[derive(Clone, Debug)]
pub struct Simpo {
    options: SimpoOptions,
}

impl FromOptions for Simpo {
    type Options = SimpoOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "simpo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "simple preference optimization (SimPO): mean log-probabilities, a margin, no reference"
                .to_owned(),
        }
    }

    fn from_options(options: SimpoOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Simpo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Optimizer for Simpo {
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
        let SimpoOptions { beta, gamma, .. } = self.options;
        preference::batch(pairs, self.options.nll(), |item, pair| {
            let [per_chosen, per_rejected] = preference::per_token_of_both(item, pair)?;
            let chosen_reward = beta * per_chosen * pair.policy_chosen;
            let rejected_reward = beta * per_rejected * pair.policy_rejected;
            let z = chosen_reward - rejected_reward - gamma;
            let (loss, slope) = preference::smoothed_logistic(z, 0.0);
            Ok(Term {
                loss,
                chosen_gradient: slope * beta * per_chosen,
                rejected_gradient: -slope * beta * per_rejected,
                chosen_reward,
                rejected_reward,
                metrics: vec![("preference_probability", preference::sigmoid(z))],
            })
        })
    }
}

metareward_plugin::export!(optimizer: Simpo);
