//! Against evalica's `newman`, and what can be worked out by hand. `fixtures/make.py` makes the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use metareward_api::{Battle, Ranker, RankingProblem, Rating, Remark};
use metareward_plugin::FromOptions;
use ranker_newman::{Chances, Newman, NewmanOptions, chances};

fn rate(problem: &RankingProblem, regularization: f64, tie_rate: Option<f64>) -> Rating {
    let ranker = Newman::from_options(NewmanOptions { regularization, tie_rate }).unwrap();
    ranker.rate(std::slice::from_ref(problem)).unwrap().remove(0)
}

fn battle(left: u32, right: u32, left_wins: f64, right_wins: f64, ties: f64) -> Battle {
    Battle { left, right, left_wins, right_wins, ties }
}

/// Battles of a fixture, one record per line.
fn fixture(folder: &Path, name: &str) -> RankingProblem {
    let csv = fs::read_to_string(folder.join(format!("{name}-battles.csv"))).unwrap();
    let read = |line: &str| {
        let row: Vec<&str> = line.split(',').collect();
        let [left, right] = [0, 1].map(|side| row[side].parse().unwrap());
        let weight: f64 = row[3].parse().unwrap();
        let of = |winner| if row[2] == winner { weight } else { 0.0 };
        battle(left, right, of("left"), of("right"), of("tie"))
    };
    let battles: Vec<Battle> = csv.lines().skip(1).map(read).collect();
    let players = battles.iter().map(|battle| battle.left.max(battle.right) + 1).max().unwrap();
    RankingProblem { players, battles }
}

/// The scores of one algorithm, by player.
fn scores(folder: &Path, name: &str, algorithm: &str) -> Vec<f64> {
    let csv = fs::read_to_string(folder.join(format!("{name}-scores.csv"))).unwrap();
    let row = |line: &str| {
        line.strip_prefix(&format!("{algorithm},")).map(|row| row.split_once(',').unwrap().1.parse().unwrap())
    };
    csv.lines().filter_map(row).collect()
}

/// The gradient of the likelihood by every θ, and by μ.
fn gradient(problem: &RankingProblem, theta: &[f64], mu: f64) -> (Vec<f64>, f64) {
    let (mut by_theta, mut by_mu) = (vec![0.0; theta.len()], 0.0);
    for Battle { left, right, left_wins, right_wins, ties } in problem.battles.iter().copied() {
        let Chances { win, tie, loss } = chances(theta[left as usize] - theta[right as usize], mu);
        let all = left_wins + right_wins + ties;
        // Seen less expected, of the left player's points (half a point a tie) and of ties.
        let pull = left_wins - all * win + 0.5 * (ties - all * tie);
        by_theta[left as usize] += pull;
        by_theta[right as usize] += right_wins - all * loss + 0.5 * (ties - all * tie);
        by_mu += ties - all * tie;
    }
    (by_theta, by_mu)
}

#[test]
fn agrees_with_evalica_and_has_no_gradient() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["small", "ragged", "heavy"] {
        let problem = fixture(&folder, name);
        let scores_of = |algorithm| scores(&folder, name, algorithm);
        let rating = rate(&problem, 0.0, None);
        assert!(rating.converged && rating.remarks.is_empty(), "{name}: {rating:?}");
        let logs: Vec<f64> = scores_of("newman").into_iter().map(f64::ln).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        assert_eq!(logs.len(), rating.ratings.len());
        for (player, (found, log)) in rating.ratings.iter().zip(&logs).enumerate() {
            assert!((found - (log - mean)).abs() < 1e-9, "{name}, {player}: {found} against {}", log - mean);
        }
        let mu = (2.0 * scores_of("newman_v")[0]).ln();
        let weight: f64 = problem.battles.iter().map(|b| b.left_wins + b.right_wins + b.ties).sum();
        let (by_theta, by_mu) = gradient(&problem, &rating.ratings, mu);
        assert!(by_theta.iter().all(|entry| entry.abs() < 1e-9 * weight), "{name}: {by_theta:?}");
        assert!(by_mu.abs() < 1e-9 * weight, "{name}: {by_mu}");
        // Half wins are another model.
        let half_wins = scores_of("bradley_terry");
        assert!(rating.ratings.iter().zip(&half_wins).any(|(rating, score)| (rating - score.ln()).abs() > 1e-3));
        // With ν given, the same ratings.
        let given = rate(&problem, 0.0, Some(mu.exp() / 2.0));
        for (one, other) in rating.ratings.iter().zip(&given.ratings) {
            assert!((one - other).abs() < 1e-9, "{name}: {one} against {other}");
        }
    }
}

#[test]
fn agrees_with_the_golden_files_as_far_as_they_converged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    if !folder.is_dir() {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    }
    for name in ["simple", "food"] {
        let golden = fs::read_to_string(folder.join(format!("{name}-golden.csv"))).unwrap();
        let mut golden: Vec<(&str, f64)> = golden
            .lines()
            .filter_map(|line| line.strip_prefix("newman,")?.split_once(','))
            .map(|(player, score)| (player, score.trim().parse::<f64>().unwrap().ln()))
            .collect();
        golden.sort_by(|a, b| a.0.cmp(b.0));
        let mean = golden.iter().map(|(_, log)| log).sum::<f64>() / golden.len() as f64;
        let index = |player: &str| golden.iter().position(|(name, _)| *name == player).unwrap() as u32;
        let csv = fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap();
        let read = |line: &str| {
            let row: Vec<&str> = line.trim().split(',').collect();
            let of = |winner| if row[2] == winner { 1.0 } else { 0.0 };
            battle(index(row[0]), index(row[1]), of("left"), of("right"), of("tie"))
        };
        let battles = csv.lines().skip(1).map(read).collect();
        let rating = rate(&RankingProblem { players: golden.len() as u32, battles }, 0.0, None);
        for ((player, log), found) in golden.iter().zip(&rating.ratings) {
            // They were made with a tolerance of 1e-6 per step, which leaves errors up to 1e-4.
            assert!((found - (log - mean)).abs() < 1e-4, "{name}, {player}: {found} against {}", log - mean);
        }
    }
}

#[test]
fn two_players_have_the_odds_of_their_wins_whatever_the_ties() {
    let problem = RankingProblem { players: 2, battles: vec![battle(1, 0, 8.0, 2.0, 5.0)] };
    let rating = rate(&problem, 0.0, None);
    assert!((rating.ratings[1] - 2f64.ln()).abs() < 1e-12 && (rating.ratings[0] + 2f64.ln()).abs() < 1e-12);
}

#[test]
fn without_ties_it_is_bradley_terry() {
    let problem =
        RankingProblem { players: 3, battles: vec![battle(0, 1, 3.0, 1.0, 0.0), battle(1, 2, 2.0, 1.0, 0.0)] };
    let rating = rate(&problem, 0.0, None);
    assert!((rating.ratings[0] - rating.ratings[1] - 3f64.ln()).abs() < 1e-12, "{rating:?}");
    assert!((rating.ratings[1] - rating.ratings[2] - 2f64.ln()).abs() < 1e-12, "{rating:?}");
}

#[test]
fn degenerate_battles_have_finite_ratings_and_are_named() {
    // Only ties; nothing; one win and one tie, where strength and ν run away together; a ladder with ties.
    let ties = RankingProblem { players: 3, battles: vec![battle(0, 1, 0.0, 0.0, 7.0)] };
    assert_eq!(rate(&ties, 0.0, None).ratings, [0.0; 3]);
    assert_eq!(rate(&ties, 0.0, None).remarks, [Remark::Disconnected(2)]);
    assert_eq!(rate(&RankingProblem { players: 2, battles: vec![] }, 0.0, None).remarks, [Remark::NoBattles]);
    let runaway = RankingProblem { players: 2, battles: vec![battle(0, 1, 1.0, 0.0, 1.0)] };
    let ladder = RankingProblem {
        players: 4,
        battles: vec![battle(0, 1, 1.0, 0.0, 1.0), battle(1, 2, 5.0, 0.0, 1.0), battle(2, 3, 1.0, 0.0, 0.0)],
    };
    for (problem, tie_rate) in [(&runaway, None), (&runaway, Some(0.5)), (&ladder, None), (&ladder, Some(0.5))] {
        let rating = rate(problem, 0.0, tie_rate);
        assert!(rating.converged, "{rating:?}");
        assert!(rating.ratings.windows(2).all(|two| two[0] > two[1] && two[0].abs() < 1e3), "{rating:?}");
    }
    // One win, one tie and ν given: finite without a penalty, where 1/2 + p_tie/2 … of the points are seen as expected.
    let rating = rate(&runaway, 0.0, Some(0.5));
    let (by_theta, _) = gradient(&runaway, &rating.ratings, 0.0);
    assert!(by_theta[0].abs() < 1e-12, "{rating:?}");
}

#[test]
fn many_players_are_fitted_too() {
    // Conjugate gradients instead of a factorisation.
    let meet = |left: u32| {
        [1u32, 2, 7].map(|apart| {
            let right = (left + apart) % 500;
            battle(left, right, f64::from(left * apart % 3), f64::from(left % 2 + 1), f64::from((left + apart) % 4))
        })
    };
    let problem = RankingProblem { players: 500, battles: (0..500).flat_map(meet).collect() };
    for regularization in [0.0, 0.01] {
        let rating = rate(&problem, regularization, Some(0.75));
        assert!(rating.converged, "{} steps", rating.steps);
        let (by_theta, _) = gradient(&problem, &rating.ratings, 1.5f64.ln());
        for (entry, theta) in by_theta.iter().zip(&rating.ratings) {
            assert!((entry - regularization * theta).abs() < 1e-9, "{regularization}: {entry}");
        }
        let estimated = rate(&problem, regularization, None);
        assert!(estimated.converged, "{} steps", estimated.steps);
        // ν by halving, then the gradient at it.
        let (mut low, mut high) = (-20.0, 20.0);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if gradient(&problem, &estimated.ratings, middle).1 > 0.0 { low = middle } else { high = middle }
        }
        let (by_theta, _) = gradient(&problem, &estimated.ratings, low);
        for (entry, theta) in by_theta.iter().zip(&estimated.ratings) {
            assert!((entry - regularization * theta).abs() < 1e-8, "{regularization}: {entry}");
        }
    }
}

#[test]
fn one_more_win_may_cost_a_lead_while_the_tie_rate_is_estimated() {
    // 0 tied with 1 and 2 ten times each, and 1 beat 2 five times: so many ties between such unequal players make ν large,
    // and with a large ν ten ties hold no one together. A win of 0 over 1 makes ν smaller and the ties say more.
    let mut battles = vec![battle(0, 1, 0.0, 0.0, 10.0), battle(0, 2, 0.0, 0.0, 10.0), battle(1, 2, 5.0, 0.0, 0.0)];
    let before = RankingProblem { players: 3, battles: battles.clone() };
    battles.push(battle(0, 1, 1.0, 0.0, 0.0));
    let after = RankingProblem { players: 3, battles };
    let lead = |problem: &RankingProblem, tie_rate| {
        let rating = rate(problem, 0.01, tie_rate);
        assert!(rating.converged, "{rating:?}");
        rating.ratings[0] - rating.ratings[2]
    };
    assert!(lead(&after, None) < lead(&before, None) - 5.0);
    for tie_rate in [0.1, 1.0, 100.0] {
        assert!(lead(&after, Some(tie_rate)) > lead(&before, Some(tie_rate)));
    }
}
