//! Against the golden files of evalica, and what can be worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path};

use metareward_api::{Battle, Ranker, RankingProblem, Rating, Remark};
use metareward_plugin::FromOptions;
use ranker_elo_online::{EloOnline, EloOnlineOptions};

fn rate(problem: &RankingProblem, options: EloOnlineOptions) -> Rating {
    EloOnline::from_options(options).unwrap().rate(std::slice::from_ref(problem)).unwrap().remove(0)
}

/// Players and their battles from a CSV of `left,right,winner`.
fn comparisons(csv: &str) -> (Vec<String>, RankingProblem) {
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.trim().split(',').collect()).collect();
    let mut players: Vec<String> = rows.iter().flat_map(|row| [row[0].to_owned(), row[1].to_owned()]).collect();
    players.sort();
    players.dedup();
    let battle = |row: Vec<&str>| {
        let [left, right] = [0, 1].map(|side| players.binary_search(&row[side].to_owned()).unwrap() as u32);
        let weight = |winner| if row[2] == winner { 1.0 } else { 0.0 };
        Battle { left, right, left_wins: weight("left"), right_wins: weight("right"), ties: weight("tie") }
    };
    let battles = rows.into_iter().map(battle).collect();
    let problem = RankingProblem { players: players.len() as u32, battles };
    (players, problem)
}

#[test]
fn agrees_with_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    if !folder.is_dir() {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    }
    for name in ["simple", "food"] {
        let (players, problem) = comparisons(&fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap());
        let golden = fs::read_to_string(folder.join(format!("{name}-golden.csv"))).unwrap();
        let golden: BTreeMap<&str, f64> = golden
            .lines()
            .filter_map(|line| line.strip_prefix("elo,")?.split_once(','))
            .map(|(player, score)| (player, score.trim().parse().unwrap()))
            .collect();
        assert_eq!(golden.len(), players.len(), "{name}");
        let rating = rate(&problem, EloOnlineOptions::default());
        for (player, found) in players.iter().zip(&rating.ratings) {
            let expected = golden[player.as_str()];
            assert!((found - expected).abs() < 1e-9, "{name}, {player}: {found} against {expected}");
        }
    }
}

#[test]
fn the_order_matters() {
    let win = |left, right| Battle { left, right, left_wins: 1.0, ..Battle::default() };
    let forwards = RankingProblem { players: 3, battles: vec![win(0, 1), win(1, 2), win(2, 0)] };
    let backwards = RankingProblem { players: 3, battles: forwards.battles.iter().rev().copied().collect() };
    let [forwards, backwards] = [forwards, backwards].map(|problem| rate(&problem, EloOnlineOptions::default()));
    assert!((forwards.ratings[0] - backwards.ratings[0]).abs() > 1e-3, "{forwards:?}, {backwards:?}");
}

#[test]
fn a_battle_of_weight_w_moves_w_times_as_far() {
    let weighed = |weight| Battle { left: 0, right: 1, left_wins: weight, ..Battle::default() };
    let options = EloOnlineOptions { k: 32.0, initial: 1500.0, ..EloOnlineOptions::default() };
    let after = |weight| rate(&RankingProblem { players: 2, battles: vec![weighed(weight)] }, options.clone());
    // Between equals the expectation is a half.
    assert_eq!(after(1.0).ratings, [1516.0, 1484.0]);
    assert_eq!(after(0.25).ratings, [1504.0, 1496.0]);
    assert_eq!(after(0.0).remarks, [Remark::NoBattles]);
    // 400 points are odds of ten to one: the favourite gains 32 / 11.
    let heavy = RankingProblem { players: 2, battles: vec![weighed(12.5), weighed(1.0)] };
    let rating = rate(&heavy, options.clone());
    assert!((rating.ratings[0] - (1700.0 + 32.0 / 11.0)).abs() < 1e-9, "{rating:?}");
    assert_eq!(rating.remarks, [Remark::Undefeated(vec![0]), Remark::Winless(vec![1])]);
}
