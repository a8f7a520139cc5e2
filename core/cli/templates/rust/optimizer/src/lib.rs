//! Optimizer: DPO with a reward margin to reach.
//!
//! With r(y) = beta (log pi(y) - log pi_ref(y)), the loss of a pair is -log sigmoid(r(chosen) - r(rejected) - margin).

use metareward_plugin::{
    FromOptions, Options,
    api::{
        Kind, Optimizer, OptimizerPromises, OptionError, PairLogProbs, Plugin, PluginError,
        PluginInfo, PreferenceLoss,
    },
    preference::{self, Nll, Term, check_positive, log_sigmoid, sigmoid},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`Margin`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MarginOptions {
    /// How strongly the policy is held to the reference; above 0.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub beta: f64,
    /// By how much the chosen reward is to be ahead.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
}

impl Default for MarginOptions {
    fn default() -> Self {
        Self {
            beta: 0.1,
            margin: 0.5,
        }
    }
}

impl Options for MarginOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_positive("beta", self.beta)?;
        if self.margin.is_finite() && self.margin >= 0.0 {
            return Ok(());
        }
        Err(OptionError::at(
            "margin",
            format!("expected a number from 0, found {}", self.margin),
        ))
    }
}

/// DPO with a margin.
#[derive(Clone, Debug)]
pub struct Margin {
    options: MarginOptions,
}

impl FromOptions for Margin {
    type Options = MarginOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "DPO with a reward margin to reach".to_owned(),
        }
    }

    fn from_options(options: MarginOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Margin {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Optimizer for Margin {
    /// What the laws hold this loss to beyond the laws of all losses.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: true })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// Before the first step both rewards are 0.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(Some(-log_sigmoid(-self.options.margin)))
    }

    /// `batch` refuses what is not finite, and multiplies by the weight of the pair.
    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let MarginOptions { beta, margin } = self.options;
        preference::batch(pairs, Nll::default(), |_, pair| {
            let chosen_reward = beta * (pair.policy_chosen - pair.reference_chosen);
            let rejected_reward = beta * (pair.policy_rejected - pair.reference_rejected);
            let ahead = chosen_reward - rejected_reward - margin;
            let pull = beta * sigmoid(-ahead);
            Ok(Term {
                loss: -log_sigmoid(ahead),
                chosen_gradient: -pull,
                rejected_gradient: pull,
                chosen_reward,
                rejected_reward,
                metrics: Vec::new(),
            })
        })
    }
}

metareward_plugin::export!(optimizer: Margin);
