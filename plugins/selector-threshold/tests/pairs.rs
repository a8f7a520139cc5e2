//! Pairs worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{Candidate, NoPair, Selector};
use metareward_plugin::{FromOptions, read_options};
use selector_threshold::Threshold;
use serde_json::{Value, json};

/// Chosen and rejected among candidates of (score, characters, tie break); tokens run against characters.
fn select(options: Value, group: &[(f64, u32, u64)]) -> Result<(u32, u32), NoPair> {
    let selector = Threshold::from_options(read_options(&options).unwrap()).unwrap();
    let candidate = |(score, characters, tie_break): &(f64, u32, u64)| Candidate {
        score: *score,
        characters: *characters,
        tokens: 5000 - characters,
        tie_break: *tie_break,
    };
    let selections = selector.select(&[group.iter().map(candidate).collect()]).unwrap();
    selections.into_iter().next().unwrap().map(|selection| (selection.chosen, selection.rejected))
}

fn other(reason: &str) -> Result<(u32, u32), NoPair> {
    Err(NoPair::Other(reason.to_owned()))
}

#[test]
fn thresholds_decide_who_fits_and_preference_who_is_taken() {
    let group = [(5.0, 900, 3), (4.0, 500, 2), (3.0, 100, 0), (2.0, 1500, 1), (1.0, 200, 4)];
    let both = |prefer: &str| select(json!({"chosen_min": 4, "rejected_max": 2, "prefer": prefer}), &group);
    assert_eq!(both("score"), Ok((0, 4)));
    assert_eq!(both("length"), Ok((1, 3)));
    assert_eq!(both("random"), Ok((1, 3)));
    assert_eq!(
        select(json!({"chosen_min": 4, "rejected_max": 2, "prefer": "length", "unit": "tokens"}), &group),
        Ok((0, 4))
    );
    assert_eq!(select(json!({}), &group), Ok((0, 4)));
    // On the threshold is above it, and rounding does not push a score below.
    assert_eq!(select(json!({"chosen_min": 0.3}), &[(0.1 + 0.2, 1, 0), (-2.0, 1, 1)]), Ok((0, 1)));
    assert_eq!(select(json!({"chosen_min": 0.30000000000000004}), &[(0.3, 1, 0), (-2.0, 1, 1)]), Ok((0, 1)));
}

#[test]
fn ties() {
    let equal = [(5.0, 30, 9), (5.0, 10, 8), (5.0, 10, 3), (1.0, 10, 2), (1.0, 40, 7), (1.0, 40, 5)];
    assert_eq!(select(json!({}), &equal), Ok((2, 5)));
    let long = [(4.0, 10, 1), (5.0, 10, 2), (1.0, 40, 3), (2.0, 40, 0)];
    assert_eq!(select(json!({"chosen_min": 4, "rejected_max": 2, "prefer": "length"}), &long), Ok((1, 2)));
}

#[test]
fn no_pair_and_why() {
    let group = [(3.0, 10, 0), (2.5, 30, 1), (1.0, 20, 2)];
    assert_eq!(select(json!({}), &group[..1]), Err(NoPair::TooFewCandidates));
    assert_eq!(select(json!({}), &[(3.0, 1, 0), (3.0, 2, 1)]), Err(NoPair::EqualScores));
    assert_eq!(select(json!({"chosen_min": 3.5}), &group), other("no score of at least 3.5"));
    assert_eq!(select(json!({"rejected_max": 0.5}), &group), other("no score of at most 0.5"));
    assert_eq!(select(json!({"min_gap": 2.5}), &group), other("scores less than 2.5 apart"));
    assert_eq!(select(json!({"min_gap": 2}), &group), Ok((0, 2)));
    // The shortest that fits is also the longest that fits.
    assert_eq!(
        select(json!({"chosen_min": 2.4, "prefer": "random", "min_gap": 0}), &[(3.0, 1, 0), (1.0, 1, 9)]),
        Err(NoPair::SameCandidate)
    );
    assert_eq!(
        select(json!({"prefer": "length", "min_gap": 0}), &[(1.0, 10, 0), (3.0, 30, 1)]),
        other("chosen scores no higher than rejected")
    );
}

#[test]
fn bad_options_are_named() {
    for (options, key) in [
        (json!({"chosen_min": 2, "rejected_max": 2}), "rejected_max"),
        (json!({"min_gap": -1}), "min_gap"),
        (json!({"tolerance": -1}), "tolerance"),
        (json!({"prefer": "best"}), "prefer"),
    ] {
        let error = read_options::<selector_threshold::ThresholdOptions>(&options).unwrap_err();
        assert_eq!(error.key.as_deref(), Some(key), "{error}");
    }
}
