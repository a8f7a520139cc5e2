//! Wrong selectors.

use metareward_api::{Candidate, NoPair, Plugin, PluginError, PluginInfo, Selection, Selector};
use metareward_laws::{SelectorPromises, check_selector, check_selector_family};
use metareward_plugin::FromOptions;
use selector_length_control::{LengthControl, LengthControlOptions, Ties};

use crate::{PLAN, breaks};

type Answer = Result<Vec<Result<Selection, NoPair>>, PluginError>;

/// Length control whose answer is spoiled.
struct Wrong {
    selector: LengthControl,
    spoil: fn(&[Vec<Candidate>], Answer) -> Answer,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.selector.info()
    }
}

impl Selector for Wrong {
    fn length_unit(&self) -> Result<String, PluginError> {
        self.selector.length_unit()
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Answer {
        (self.spoil)(groups, self.selector.select(groups))
    }
}

fn length_control(options: LengthControlOptions) -> LengthControl {
    LengthControl::from_options(options).unwrap()
}

#[track_caller]
fn spoiled(words: &str, spoil: fn(&[Vec<Candidate>], Answer) -> Answer) {
    let selector = Wrong { selector: length_control(LengthControlOptions::default()), spoil };
    breaks(words, || check_selector(&selector, SelectorPromises::default(), PLAN));
}

#[track_caller]
fn promised(words: &str, options: LengthControlOptions, promises: SelectorPromises) {
    let selector = length_control(options);
    breaks(words, || check_selector(&selector, promises, PLAN));
}

fn pairs(answer: Answer, change: impl Fn(Selection) -> Selection) -> Answer {
    Ok(answer?.into_iter().map(|selection| selection.map(&change)).collect())
}

#[test]
fn the_worse_one_chosen() {
    spoiled("scores higher", |_, answer| {
        pairs(answer, |pair| Selection {
            chosen: pair.rejected,
            rejected: pair.chosen,
            chosen_length: pair.rejected_length,
            rejected_length: pair.chosen_length,
        })
    });
}

#[test]
fn an_index_out_of_range() {
    spoiled("two candidates", |_, answer| pairs(answer, |pair| Selection { rejected: 99, ..pair }));
}

#[test]
fn lengths_that_are_not_the_candidates() {
    spoiled("lengths", |_, answer| {
        pairs(answer, |pair| Selection { rejected_length: pair.rejected_length + 1, ..pair })
    });
}

#[test]
fn a_pair_of_equals() {
    spoiled("equal scores give no pair", |groups, answer| {
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
    });
}

#[test]
fn tiers_wider_than_promised() {
    promised(
        "shortest of the upper tier",
        LengthControlOptions { rho: 0.32, ..LengthControlOptions::default() },
        SelectorPromises { rho: Some(0.0), ..SelectorPromises::default() },
    );
}

#[test]
fn no_limit_where_one_is_promised() {
    promised(
        "over the limit",
        LengthControlOptions::default(),
        SelectorPromises { max_chosen_length: Some(10), ..SelectorPromises::default() },
    );
}

#[test]
fn the_first_of_equals() {
    promised(
        "permuting",
        LengthControlOptions { ties: Ties::First, ..LengthControlOptions::default() },
        SelectorPromises { ignores_order: true, ..SelectorPromises::default() },
    );
}

#[test]
fn nonsense_accepted() {
    spoiled("not finite is refused", |groups, answer| {
        Ok(answer.unwrap_or_else(|_| vec![Err(NoPair::EqualScores); groups.len()]))
    });
}

#[test]
fn only_the_first_of_a_batch() {
    spoiled("no item of a batch influences another", |_, answer| {
        let later = |(index, selection)| if index == 0 { selection } else { Err(NoPair::TooFewCandidates) };
        Ok(answer?.into_iter().enumerate().map(later).collect())
    });
}

#[test]
fn rho_the_wrong_way_round() {
    let make = |rho: f64| -> Result<Box<dyn Selector>, PluginError> {
        Ok(Box::new(length_control(LengthControlOptions { rho: (1.0 - rho) / 2.0, ..LengthControlOptions::default() })))
    };
    breaks("a larger rho", || check_selector_family(&make, PLAN));
}
