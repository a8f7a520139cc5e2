//! Pairs worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{Candidate, NoPair, Selector};
use metareward_plugin::{FromOptions, read_options};
use selector_length_control::LengthControl;
use serde_json::{Value, json};

/// Chosen and rejected among candidates of (score, characters, tie break); tokens run against characters.
fn select(options: Value, group: &[(f64, u32, u64)]) -> Result<(u32, u32), NoPair> {
    let selector = LengthControl::from_options(read_options(&options).unwrap()).unwrap();
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
fn shortest_of_the_best_and_longest_of_the_worst() {
    let group = [(5.0, 900, 0), (4.0, 500, 1), (3.4, 300, 2), (1.6, 1500, 3), (0.0, 200, 4)];
    assert_eq!(select(json!({}), &group), Ok((0, 4)));
    assert_eq!(select(json!({"rho": 0.2}), &group), Ok((1, 4)));
    // 3.4 and 1.6 lie exactly on the boundaries of rho 0.32; rounding must not push them out.
    assert_eq!(select(json!({"rho": 0.32}), &group), Ok((2, 3)));
    assert_eq!(select(json!({"rho": 0.32, "unit": "tokens"}), &group), Ok((0, 4)));
}

#[test]
fn boundaries_hold_for_every_rho_and_scale() {
    for (worst, best) in [(0.0, 5.0), (1.0, 4.75), (0.1, 0.3), (823.4, 1171.9)] {
        for percent in 1..=50 {
            let rho = f64::from(percent) / 100.0;
            let upper = (1.0 - rho) * best + rho * worst;
            let lower = (1.0 - rho) * worst + rho * best;
            let group = [(best, 20, 0), (upper, 10, 1), (worst, 10, 2), (lower, 20, 3)];
            if upper > lower + 1e-6 {
                assert_eq!(select(json!({ "rho": rho }), &group), Ok((1, 3)), "{worst} {best} {rho}");
            }
        }
    }
}

#[test]
fn ties_in_score_and_length() {
    let equal = [(5.0, 30, 9), (5.0, 10, 8), (5.0, 10, 3), (1.0, 10, 7), (1.0, 10, 2)];
    assert_eq!(select(json!({}), &equal), Ok((2, 4)));
    assert_eq!(select(json!({"ties": "first"}), &equal), Ok((1, 3)));
    assert_eq!(select(json!({"prefer": "random"}), &[(5.0, 30, 1), (5.0, 10, 8), (1.0, 10, 7)]), Ok((0, 2)));
    // Ratings that differ by rounding alone are one tier.
    assert_eq!(
        select(json!({"prefer": "random"}), &[(1000.0 + 1e-10, 30, 5), (1000.0, 10, 1), (900.0, 10, 7)]),
        Ok((1, 2))
    );
    let close = [(5.0, 10, 0), (4.5, 10, 1), (1.0, 40, 2), (0.5, 40, 3)];
    assert_eq!(select(json!({"rho": 0.2}), &close), Ok((0, 3)));
}

#[test]
fn no_pair_and_why() {
    assert_eq!(select(json!({}), &[]), Err(NoPair::TooFewCandidates));
    assert_eq!(select(json!({}), &[(3.0, 1, 0)]), Err(NoPair::TooFewCandidates));
    assert_eq!(select(json!({}), &[(3.0, 1, 0), (3.0, 2, 1)]), Err(NoPair::EqualScores));
    let long = [(5.0, 2501, 0), (1.0, 10, 1)];
    assert_eq!(select(json!({"max_chosen_length": 2500}), &long), Err(NoPair::ChosenTooLong));
    assert_eq!(select(json!({"max_chosen_length": 2501}), &long), Ok((0, 1)));
    // rho > 0.5: the tiers overlap.
    let middle = [(5.0, 30, 0), (2.5, 20, 1), (0.0, 10, 2)];
    assert_eq!(select(json!({"rho": 0.6}), &middle), Err(NoPair::SameCandidate));
    assert_eq!(select(json!({"rho": 1}), &[(5.0, 10, 0), (0.0, 10, 1)]), Ok((0, 1)));
    assert_eq!(
        select(json!({"rho": 1}), &middle),
        Err(NoPair::Other("chosen scores no higher than rejected".to_owned()))
    );
}
