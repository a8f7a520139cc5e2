//! Preference optimizer: DPO on log-probabilities per token.
//!
//! With z = β·((log π(c) − log π_ref(c)) / |c| − (log π(r) − log π_ref(r)) / |r|), |·| the number of tokens, the loss of a pair
//! is −log σ(z) (length-normalised DPO, the form that Tülu 3 trains with: Lambert et al. 2024, section 5).
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

/// Options of [`LengthNormalised`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthNormalisedOptions {
    /// How strongly the policy is held to the reference; above 0. Means per token are small, so it is larger than DPO's.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Weight of an NLL term on the chosen completion beside the loss, as in RPO; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted.
    pub nll_per: NllPer,
}

impl LengthNormalisedOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for LengthNormalisedOptions {
    fn default() -> Self {
        Self { beta: 5.0, nll_weight: 0.0, nll_per: NllPer::Token }
    }
}

impl Options for LengthNormalisedOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        self.nll().check()
    }
}

/// DPO on log-probabilities per token.
#[derive(Clone, Debug)]
pub struct LengthNormalised {
    options: LengthNormalisedOptions,
}

impl FromOptions for LengthNormalised {
    type Options = LengthNormalisedOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "length-normalised".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "DPO on log-probabilities per token, so that length earns nothing".to_owned(),
        }
    }

    fn from_options(options: LengthNormalisedOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for LengthNormalised {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Optimizer for LengthNormalised {
    /// Pulls apart: the loss falls in the margin throughout.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: true })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// ln 2: at zero margin σ(z) is a half; nothing fixed with an NLL term.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(self.options.nll().beside_start(std::f64::consts::LN_2))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let beta = self.options.beta;
        preference::batch(pairs, self.options.nll(), |item, pair| {
            let [per_chosen, per_rejected] = preference::per_token_of_both(item, pair)?;
            let chosen_reward = beta * per_chosen * (pair.policy_chosen - pair.reference_chosen);
            let rejected_reward = beta * per_rejected * (pair.policy_rejected - pair.reference_rejected);
            let z = chosen_reward - rejected_reward;
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

metareward_plugin::export!(optimizer: LengthNormalised);
