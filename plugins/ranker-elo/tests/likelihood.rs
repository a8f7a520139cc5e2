//! Plain maximum likelihood against the golden files of evalica, and the cases in which there is none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path};

use metareward_api::{BattleMatrix, Ranker, Rating, Remark};
use metareward_plugin::FromOptions;
use ranker_elo::{Elo, EloOptions};

fn rate(battles: &BattleMatrix, regularization: f64) -> Rating {
    let elo = Elo::from_options(EloOptions { regularization, ..EloOptions::default() }).unwrap();
    elo.rate(std::slice::from_ref(battles)).unwrap().remove(0)
}

/// Players and their battles from a CSV of `left,right,winner`; a tie is half a win each way.
fn comparisons(csv: &str) -> (Vec<String>, BattleMatrix) {
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.trim().split(',').collect()).collect();
    let mut players: Vec<String> = rows.iter().flat_map(|row| [row[0].to_owned(), row[1].to_owned()]).collect();
    players.sort();
    players.dedup();
    let mut battles = BattleMatrix::new(players.len());
    for row in rows {
        let [left, right] = [0, 1].map(|side| players.binary_search(&row[side].to_owned()).unwrap());
        match row[2] {
            "left" => battles.add(left, right, 1.0),
            "right" => battles.add(right, left, 1.0),
            "tie" => {
                battles.add(left, right, 0.5);
                battles.add(right, left, 0.5);
            }
            other => panic!("winner {other}"),
        }
    }
    (players, battles)
}

#[test]
fn agrees_with_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    if !folder.is_dir() {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    }
    for name in ["simple", "food"] {
        let (players, battles) = comparisons(&fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap());
        let golden = fs::read_to_string(folder.join(format!("{name}-golden.csv"))).unwrap();
        let golden: BTreeMap<&str, f64> = golden
            .lines()
            .filter_map(|line| line.strip_prefix("bradley_terry,")?.split_once(','))
            .map(|(player, score)| (player, score.trim().parse().unwrap()))
            .collect();
        assert_eq!(golden.len(), players.len(), "{name}");
        let rating = rate(&battles, 0.0);
        assert!(rating.converged && rating.remarks.is_empty(), "{name}: {rating:?}");
        // Newton's steps, not a crawl along the direction that the likelihood leaves open.
        assert!(rating.steps < 12, "{name}: {rating:?}");
        let strength = |rating: f64| ((rating - 1000.0) * std::f64::consts::LN_10 / 400.0).exp();
        let total: f64 = rating.ratings.iter().copied().map(strength).sum();
        for (player, rating) in players.iter().zip(&rating.ratings) {
            let (found, expected) = (strength(*rating) / total, golden[player.as_str()]);
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}

#[test]
fn two_players_have_the_log_odds() {
    let mut battles = BattleMatrix::new(2);
    battles.add(0, 1, 10.0);
    battles.add(1, 0, 1.0);
    let rating = rate(&battles, 0.0);
    // Odds of ten to one are 400 points.
    assert!((rating.ratings[0] - 1200.0).abs() < 1e-9 && (rating.ratings[1] - 800.0).abs() < 1e-9, "{rating:?}");
}

#[test]
fn degenerate_battles_have_finite_ratings_and_are_named() {
    let mut battles = BattleMatrix::new(5);
    battles.add(0, 1, 3.0);
    battles.add(0, 2, 2.0);
    battles.add(1, 2, 1.0);
    let rating = rate(&battles, 0.0);
    assert!(rating.converged);
    assert_eq!(rating.remarks, [Remark::Undefeated(vec![0]), Remark::Winless(vec![2]), Remark::Disconnected(3),]);
    let [a, b, c, alone, also_alone] = rating.ratings[..] else { panic!("{rating:?}") };
    assert!(a > b && b > c && a < 4000.0 && c > -2000.0, "{rating:?}");
    assert_eq!((alone, also_alone), (1000.0, 1000.0));
    assert_eq!(rate(&BattleMatrix::new(3), 0.0).remarks, [Remark::NoBattles]);
    assert_eq!(rate(&BattleMatrix::new(0), 0.01).ratings, [0.0; 0]);
}

#[test]
fn a_hundred_to_one_upsets_converge() {
    // Far from the maximum Newton's full step would leave the range of numbers.
    let mut battles = BattleMatrix::new(3);
    for (winner, loser, weight) in [(0, 1, 1e12), (1, 0, 1e-6), (1, 2, 1e9), (2, 1, 1e-9), (2, 0, 1.0), (0, 2, 1.0)] {
        battles.add(winner, loser, weight);
    }
    for regularization in [0.0, 1e-3] {
        let rating = rate(&battles, regularization);
        assert!(rating.converged && rating.ratings.iter().all(|rating| rating.is_finite()), "{rating:?}");
    }
}
