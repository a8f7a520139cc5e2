//! Wrong optimizers.

use metareward_api::{Optimizer, PairLogProbs, Plugin, PluginError, PluginInfo, PreferenceLoss};
use metareward_laws::{OptimizerPromises, check_optimizer};
use metareward_plugin::FromOptions;
use optimizer_dpo::{Dpo, DpoOptions};

use crate::{PLAN, breaks};

type Answer = Result<PreferenceLoss, PluginError>;

/// DPO whose answer is spoiled.
struct Wrong {
    dpo: Dpo,
    start: f64,
    spoil: fn(&[PairLogProbs], Answer) -> Answer,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.dpo.info()
    }
}

impl Optimizer for Wrong {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        self.dpo.needs_reference()
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(Some(self.start))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Answer {
        (self.spoil)(pairs, self.dpo.loss(pairs))
    }
}

#[track_caller]
fn check(words: &str, options: DpoOptions, start: f64, spoil: fn(&[PairLogProbs], Answer) -> Answer) {
    let optimizer = Wrong { dpo: Dpo::from_options(options).unwrap(), start, spoil };
    breaks(words, || check_optimizer(&optimizer, OptimizerPromises { pulls_apart: true }, PLAN));
}

#[track_caller]
fn wrong(words: &str, spoil: fn(&[PairLogProbs], Answer) -> Answer) {
    check(words, DpoOptions::default(), std::f64::consts::LN_2, spoil);
}

#[test]
fn a_reward_too_few() {
    wrong("every vector", |_, answer| {
        let mut loss = answer?;
        loss.chosen_rewards.pop();
        Ok(loss)
    });
}

#[test]
fn a_careless_logarithm() {
    wrong("extreme margins", |_, answer| {
        let mut loss = answer?;
        for (index, value) in loss.losses.iter_mut().enumerate() {
            let z = loss.chosen_rewards[index] - loss.rejected_rewards[index];
            *value = -(1.0 / (1.0 + (-z).exp())).ln();
        }
        Ok(loss)
    });
}

#[test]
fn a_gradient_without_its_factor() {
    wrong("finite differences", |_, answer| {
        let mut loss = answer?;
        loss.chosen_gradient.iter_mut().for_each(|gradient| *gradient *= 1.01);
        Ok(loss)
    });
}

#[test]
fn a_gradient_that_turns_round() {
    let smoothed = DpoOptions { label_smoothing: 0.1, ..DpoOptions::default() };
    check("raises chosen", smoothed, std::f64::consts::LN_2, |_, answer| answer);
}

#[test]
fn another_loss_at_the_start() {
    check("zero margin", DpoOptions::default(), 0.5, |_, answer| answer);
}

#[test]
fn a_weight_that_is_ignored() {
    wrong("the weight scales", |pairs, answer| {
        let mut loss = answer?;
        for (value, pair) in loss.losses.iter_mut().zip(pairs) {
            *value /= pair.weight;
        }
        Ok(loss)
    });
}

#[test]
fn nonsense_accepted() {
    wrong("not finite is refused", |pairs, answer| {
        let zero = || vec![0.0; pairs.len()];
        Ok(answer.unwrap_or_else(|_| PreferenceLoss {
            losses: zero(),
            chosen_gradient: zero(),
            rejected_gradient: zero(),
            chosen_rewards: zero(),
            rejected_rewards: zero(),
            metrics: Default::default(),
        }))
    });
}

#[test]
fn averaged_over_the_batch() {
    wrong("no pair of a batch influences another", |pairs, answer| {
        let mut loss = answer?;
        loss.losses.iter_mut().for_each(|value| *value /= pairs.len() as f64);
        Ok(loss)
    });
}
