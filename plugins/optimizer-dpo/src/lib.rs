//! Preference optimizer: direct preference optimization (Rafailov et al. 2023), with label smoothing (cDPO) and
//! optional length normalisation.
//!
//! With z = β·((log π(c) − log π_ref(c)) − (log π(r) − log π_ref(r))) and label smoothing ε the loss of a pair is
//! w·(−(1−ε)·log σ(z) − ε·log σ(−z)): the `sigmoid` loss of TRL's `DPOTrainer`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::collections::BTreeMap;

use metareward_api::{Kind, Optimizer, OptionError, PairLogProbs, Plugin, PluginError, PluginInfo, PreferenceLoss};
use metareward_plugin::{FromOptions, Options};
use serde::{Deserialize, Serialize};

/// Options of [`Dpo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoOptions {
    /// How strongly the policy is held to the reference; above 0.
    pub beta: f64,
    /// Probability that a label is wrong; from 0, below 0.5.
    pub label_smoothing: f64,
    /// Divides log-probabilities by the completion's number of tokens.
    pub length_normalized: bool,
}

impl Default for DpoOptions {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0, length_normalized: false }
    }
}

impl Options for DpoOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.beta.is_finite() && self.beta > 0.0) {
            return Err(OptionError::at("beta", format!("expected a number above 0, found {}", self.beta)));
        }
        if !(0.0..0.5).contains(&self.label_smoothing) {
            let message = format!("expected a number from 0 and below 0.5, found {}", self.label_smoothing);
            return Err(OptionError::at("label_smoothing", message));
        }
        Ok(())
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
            summary: "direct preference optimization, with label smoothing and length normalisation".to_owned(),
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

/// log σ(z), without overflow at either end.
fn log_sigmoid(z: f64) -> f64 {
    if z >= 0.0 { -libm::log1p(libm::exp(-z)) } else { z - libm::log1p(libm::exp(z)) }
}

/// σ(z), without overflow at either end.
fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + libm::exp(-z))
    } else {
        let e = libm::exp(z);
        e / (1.0 + e)
    }
}

impl Dpo {
    /// What each log-probability is multiplied by: β, or β over the length.
    fn factor(&self, item: usize, side: &str, tokens: u32) -> Result<f64, PluginError> {
        match (self.options.length_normalized, tokens) {
            (false, _) => Ok(self.options.beta),
            (true, 0) => Err(PluginError::at(item, format!("the {side} completion has no tokens to normalise by"))),
            (true, tokens) => Ok(self.options.beta / f64::from(tokens)),
        }
    }
}

impl Optimizer for Dpo {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    /// ln 2: at zero margin σ(z) is a half, whatever the label smoothing.
    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(Some(std::f64::consts::LN_2))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let mut out = PreferenceLoss {
            losses: Vec::with_capacity(pairs.len()),
            chosen_gradient: Vec::with_capacity(pairs.len()),
            rejected_gradient: Vec::with_capacity(pairs.len()),
            chosen_rewards: Vec::with_capacity(pairs.len()),
            rejected_rewards: Vec::with_capacity(pairs.len()),
            metrics: BTreeMap::new(),
        };
        let smoothing = self.options.label_smoothing;
        let mut probability = 0.0;
        for (item, pair) in pairs.iter().enumerate() {
            for (name, value) in [
                ("policy_chosen", pair.policy_chosen),
                ("policy_rejected", pair.policy_rejected),
                ("reference_chosen", pair.reference_chosen),
                ("reference_rejected", pair.reference_rejected),
                ("weight", pair.weight),
            ] {
                if !value.is_finite() {
                    return Err(PluginError::at(item, format!("{name} is {value}")));
                }
            }
            let chosen_factor = self.factor(item, "chosen", pair.chosen_tokens)?;
            let rejected_factor = self.factor(item, "rejected", pair.rejected_tokens)?;
            let chosen_reward = chosen_factor * (pair.policy_chosen - pair.reference_chosen);
            let rejected_reward = rejected_factor * (pair.policy_rejected - pair.reference_rejected);
            let z = chosen_reward - rejected_reward;
            // d loss / d z, before the weight.
            let slope = smoothing * sigmoid(z) - (1.0 - smoothing) * sigmoid(-z);
            let loss = -(1.0 - smoothing) * log_sigmoid(z) - smoothing * log_sigmoid(-z);
            out.losses.push(pair.weight * loss);
            out.chosen_gradient.push(pair.weight * slope * chosen_factor);
            out.rejected_gradient.push(-pair.weight * slope * rejected_factor);
            out.chosen_rewards.push(chosen_reward);
            out.rejected_rewards.push(rejected_reward);
            probability += sigmoid(z);
        }
        if !pairs.is_empty() {
            out.metrics.insert("preference_probability".to_owned(), probability / pairs.len() as f64);
        }
        Ok(out)
    }
}
