//! Honest samplers and wrong ones, with plans only and with a distribution of their own.

use std::sync::atomic::{AtomicU32, Ordering};

use metareward_api::{DrawPlan, Kind, NextTokens, Plugin, PluginError, PluginInfo, Sampler, SamplerItem, Sampling};
use metareward_laws::{LawOutcome, check_sampler, exact, laws_of};
use metareward_plugin::FromOptions;
use sampler_nucleus::{Nucleus, NucleusOptions};

use crate::{Case, PLAN, case, every_law_breaks, holds};

/// Nucleus sampling whose plans are spoiled, given the number of items and of calls before.
struct Planner {
    sampler: Nucleus,
    calls: AtomicU32,
    spoil: fn(usize, u32, &mut Vec<DrawPlan>),
}

impl Plugin for Planner {
    fn info(&self) -> PluginInfo {
        self.sampler.info()
    }
}

impl Sampler for Planner {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut plans = self.sampler.plan(items)?;
        plans.iter_mut().for_each(|plan| (self.spoil)(items.len(), calls, plan));
        Ok(plans)
    }
}

fn planner(spoil: fn(usize, u32, &mut Vec<DrawPlan>)) -> Vec<LawOutcome> {
    let sampler = Nucleus::from_options(NucleusOptions::default()).unwrap();
    check_sampler(&Planner { sampler, calls: AtomicU32::new(0), spoil }, PLAN)
}

fn planned(law: &'static str, wrong: &'static str, spoil: fn(usize, u32, &mut Vec<DrawPlan>)) -> Case<'static> {
    case(law, wrong, move || planner(spoil))
}

/// What a [`Reshaper`]'s spoiling is given beside the probabilities: the row, the number of rows and of calls before.
type Spoil = fn(&NextTokens, usize, u32, &mut Vec<f64>);

/// Min-p by hand, on the most probable tokens.
struct Reshaper {
    most: Option<u32>,
    calls: AtomicU32,
    spoil: Spoil,
}

impl Plugin for Reshaper {
    fn info(&self) -> PluginInfo {
        PluginInfo { kind: Kind::Sampler, name: "reshaper".into(), version: "0.1.0".into(), summary: String::new() }
    }
}

impl Sampler for Reshaper {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let sampling = Sampling { max_tokens: 64, ..ALL };
        Ok(items
            .iter()
            .map(|item| vec![DrawPlan { sampling: sampling.clone(), seed_offset: 0 }; item.draws as usize])
            .collect())
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(self.most)
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let one = |row: &NextTokens| {
            let mut probabilities = exact::distribution(&Sampling { min_p: 0.1, ..ALL }, &row.logits);
            (self.spoil)(row, rows.len(), calls, &mut probabilities);
            probabilities
        };
        Ok(rows.iter().map(one).collect())
    }
}

const ALL: Sampling =
    Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 1, stop: Vec::new() };

fn reshaper(most: u32, spoil: Spoil) -> Vec<LawOutcome> {
    check_sampler(&Reshaper { most: Some(most), calls: AtomicU32::new(0), spoil }, PLAN)
}

fn reshaped(law: &'static str, wrong: &'static str, spoil: Spoil) -> Case<'static> {
    case(law, wrong, move || reshaper(8, spoil))
}

#[test]
fn every_law_of_samplers_breaks() {
    let cases = [
        case("the plugin says", "reshapes, but wants to see no token", || reshaper(0, |_, _, _, _| ())),
        planned("every draw has one plan", "a plan too few", |_, _, plan| drop(plan.pop())),
        planned("every parameter is in its range", "the seventh top-p above 1", |_, _, plan| {
            if let Some(draw) = plan.get_mut(6) {
                draw.sampling.top_p = 1.2;
            }
        }),
        planned("probabilities are not negative", "a temperature that is no number", |_, _, plan| {
            plan.iter_mut().for_each(|draw| draw.sampling.temperature = f64::NAN);
        }),
        reshaped("probabilities are not negative", "weights instead of probabilities", |row, _, _, probabilities| {
            probabilities.iter_mut().for_each(|p| *p *= row.tokens.len() as f64);
        }),
        reshaped("probabilities are not negative", "a careless exponential", |row, _, _, probabilities| {
            let total: f64 = row.logits.iter().map(|logit| logit.exp()).sum();
            *probabilities = row.logits.iter().map(|logit| logit.exp() / total).collect();
        }),
        planned("nothing outside the nucleus", "a negative temperature", |_, _, plan| {
            plan.iter_mut().for_each(|draw| draw.sampling.temperature = -1.0);
        }),
        planned("towards temperature 0", "a negative temperature", |_, _, plan| {
            plan.iter_mut().for_each(|draw| draw.sampling.temperature = -1.0);
        }),
        reshaped("towards temperature 0", "a share for everyone", |_, _, _, probabilities| {
            let share = 0.1 / probabilities.len() as f64;
            probabilities.iter_mut().for_each(|p| *p = 0.9 * *p + share);
        }),
        planned("renaming the tokens", "a temperature that is no number", |_, _, plan| {
            plan.iter_mut().for_each(|draw| draw.sampling.temperature = f64::NAN);
        }),
        reshaped("renaming the tokens", "the token with the lowest id is left out", |row, _, _, probabilities| {
            let lowest = (0..row.tokens.len()).min_by_key(|index| row.tokens[*index]).unwrap();
            let share = 1.0 - probabilities[lowest];
            if share > 0.0 {
                probabilities.iter_mut().for_each(|p| *p /= share);
                probabilities[lowest] = 0.0;
            }
        }),
        planned("the same call", "seeds that depend on the batch", |items, _, plan| {
            plan.iter_mut().for_each(|draw| draw.seed_offset = items as u64);
        }),
        reshaped("the same row", "all to the first where there are several rows", |_, rows, _, probabilities| {
            if rows > 1 {
                probabilities.fill(0.0);
                probabilities[0] = 1.0;
            }
        }),
        planned("no call leaves a trace", "seeds that count calls", |_, calls, plan| {
            plan.iter_mut().for_each(|draw| draw.seed_offset = u64::from(calls));
        }),
        reshaped("no call leaves a trace", "all to the first every other call", |_, _, calls, probabilities| {
            if calls % 2 == 1 {
                probabilities.fill(0.0);
                probabilities[0] = 1.0;
            }
        }),
    ];
    every_law_breaks(laws_of(Kind::Sampler), &cases);
}

#[test]
fn honest_samplers_hold() {
    holds(&planner(|_, _, _| ()), &["the same row"]);
    holds(&reshaper(8, |_, _, _, _| ()), &["nothing outside the nucleus"]);
    for options in [
        NucleusOptions { temperature: 0.0, ..NucleusOptions::default() },
        NucleusOptions { temperature: 1.5, top_p: 0.5, ..NucleusOptions::default() },
    ] {
        holds(&check_sampler(&Nucleus::from_options(options).unwrap(), PLAN), &["the same row"]);
    }
}
