//! Against the golden files of evalica, and what can be worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use metareward_api::{Battle, Ranker, RankingProblem, Rating, Remark};
use metareward_laws::{Golden, golden};
use metareward_plugin::FromOptions;
use ranker_win_rate::{Over, WinRate, WinRateOptions};

fn rate(problem: &RankingProblem, over: Over) -> Rating {
    let ranker = WinRate::from_options(WinRateOptions { over }).unwrap();
    ranker.rate(std::slice::from_ref(problem)).unwrap().remove(0)
}

#[test]
fn agrees_with_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    let Some(files) = golden(&folder, "average_win_rate").unwrap() else {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    };
    for Golden { name, players, problem, ratings } in files {
        let rating = rate(&problem, Over::Opponents);
        for ((player, found), expected) in players.iter().zip(&rating.ratings).zip(ratings) {
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}

#[test]
fn opponents_weigh_the_same_and_battles_do_not() {
    let battles = vec![
        Battle { left: 0, right: 1, left_wins: 9.0, ..Battle::default() },
        Battle { left: 2, right: 0, left_wins: 0.5, ties: 0.5, ..Battle::default() },
    ];
    let problem = RankingProblem { players: 4, battles };
    let opponents = rate(&problem, Over::Opponents);
    assert_eq!(opponents.ratings, [0.625, 0.0, 0.75, 0.5]);
    let battles = rate(&problem, Over::Battles);
    assert_eq!(battles.ratings, [0.925, 0.0, 0.75, 0.5]);
    for rating in [opponents, battles] {
        assert_eq!(rating.remarks, [Remark::Winless(vec![1]), Remark::Disconnected(2)]);
    }
    assert_eq!(rate(&RankingProblem { players: 2, battles: vec![] }, Over::Battles).remarks, [Remark::NoBattles]);
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
        let row = |line: &str| Some(line.strip_prefix("average_win_rate,")?.split_once(',')?.1.parse().unwrap());
        let scores: Vec<f64> = csv.lines().filter_map(row).collect();
        let problem = RankingProblem { players: scores.len() as u32, battles };
        for (player, (found, expected)) in rate(&problem, Over::Opponents).ratings.iter().zip(&scores).enumerate() {
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}
