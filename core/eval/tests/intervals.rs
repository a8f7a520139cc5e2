//! Whether intervals are right: the same for a seed, and around the truth as often as they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::PromptId;
use metareward_eval::{Bootstrap, Groups, mean, mean_of};

/// Numbers that look random, from 0 to 1, for making test data.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 + 0.5) / f64::from(1_u32 << 31)
    }
}

fn prompt(number: usize) -> PromptId {
    PromptId(format!("p{number:04}"))
}

/// Answers to prompts that are hard or easy: the mean of a prompt is drawn, then four answers near it. The true mean is
/// a half.
fn clustered(noise: &mut Noise, prompts: usize) -> Groups<f64> {
    let mut groups = Groups::default();
    for number in 0..prompts {
        let ease = noise.next();
        for _ in 0..4 {
            groups.push(&prompt(number), ease + 0.2 * (noise.next() - 0.5));
        }
    }
    groups
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let groups = clustered(&mut Noise(1), 30);
    let figure = |seed| mean(&groups, &Bootstrap { seed, ..Bootstrap::default() }).unwrap();
    assert_eq!(figure(5), figure(5));
    assert_ne!(figure(5).interval, figure(6).interval);
    assert_eq!(figure(5).value, figure(6).value);
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let bootstrap = Bootstrap { draws: 400, ..Bootstrap::default() };
    let mut noise = Noise(2);
    let (mut held, mut held_by_answers) = (0, 0);
    let trials = 400;
    for _ in 0..trials {
        let groups = clustered(&mut noise, 40);
        held += usize::from(mean(&groups, &bootstrap).unwrap().interval.unwrap().contains(0.5));
        // The same numbers, as if every answer were to a prompt of its own.
        let alone: Groups<f64> = groups.values().enumerate().map(|(number, value)| (prompt(number), *value)).collect();
        held_by_answers += usize::from(mean(&alone, &bootstrap).unwrap().interval.unwrap().contains(0.5));
    }
    // 95 % of 400 is 380, with a standard deviation of 4.4; percentile intervals are a little short on 40 prompts.
    assert!((360..=396).contains(&held), "{held} of {trials}");
    assert!(held_by_answers < 320, "drawing answers instead of prompts is far too sure: {held_by_answers} of {trials}");
}

#[test]
fn a_difference_on_the_same_prompts_is_sharper_than_two_figures() {
    let mut noise = Noise(3);
    let before = clustered(&mut noise, 60);
    let after = before.map(|value| value + 0.05);
    let bootstrap = Bootstrap::default();
    let change = bootstrap.difference(&after, &before, &mean_of).unwrap();
    assert!((change.value - 0.05).abs() < 1e-12);
    let interval = change.interval.unwrap();
    assert!(interval.low > 0.049 && interval.high < 0.051, "{interval:?}");
    // By themselves the two overlap.
    let (one, other) = (mean(&before, &bootstrap).unwrap(), mean(&after, &bootstrap).unwrap());
    assert!(one.interval.unwrap().high > other.interval.unwrap().low);
}

#[test]
fn a_difference_takes_only_prompts_that_both_have() {
    let ours: Groups<f64> = [(prompt(1), 4.0), (prompt(2), 5.0), (prompt(3), 100.0)].into_iter().collect();
    let theirs: Groups<f64> = [(prompt(1), 3.0), (prompt(2), 3.0), (prompt(4), -100.0)].into_iter().collect();
    let change = Bootstrap::default().difference(&ours, &theirs, &mean_of).unwrap();
    assert_eq!((change.value, change.n, change.prompts), (1.5, 2, 2));
}

#[test]
fn a_statistic_that_is_often_undefined_has_no_interval() {
    // Only one prompt in five has what is asked for, so a third of the draws have nothing.
    let groups: Groups<f64> = (0..5).map(|number| (prompt(number), number as f64)).collect();
    let only_four = |drawn: &[&[f64]]| drawn.iter().any(|values| values.contains(&4.0)).then_some(1.0);
    let figure = Bootstrap::default().figure(&groups, &only_four).unwrap();
    assert_eq!((figure.value, figure.interval), (1.0, None));
}
