//! Honest selectors and wrong ones.

use std::sync::atomic::{AtomicU32, Ordering};

use metareward_api::{Candidate, Kind, NoPair, Plugin, PluginError, PluginInfo, Selection, Selector, SelectorPromises};
use metareward_laws::{LawOutcome, check_selector, check_selector_family, laws_of};
use metareward_plugin::FromOptions;
use selector_length_control::{LengthControl, LengthControlOptions, Ties};

use crate::{Case, PLAN, case, every_law_breaks, holds};

type Answer = Result<Vec<Result<Selection, NoPair>>, PluginError>;

/// Length control whose answer is spoiled, given also the number of calls before.
struct Wrong {
    selector: LengthControl,
    unit: &'static str,
    promises: SelectorPromises,
    calls: AtomicU32,
    spoil: fn(&[Vec<Candidate>], Answer, u32) -> Answer,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.selector.info()
    }
}

impl Selector for Wrong {
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        Ok(self.promises)
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(self.unit.to_owned())
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Answer {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.spoil)(groups, self.selector.select(groups), calls)
    }
}

fn length_control(options: LengthControlOptions) -> LengthControl {
    LengthControl::from_options(options).unwrap()
}

fn check(
    options: LengthControlOptions,
    unit: &'static str,
    promises: SelectorPromises,
    spoil: fn(&[Vec<Candidate>], Answer, u32) -> Answer,
) -> Vec<LawOutcome> {
    let selector = length_control(options);
    check_selector(&Wrong { selector, unit, promises, calls: AtomicU32::new(0), spoil }, PLAN)
}

fn spoiled(
    law: &'static str,
    wrong: &'static str,
    spoil: fn(&[Vec<Candidate>], Answer, u32) -> Answer,
) -> Case<'static> {
    let promises = SelectorPromises::default();
    case(law, wrong, move || check(LengthControlOptions::default(), "characters", promises, spoil))
}

fn promised(
    law: &'static str,
    wrong: &'static str,
    options: LengthControlOptions,
    promises: SelectorPromises,
) -> Case<'static> {
    case(law, wrong, move || check(options.clone(), "characters", promises, |_, answer, _| answer))
}

fn pairs(answer: Answer, change: impl Fn(Selection) -> Selection) -> Answer {
    Ok(answer?.into_iter().map(|selection| selection.map(&change)).collect())
}

#[test]
fn every_law_of_selectors_breaks() {
    let defaults = LengthControlOptions::default;
    let none = SelectorPromises::default;
    let cases = [
        case("the plugin says", "measures lengths in words", || {
            check(defaults(), "words", none(), |_, answer, _| answer)
        }),
        promised("the plugin says", "a rho of 2", defaults(), SelectorPromises { rho: Some(2.0), ..none() }),
        spoiled("chosen and rejected are two", "the worse one chosen", |_, answer, _| {
            pairs(answer, |pair| Selection {
                chosen: pair.rejected,
                rejected: pair.chosen,
                chosen_length: pair.rejected_length,
                rejected_length: pair.chosen_length,
            })
        }),
        spoiled("chosen and rejected are two", "an index out of range", |_, answer, _| {
            pairs(answer, |pair| Selection { rejected: 99, ..pair })
        }),
        spoiled("lengths are those", "one more than the rejected text's length", |_, answer, _| {
            pairs(answer, |pair| Selection { rejected_length: pair.rejected_length + 1, ..pair })
        }),
        spoiled("equal scores give no pair", "the first two of equals", |groups, answer, _| {
            let first_two = |(group, selection): (&Vec<Candidate>, Result<Selection, NoPair>)| match selection {
                Err(NoPair::EqualScores) => Ok(Selection {
                    chosen: 0,
                    rejected: 1,
                    chosen_length: group[0].characters,
                    rejected_length: group[1].characters,
                }),
                other => other,
            };
            Ok(groups.iter().zip(answer?).map(first_two).collect())
        }),
        promised(
            "chosen is the shortest",
            "tiers wider than promised",
            LengthControlOptions { rho: 0.32, ..defaults() },
            SelectorPromises { rho: Some(0.1), ..none() },
        ),
        promised(
            "with rho 0",
            "tiers where none are promised",
            LengthControlOptions { rho: 0.32, ..defaults() },
            SelectorPromises { rho: Some(0.0), ..none() },
        ),
        promised(
            "no chosen text is over",
            "no limit where one is promised",
            defaults(),
            SelectorPromises { max_chosen_length: Some(10), ..none() },
        ),
        promised(
            "permuting the candidates",
            "the first of equals",
            LengthControlOptions { ties: Ties::First, ..defaults() },
            SelectorPromises { ignores_order: true, ..none() },
        ),
        spoiled("a score that is not finite", "nonsense accepted", |groups, answer, _| {
            Ok(answer.unwrap_or_else(|_| vec![Err(NoPair::EqualScores); groups.len()]))
        }),
        spoiled("the same call", "only the first of a batch", |_, answer, _| {
            let later = |(index, selection)| if index == 0 { selection } else { Err(NoPair::TooFewCandidates) };
            Ok(answer?.into_iter().enumerate().map(later).collect())
        }),
        spoiled("no call leaves a trace", "every other call selects nothing", |_, answer, calls| {
            let nothing = |selection| if calls % 2 == 0 { selection } else { Err(NoPair::SameCandidate) };
            Ok(answer?.into_iter().map(nothing).collect())
        }),
    ];
    every_law_breaks(laws_of(Kind::Selector), &cases);
}

#[test]
fn every_law_of_selector_families_breaks() {
    let with = |rho: f64| -> Result<Box<dyn Selector>, PluginError> {
        Ok(Box::new(length_control(LengthControlOptions { rho, ..LengthControlOptions::default() })))
    };
    let backwards = |rho: f64| with((1.0 - rho) / 2.0);
    let names: Vec<&str> = check_selector_family(&with, PLAN).iter().map(|outcome| outcome.law).collect();
    let cases = [
        case("a larger rho", "rho the wrong way round", || check_selector_family(&backwards, PLAN)),
        case("with rho 0", "rho the wrong way round", || check_selector_family(&backwards, PLAN)),
    ];
    every_law_breaks(&names, &cases);
    holds(&check_selector_family(&with, PLAN), &[]);
}

#[test]
fn honest_selectors_hold() {
    let limited = LengthControlOptions { max_chosen_length: Some(300), ..LengthControlOptions::default() };
    holds(&check_selector(&length_control(limited), PLAN), &[]);
    let tiers = LengthControlOptions { rho: 0.32, ..LengthControlOptions::default() };
    holds(&check_selector(&length_control(tiers), PLAN), &["with rho 0", "no chosen text is over"]);
}
