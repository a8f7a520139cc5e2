//! Plain maximum likelihood against the golden files of evalica, and the cases in which there is none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use metareward_api::{Battle, Ranker, RankingProblem, Rating, Remark};
use metareward_laws::{Golden, golden};
use metareward_plugin::FromOptions;
use ranker_elo::{Elo, EloOptions, TieWorth};

fn rate(problem: &RankingProblem, regularization: f64, ties: TieWorth) -> Rating {
    let elo = Elo::from_options(EloOptions { regularization, ties, ..EloOptions::default() }).unwrap();
    elo.rate(std::slice::from_ref(problem)).unwrap().remove(0)
}

/// Players of that number, and (winner, loser, weight) each.
fn problem(players: u32, wins: &[(u32, u32, f64)]) -> RankingProblem {
    let battle = |(left, right, left_wins): &(u32, u32, f64)| Battle {
        left: *left,
        right: *right,
        left_wins: *left_wins,
        ..Battle::default()
    };
    RankingProblem { players, battles: wins.iter().map(battle).collect() }
}

#[test]
fn agrees_with_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    let Some(files) = golden(&folder, "bradley_terry").unwrap() else {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    };
    for Golden { name, players, problem, ratings } in files {
        let rating = rate(&problem, 0.0, TieWorth::Half);
        assert!(rating.converged && rating.remarks.is_empty(), "{name}: {rating:?}");
        // Newton's steps, not a crawl along the direction that the likelihood leaves open.
        assert!(rating.steps < 12, "{name}: {rating:?}");
        let strength = |rating: f64| ((rating - 1000.0) * std::f64::consts::LN_10 / 400.0).exp();
        let total: f64 = rating.ratings.iter().copied().map(strength).sum();
        for ((player, rating), expected) in players.iter().zip(&rating.ratings).zip(ratings) {
            let found = strength(*rating) / total;
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}

#[test]
fn two_players_have_the_log_odds() {
    let rating = rate(&problem(2, &[(0, 1, 10.0), (1, 0, 1.0)]), 0.0, TieWorth::Ignored);
    // Odds of ten to one are 400 points.
    assert!((rating.ratings[0] - 1200.0).abs() < 1e-9 && (rating.ratings[1] - 800.0).abs() < 1e-9, "{rating:?}");
}

#[test]
fn a_tie_is_nothing_or_half_a_win() {
    let mut tied = problem(2, &[(0, 1, 3.0)]);
    tied.battles.push(Battle { left: 1, right: 0, ties: 2.0, ..Battle::default() });
    let none = problem(2, &[(0, 1, 3.0)]);
    assert_eq!(rate(&tied, 0.01, TieWorth::Ignored), rate(&none, 0.01, TieWorth::Half));
    let halves = problem(2, &[(0, 1, 4.0), (1, 0, 1.0)]);
    assert_eq!(rate(&tied, 0.01, TieWorth::Half).ratings, rate(&halves, 0.01, TieWorth::Ignored).ratings);
    // Only ties: nothing happened, or everyone is equal.
    let only =
        RankingProblem { players: 2, battles: vec![Battle { left: 0, right: 1, ties: 1.0, ..Battle::default() }] };
    assert_eq!(rate(&only, 0.0, TieWorth::Ignored).remarks, [Remark::NoBattles]);
    assert_eq!(rate(&only, 0.0, TieWorth::Half).remarks, []);
    assert_eq!(rate(&only, 0.0, TieWorth::Half).ratings, [1000.0, 1000.0]);
}

#[test]
fn degenerate_battles_have_finite_ratings_and_are_named() {
    let battles = [(0, 1, 3.0), (0, 2, 2.0), (1, 2, 1.0)];
    let rating = rate(&problem(5, &battles), 0.0, TieWorth::Ignored);
    assert!(rating.converged);
    assert_eq!(rating.remarks, [Remark::Undefeated(vec![0]), Remark::Winless(vec![2]), Remark::Disconnected(3),]);
    let [a, b, c, alone, also_alone] = rating.ratings[..] else { panic!("{rating:?}") };
    assert!(a > b && b > c && a < 4000.0 && c > -2000.0, "{rating:?}");
    assert_eq!((alone, also_alone), (1000.0, 1000.0));
    assert_eq!(rate(&problem(3, &[]), 0.0, TieWorth::Ignored).remarks, [Remark::NoBattles]);
    assert_eq!(rate(&problem(0, &[]), 0.01, TieWorth::Ignored).ratings, [0.0; 0]);
}

#[test]
fn a_hundred_to_one_upsets_converge() {
    // Far from the maximum Newton's full step would leave the range of numbers.
    let battles = [(0, 1, 1e12), (1, 0, 1e-6), (1, 2, 1e9), (2, 1, 1e-9), (2, 0, 1.0), (0, 2, 1.0)];
    for regularization in [0.0, 1e-3] {
        let rating = rate(&problem(3, &battles), regularization, TieWorth::Ignored);
        assert!(rating.converged && rating.ratings.iter().all(|rating| rating.is_finite()), "{rating:?}");
    }
}

#[test]
fn weights_at_the_ends_of_the_range_of_numbers_are_rated() {
    for weight in [1e-308, 1e-100, 1e-3, 1e20, 1e100] {
        let rating = rate(&problem(3, &[(0, 1, weight), (1, 2, weight)]), 0.01, TieWorth::Ignored);
        assert!(rating.converged, "{weight}: {rating:?}");
        // The first player's pull upwards is the penalty's downwards.
        let eps = (rating.ratings[0] - rating.ratings[1]) * std::f64::consts::LN_10 / 400.0;
        let (pull, penalty) = (weight / (1.0 + eps.exp()), 0.01 * eps);
        assert!(
            (pull - penalty).abs() <= 1e-9 * weight.min(1.0) + 1e-14,
            "{weight}: {pull} against {penalty}, {rating:?}"
        );
    }
}
