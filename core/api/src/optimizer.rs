//! Plugin kind *optimizer*: the preference loss.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Plugin, PluginError};

/// Log-probabilities of one pair, summed over the tokens of each completion, natural logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairLogProbs {
    /// log π(chosen | prompt).
    pub policy_chosen: f64,
    /// log π(rejected | prompt).
    pub policy_rejected: f64,
    /// log π_ref(chosen | prompt).
    pub reference_chosen: f64,
    /// log π_ref(rejected | prompt).
    pub reference_rejected: f64,
    /// Tokens of the chosen completion.
    pub chosen_tokens: u32,
    /// Tokens of the rejected completion.
    pub rejected_tokens: u32,
    /// Weight of the pair.
    pub weight: f64,
}

/// Loss of a batch and its gradient. The host multiplies by the share of the batch in an accumulated step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceLoss {
    /// Weighted loss of each pair, not yet averaged over the batch.
    pub losses: Vec<f64>,
    /// d losses\[i\] / d policy_chosen\[i\].
    pub chosen_gradient: Vec<f64>,
    /// d losses\[i\] / d policy_rejected\[i\].
    pub rejected_gradient: Vec<f64>,
    /// Implicit reward of each chosen completion, as the method defines it (DPO: β (log π − log π_ref)).
    pub chosen_rewards: Vec<f64>,
    /// Implicit reward of each rejected completion.
    pub rejected_rewards: Vec<f64>,
    /// Metrics of the plugin's own, averaged over the batch.
    pub metrics: BTreeMap<String, f64>,
}

/// What not every honest loss promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptimizerPromises {
    /// The loss never rises with the chosen log-probability and never falls with the rejected one.
    pub pulls_apart: bool,
}

/// A preference loss over sequence log-probabilities: a page of arithmetic, and the host does the rest.
pub trait Optimizer: Plugin {
    /// What the loss promises beyond the laws of all losses.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises::default())
    }

    /// Whether the loss reads the reference log-probabilities. Where it does not, they are not computed and are 0.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn needs_reference(&self) -> Result<bool, PluginError>;

    /// The loss at zero margin (all log-probabilities equal to the reference's), where the method fixes one: ln 2 for
    /// DPO. The trainer checks the first step against it.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError>;

    /// Loss, gradient and rewards of a batch; every vector is as long as `pairs`.
    ///
    /// # Errors
    /// When a log-probability is not finite.
    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError>;
}
