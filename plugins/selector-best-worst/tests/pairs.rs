//! Pairs worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{Candidate, NoPair, Selector};
use metareward_plugin::{FromOptions, read_options};
use selector_best_worst::BestWorst;
use serde_json::{Value, json};

/// Chosen and rejected among candidates of (score, characters, tie break); tokens run against characters.
fn select(options: Value, group: &[(f64, u32, u64)]) -> Result<(u32, u32), NoPair> {
    let selector = BestWorst::from_options(read_options(&options).unwrap()).unwrap();
    let candidate = |(score, characters, tie_break): &(f64, u32, u64)| Candidate {
        score: *score,
        characters: *characters,
        tokens: 5000 - characters,
        tie_break: *tie_break,
    };
    let selections = selector.select(&[group.iter().map(candidate).collect()]).unwrap();
    selections.into_iter().next().unwrap().map(|selection| (selection.chosen, selection.rejected))
}

#[test]
fn highest_against_lowest_whatever_the_lengths() {
    let group = [(4.0, 1, 0), (5.0, 900, 1), (0.0, 1, 2), (1.0, 5000, 3)];
    assert_eq!(select(json!({}), &group), Ok((1, 2)));
    assert_eq!(select(json!({"unit": "tokens"}), &group), Ok((1, 2)));
}

#[test]
fn ties() {
    let equal = [(5.0, 30, 9), (5.0, 10, 8), (5.0, 10, 3), (1.0, 10, 2), (1.0, 40, 7), (1.0, 40, 5)];
    assert_eq!(select(json!({}), &equal), Ok((2, 5)));
    assert_eq!(select(json!({"unit": "tokens"}), &equal), Ok((0, 3)));
    assert_eq!(select(json!({"ties": "random"}), &equal), Ok((2, 3)));
    // Ratings that differ by rounding alone are equal.
    assert_eq!(select(json!({}), &[(1000.0 + 1e-10, 30, 5), (1000.0, 10, 1), (900.0, 10, 7)]), Ok((1, 2)));
}

#[test]
fn no_pair_and_why() {
    assert_eq!(select(json!({}), &[]), Err(NoPair::TooFewCandidates));
    assert_eq!(select(json!({}), &[(3.0, 1, 0)]), Err(NoPair::TooFewCandidates));
    assert_eq!(select(json!({}), &[(3.0, 1, 0), (3.0, 2, 1)]), Err(NoPair::EqualScores));
    assert_eq!(select(json!({"tolerance": 1}), &[(3.0, 1, 0), (4.0, 2, 1)]), Err(NoPair::EqualScores));
    // 3 counts as equal to both ends, and is the shortest and the longest of all.
    let near = [(4.0, 20, 0), (3.0, 10, 1), (2.5, 5, 2)];
    assert_eq!(select(json!({"tolerance": 1}), &near), Err(NoPair::SameCandidate));
    assert_eq!(select(json!({"tolerance": 0.5}), &near), Ok((0, 1)));
    assert!(read_options::<selector_best_worst::BestWorstOptions>(&json!({"tolerance": -1})).is_err());
}
