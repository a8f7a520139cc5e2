//! Preference optimizer: identity preference optimization (Azar et al. 2023).
//!
//! With h = (log π(c) − log π_ref(c)) − (log π(r) − log π_ref(r)) the loss of a pair is (h − 1/(2β))² (equation 17, where β is
//! called τ). As the authors say that they did, and as in TRL, the two log ratios are means per token unless told
//! otherwise.
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

/// Options of [`Ipo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IpoOptions {
    /// Strength of the regularisation (τ in the paper); above 0. The target margin is 1 / (2 beta).
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// Divides log ratios by the completion's number of tokens.
    pub length_normalized: bool,
    /// Weight of an NLL term on the chosen completion beside the loss, as in RPO; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub nll_weight: f64,
    /// How that NLL is counted.
    pub nll_per: NllPer,
}

impl IpoOptions {
    fn nll(&self) -> Nll {
        Nll { weight: self.nll_weight, per: self.nll_per }
    }
}

impl Default for IpoOptions {
    fn default() -> Self {
        Self { beta: 0.1, length_normalized: true, nll_weight: 0.0, nll_per: NllPer::Token }
    }
}

impl Options for IpoOptions {
    fn check(&self) -> Result<(), OptionError> {
        preference::check_positive("beta", self.beta)?;
        self.nll().check()
    }
}

/// Identity preference optimization.
#[derive(Clone, Debug)]
pub struct Ipo {
    options: IpoOptions,
}

impl FromOptions for Ipo {
    type Options = IpoOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "ipo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "identity preference optimization (IPO): a margin with a target".to_owned(),
        }
    }

    fn from_options(options: IpoOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Ipo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ipo {
    /// The margin that the loss pulls to.
    fn target(&self) -> f64 {
        1.0 / (2.0 * self.options.beta)
    }
}

impl Optimizer for Ipo {
    /// None: the loss has a target, and beyond it pulls back.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: false })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// 1 / (2β)²: at zero margin the whole target is missing; nothing fixed with an NLL term.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(self.options.nll().beside_start(self.target() * self.target()))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let IpoOptions { beta, length_normalized, .. } = self.options;
        preference::batch(pairs, self.options.nll(), |item, pair| {
            let [per_chosen, per_rejected] =
                if length_normalized { preference::per_token_of_both(item, pair)? } else { [1.0, 1.0] };
            let chosen = per_chosen * (pair.policy_chosen - pair.reference_chosen);
            let rejected = per_rejected * (pair.policy_rejected - pair.reference_rejected);
            let miss = chosen - rejected - self.target();
            Ok(Term {
                loss: miss * miss,
                chosen_gradient: 2.0 * miss * per_chosen,
                rejected_gradient: -2.0 * miss * per_rejected,
                chosen_reward: beta * chosen,
                rejected_reward: beta * rejected,
                metrics: Vec::new(),
            })
        })
    }
}

metareward_plugin::export!(optimizer: Ipo);
