//! Honest optimizers and wrong ones.

use std::sync::atomic::{AtomicU32, Ordering};

use metareward_api::{
    Kind, Optimizer, OptimizerPromises, PairLogProbs, Plugin, PluginError, PluginInfo, PreferenceLoss,
};
use metareward_laws::{LawOutcome, check_optimizer, laws_of};
use metareward_plugin::FromOptions;
use optimizer_dpo::{Dpo, DpoOptions};

use crate::{Case, PLAN, case, every_law_breaks, holds};

type Answer = Result<PreferenceLoss, PluginError>;

/// DPO whose answer is spoiled, given also the number of calls before.
struct Wrong {
    dpo: Dpo,
    start: f64,
    needs_reference: bool,
    calls: AtomicU32,
    spoil: fn(&[PairLogProbs], Answer, u32) -> Answer,
}

impl Wrong {
    fn new(options: DpoOptions, spoil: fn(&[PairLogProbs], Answer, u32) -> Answer) -> Self {
        let dpo = Dpo::from_options(options).unwrap();
        Self { dpo, start: std::f64::consts::LN_2, needs_reference: true, calls: AtomicU32::new(0), spoil }
    }
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.dpo.info()
    }
}

impl Optimizer for Wrong {
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        Ok(OptimizerPromises { pulls_apart: true })
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(self.needs_reference)
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(Some(self.start))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Answer {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.spoil)(pairs, self.dpo.loss(pairs), calls)
    }
}

fn check(wrong: Wrong) -> Vec<LawOutcome> {
    check_optimizer(&wrong, PLAN)
}

fn spoiled(law: &'static str, wrong: &'static str, spoil: fn(&[PairLogProbs], Answer, u32) -> Answer) -> Case<'static> {
    case(law, wrong, move || check(Wrong::new(DpoOptions::default(), spoil)))
}

fn as_it_is(_: &[PairLogProbs], answer: Answer, _: u32) -> Answer {
    answer
}

#[test]
fn every_law_of_optimizers_breaks() {
    let dpo = DpoOptions::default;
    let cases = [
        case("the plugin says", "promises a loss at the start that is no number", || {
            check(Wrong { start: f64::NAN, ..Wrong::new(dpo(), as_it_is) })
        }),
        spoiled("every vector has", "a reward too few", |_, answer, _| {
            let mut loss = answer?;
            loss.chosen_rewards.pop();
            Ok(loss)
        }),
        spoiled("extreme margins", "a careless logarithm", |_, answer, _| {
            let mut loss = answer?;
            for (index, value) in loss.losses.iter_mut().enumerate() {
                let z = loss.chosen_rewards[index] - loss.rejected_rewards[index];
                *value = -(1.0 / (1.0 + (-z).exp())).ln();
            }
            Ok(loss)
        }),
        spoiled("the gradient equals", "a hundredth too steep", |_, answer, _| {
            let mut loss = answer?;
            loss.chosen_gradient.iter_mut().for_each(|gradient| *gradient *= 1.01);
            Ok(loss)
        }),
        case("the gradient raises chosen", "label smoothing, which turns the gradient round", || {
            check(Wrong::new(DpoOptions { label_smoothing: 0.1, ..dpo() }, as_it_is))
        }),
        case("the loss at zero margin", "another loss than promised", || {
            check(Wrong { start: 0.5, ..Wrong::new(dpo(), as_it_is) })
        }),
        case("a loss that needs no reference", "reads what it says it does not need", || {
            check(Wrong { needs_reference: false, ..Wrong::new(dpo(), as_it_is) })
        }),
        spoiled("the weight scales", "the weight ignored", |pairs, answer, _| {
            let mut loss = answer?;
            for (value, pair) in loss.losses.iter_mut().zip(pairs) {
                *value /= pair.weight;
            }
            Ok(loss)
        }),
        spoiled("a log-probability that is not finite", "nonsense accepted", |pairs, answer, _| {
            let zero = || vec![0.0; pairs.len()];
            Ok(answer.unwrap_or_else(|_| PreferenceLoss {
                losses: zero(),
                chosen_gradient: zero(),
                rejected_gradient: zero(),
                chosen_rewards: zero(),
                rejected_rewards: zero(),
                metrics: Default::default(),
            }))
        }),
        spoiled("the same call", "averaged over the batch", |pairs, answer, _| {
            let mut loss = answer?;
            loss.losses.iter_mut().for_each(|value| *value /= pairs.len() as f64);
            Ok(loss)
        }),
        spoiled("no call leaves a trace", "a metric that counts calls", |_, answer, calls| {
            let mut loss = answer?;
            loss.metrics.insert("calls".into(), f64::from(calls));
            Ok(loss)
        }),
    ];
    every_law_breaks(laws_of(Kind::Optimizer), &cases);
}

#[test]
fn honest_optimizers_hold() {
    let needed = "a loss that needs no reference";
    holds(&check_optimizer(&Dpo::from_options(DpoOptions::default()).unwrap(), PLAN), &[needed]);
    let smoothed = DpoOptions { label_smoothing: 0.1, ..DpoOptions::default() };
    let smoothed = Dpo::from_options(smoothed).unwrap();
    holds(&check_optimizer(&smoothed, PLAN), &[needed, "the gradient raises chosen"]);
}
