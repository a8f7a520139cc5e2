//! Against the golden files of evalica, and what can be worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use metareward_api::{Battle, Ranker, RankingProblem, Rating, Remark};
use metareward_laws::{Golden, golden};
use metareward_plugin::FromOptions;
use ranker_bradley_terry::{BradleyTerryOptions, BradleyTerryRanker, Scale};

fn rate(problem: &RankingProblem, regularization: f64, scale: Scale) -> Rating {
    let ranker = BradleyTerryRanker::from_options(BradleyTerryOptions { regularization, scale }).unwrap();
    ranker.rate(std::slice::from_ref(problem)).unwrap().remove(0)
}

#[test]
fn agrees_with_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    let Some(files) = golden(&folder, "bradley_terry").unwrap() else {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    };
    for Golden { name, players, problem, ratings } in files {
        let rating = rate(&problem, 0.0, Scale::Strength);
        assert!(rating.converged && rating.remarks.is_empty(), "{name}: {rating:?}");
        let total: f64 = rating.ratings.iter().sum();
        for ((player, rating), expected) in players.iter().zip(&rating.ratings).zip(ratings) {
            let found = rating / total;
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}

#[test]
fn two_players_have_the_odds_of_their_wins() {
    let battle = Battle { left: 1, right: 0, left_wins: 7.0, right_wins: 1.0, ties: 2.0 };
    let problem = RankingProblem { players: 2, battles: vec![battle] };
    // 8 to 2.
    let rating = rate(&problem, 0.0, Scale::LogStrength);
    assert!((rating.ratings[1] - 2f64.ln()).abs() < 1e-12 && (rating.ratings[0] + 2f64.ln()).abs() < 1e-12);
    let rating = rate(&problem, 0.0, Scale::Strength);
    assert!((rating.ratings[1] - 2.0).abs() < 1e-12 && (rating.ratings[0] - 0.5).abs() < 1e-12);
}

#[test]
fn degenerate_battles_have_finite_ratings_and_are_named() {
    let win = |left, right| Battle { left, right, left_wins: 1.0, ..Battle::default() };
    let problem = RankingProblem { players: 4, battles: vec![win(0, 1), win(1, 2)] };
    for scale in [Scale::LogStrength, Scale::Strength] {
        let rating = rate(&problem, 0.0, scale);
        assert!(rating.converged, "{rating:?}");
        let remarks = [Remark::Undefeated(vec![0]), Remark::Winless(vec![2]), Remark::Disconnected(2)];
        assert_eq!(rating.remarks, remarks);
        let alone = if scale == Scale::Strength { 1.0 } else { 0.0 };
        assert_eq!(rating.ratings[3], alone);
        assert!(rating.ratings[0] > rating.ratings[1] && rating.ratings[1] > rating.ratings[2], "{rating:?}");
    }
}

#[test]
fn strengths_beyond_the_range_of_numbers_are_its_ends() {
    // Each beats the next a thousand times out of a thousand and one: the ends are e^1381 apart from the middle.
    let battle = |left: u32| Battle { left, right: left + 1, left_wins: 1000.0, right_wins: 1.0, ties: 0.0 };
    let problem = RankingProblem { players: 401, battles: (0..400).map(battle).collect() };
    let rating = rate(&problem, 0.0, Scale::Strength);
    assert!(rating.converged && rating.ratings.iter().all(|rating| rating.is_finite() && *rating > 0.0));
    let log = rate(&problem, 0.0, Scale::LogStrength);
    assert!((log.ratings[0] - 200.0 * 1000f64.ln()).abs() < 1e-6, "{}", log.ratings[0]);
}

#[test]
fn agrees_with_evalica_on_weighted_battles() {
    // Made by the script beside them.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ranker-newman/tests/fixtures");
    for name in ["small", "ragged", "heavy"] {
        let csv = fs::read_to_string(folder.join(format!("{name}-battles.csv"))).unwrap();
        let read = |line: &str| {
            let row: Vec<&str> = line.split(',').collect();
            let [left, right] = [0, 1].map(|side| row[side].parse().unwrap());
            let of = |winner| if row[2] == winner { row[3].parse().unwrap() } else { 0.0 };
            Battle { left, right, left_wins: of("left"), right_wins: of("right"), ties: of("tie") }
        };
        let battles: Vec<Battle> = csv.lines().skip(1).map(read).collect();
        let csv = fs::read_to_string(folder.join(format!("{name}-scores.csv"))).unwrap();
        let row = |line: &str| Some(line.strip_prefix("bradley_terry,")?.split_once(',')?.1.parse().unwrap());
        let scores: Vec<f64> = csv.lines().filter_map(row).collect();
        let problem = RankingProblem { players: scores.len() as u32, battles };
        for (player, (found, expected)) in rate(&problem, 0.0, Scale::Strength).ratings.iter().zip(&scores).enumerate()
        {
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}
