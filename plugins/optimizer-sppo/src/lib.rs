//! Preference optimizer: self-play preference optimization with hard labels (Wu et al. 2024, equation 4.7).
//!
//! The loss of a pair is (log π(c)/π_ref(c) − 1/(2β))² + (log π(r)/π_ref(r) + 1/(2β))²: the paper's with η = 1/β and the
//! winning probability 1 for the chosen and 0 for the rejected completion, and TRL's `sppo_hard`.
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

/// Options of [`Sppo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SppoOptions {
    /// 1 / η of the paper; above 0. Each log ratio is pulled to 1 / (2 beta) or its negative.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Weight of an NLL term on the chosen completion beside the loss, as in RPO; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted.
    pub nll_per: NllPer,
}

impl SppoOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for SppoOptions {
    fn default() -> Self {
        Self { beta: 0.001, nll_weight: 0.0, nll_per: NllPer::Token }
    }
}

impl Options for SppoOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        self.nll().check()
    }
}

/// Self-play preference optimization with hard labels.
#[derive(Clone, Debug)]
pub struct Sppo {
    options: SppoOptions,
}

impl FromOptions for Sppo {
    type Options = SppoOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "sppo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "self-play preference optimization (SPPO): each log ratio has a target".to_owned(),
        }
    }

    fn from_options(options: SppoOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Sppo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sppo {
    /// What the chosen log ratio is pulled to; the rejected one is pulled to its negative.
    fn target(&self) -> f64 {
        1.0 / (2.0 * self.options.beta)
    }
}

impl Optimizer for Sppo {
    /// None: the loss has a target, and beyond it pulls back.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: false })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// 2 / (2β)²: at the reference both targets are missed whole; nothing fixed with an NLL term.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(self.options.nll().beside_start(2.0 * self.target() * self.target()))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let beta = self.options.beta;
        preference::batch(pairs, self.options.nll(), |_, pair| {
            let chosen = pair.policy_chosen - pair.reference_chosen;
            let rejected = pair.policy_rejected - pair.reference_rejected;
            let chosen_miss = chosen - self.target();
            let rejected_miss = rejected + self.target();
            Ok(Term {
                loss: chosen_miss * chosen_miss + rejected_miss * rejected_miss,
                chosen_gradient: 2.0 * chosen_miss,
                rejected_gradient: 2.0 * rejected_miss,
                chosen_reward: beta * chosen,
                rejected_reward: beta * rejected,
                metrics: Vec::new(),
            })
        })
    }
}

metareward_plugin::export!(optimizer: Sppo);
