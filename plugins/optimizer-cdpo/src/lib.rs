//! Preference optimizer: DPO where a label is wrong with a known probability.
//!
//! With z = β·((log π(c) − log π_ref(c)) − (log π(r) − log π_ref(r))) and ε the probability of a wrong label the loss of a
//! pair is −(1−ε)·log σ(z) − ε·log σ(−z) (conservative DPO, Mitchell 2023), or, with `unbiased`,
//! (−(1−ε)·log σ(z) + ε·log σ(−z)) / (1−2ε), whose mean over wrong and right labels is DPO's loss on the right ones
//! (robust DPO, Chowdhury et al. 2024; TRL's `robust`).
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

/// Options of [`Cdpo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CdpoOptions {
    /// How strongly the policy is held to the reference; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Probability that a label is wrong; from 0, below 0.5.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 0.5))]
    pub label_smoothing: f64,
    /// Removes the bias that wrong labels bring, instead of smoothing the labels: robust DPO.
    pub unbiased: bool,
    /// Weight of an NLL term on the chosen completion beside the loss, as in RPO; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted.
    pub nll_per: NllPer,
}

impl CdpoOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for CdpoOptions {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.1, unbiased: false, nll_weight: 0.0, nll_per: NllPer::Token }
    }
}

impl Options for CdpoOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        preference::check_label_smoothing(self.label_smoothing)?;
        self.nll().check()
    }
}

/// DPO that allows for wrong labels.
#[derive(Clone, Debug)]
pub struct Cdpo {
    options: CdpoOptions,
}

impl FromOptions for Cdpo {
    type Options = CdpoOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "cdpo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "DPO that allows for wrong labels: conservative (cDPO) or unbiased (rDPO)".to_owned(),
        }
    }

    fn from_options(options: CdpoOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Cdpo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Optimizer for Cdpo {
    /// The unbiased loss pulls apart. The smoothed one does not: it rises again beyond the margin that the smoothing
    /// believes in.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: self.options.unbiased || self.options.label_smoothing == 0.0 })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// ln 2: at zero margin σ(z) is a half, whatever the label smoothing; nothing fixed with an NLL term.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(self.options.nll().beside_start(std::f64::consts::LN_2))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let CdpoOptions { beta, label_smoothing: wrong, unbiased, .. } = self.options;
        preference::batch(pairs, self.options.nll(), |_, pair| {
            let chosen_reward = beta * (pair.policy_chosen - pair.reference_chosen);
            let rejected_reward = beta * (pair.policy_rejected - pair.reference_rejected);
            let z = chosen_reward - rejected_reward;
            let (loss, slope) = if unbiased {
                let scale = 1.0 / (1.0 - 2.0 * wrong);
                let loss = wrong * preference::log_sigmoid(-z) - (1.0 - wrong) * preference::log_sigmoid(z);
                let slope = -wrong * preference::sigmoid(z) - (1.0 - wrong) * preference::sigmoid(-z);
                (scale * loss, scale * slope)
            } else {
                preference::smoothed_logistic(z, wrong)
            };
            Ok(Term {
                loss,
                chosen_gradient: slope * beta,
                rejected_gradient: -slope * beta,
                chosen_reward,
                rejected_reward,
                metrics: vec![("preference_probability", preference::sigmoid(z))],
            })
        })
    }
}

metareward_plugin::export!(optimizer: Cdpo);
