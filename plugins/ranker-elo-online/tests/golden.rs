//! Against the golden files of evalica, and what can be worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use metareward_api::{Battle, Ranker, RankingProblem, Rating, Remark};
use metareward_laws::{Golden, golden};
use metareward_plugin::FromOptions;
use ranker_elo_online::{EloOnline, EloOnlineOptions};

fn rate(problem: &RankingProblem, options: EloOnlineOptions) -> Rating {
    EloOnline::from_options(options).unwrap().rate(std::slice::from_ref(problem)).unwrap().remove(0)
}

#[test]
fn agrees_with_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ranking");
    let Some(files) = golden(&folder, "elo").unwrap() else {
        println!("skipped: the golden files are not there ({})", folder.display());
        return;
    };
    for Golden { name, players, problem, ratings } in files {
        let rating = rate(&problem, EloOnlineOptions::default());
        for ((player, found), expected) in players.iter().zip(&rating.ratings).zip(ratings) {
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
