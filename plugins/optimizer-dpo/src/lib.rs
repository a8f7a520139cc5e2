//! Preference optimizer: direct preference optimization (Rafailov et al. 2023), with label smoothing (cDPO) and
//! optional length normalisation.
//!
//! With z = β·((log π(c) − log π_ref(c)) − (log π(r) − log π_ref(r))) and label smoothing ε the loss of a pair is
//! w·(−(1−ε)·log σ(z) − ε·log σ(−z)): the `sigmoid` loss of TRL's `DPOTrainer`.
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

/// Options of [`Dpo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoOptions {
    /// How strongly the policy is held to the reference; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Probability that a label is wrong; from 0, below 0.5.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 0.5))]
    pub label_smoothing: f64,
    /// Divides log-probabilities by the completion's number of tokens.
    pub length_normalized: bool,
    /// Weight of an NLL term on the chosen completion beside the loss, as in RPO; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted.
    pub nll_per: NllPer,
}

impl DpoOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for DpoOptions {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0, length_normalized: false, nll_weight: 0.0, nll_per: NllPer::Token }
    }
}

impl Options for DpoOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        preference::check_label_smoothing(self.label_smoothing)?;
        self.nll().check()
    }
}

/// Direct preference optimization.
#[derive(Clone, Debug)]
pub struct Dpo {
    options: DpoOptions,
}

impl FromOptions for Dpo {
    type Options = DpoOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "dpo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "direct preference optimization (DPO), with label smoothing, length normalisation and an NLL term"
                .to_owned(),
        }
    }

    fn from_options(options: DpoOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Dpo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Optimizer for Dpo {
    /// With smoothed labels the loss rises again beyond the margin that the smoothing believes in.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: self.options.label_smoothing == 0.0 })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// ln 2: at zero margin σ(z) is a half, whatever the label smoothing.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(self.options.nll().beside_start(std::f64::consts::LN_2))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let DpoOptions { beta, label_smoothing, length_normalized, .. } = self.options;
        preference::batch(pairs, self.options.nll(), |item, pair| {
            let [per_chosen, per_rejected] =
                if length_normalized { preference::per_token_of_both(item, pair)? } else { [1.0, 1.0] };
            let (chosen_factor, rejected_factor) = (beta * per_chosen, beta * per_rejected);
            let chosen_reward = chosen_factor * (pair.policy_chosen - pair.reference_chosen);
            let rejected_reward = rejected_factor * (pair.policy_rejected - pair.reference_rejected);
            let z = chosen_reward - rejected_reward;
            let (loss, slope) = preference::smoothed_logistic(z, label_smoothing);
            Ok(Term {
                loss,
                chosen_gradient: slope * chosen_factor,
                rejected_gradient: -slope * rejected_factor,
                chosen_reward,
                rejected_reward,
                metrics: vec![("preference_probability", preference::sigmoid(z))],
            })
        })
    }
}

metareward_plugin::export!(optimizer: Dpo);
