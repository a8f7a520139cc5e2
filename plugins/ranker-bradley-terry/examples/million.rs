//! Times Bradley–Terry on one million battles in a file. Run by `benches/python/million-battles.sh`, against evalica.
//!
//! The file holds one battle after another, little-endian: u32 left, u32 right, u32 winner (0 a tie, 1 left, 2 right).
//! Prints the seconds of each run, of the rating alone: the battles are in memory as records before it.
//! With `--scores FILE` it also writes every player's strength, one a line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, hint::black_box, time::Instant};

use metareward_api::{Battle, Ranker, RankingProblem};
use metareward_plugin::FromOptions;
use ranker_bradley_terry::{BradleyTerryOptions, BradleyTerryRanker, Scale};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, runs, rest @ ..] = &arguments[..] else { panic!("usage: million FILE RUNS [--scores FILE]") };
    let bytes = fs::read(file).unwrap();
    let battles: Vec<Battle> = bytes
        .chunks_exact(12)
        .map(|row| {
            let [left, right, winner] = [0, 4, 8].map(|at| u32::from_le_bytes(row[at..at + 4].try_into().unwrap()));
            let of = |who| if winner == who { 1.0 } else { 0.0 };
            Battle { left, right, left_wins: of(1), right_wins: of(2), ties: of(0) }
        })
        .collect();
    let players = battles.iter().map(|battle| battle.left.max(battle.right) + 1).max().unwrap_or(0);
    let problems = [RankingProblem { players, battles }];
    let options = BradleyTerryOptions { regularization: 0.0, scale: Scale::Strength };
    let ranker = BradleyTerryRanker::from_options(options).unwrap();
    for _ in 0..runs.parse().unwrap() {
        let start = Instant::now();
        let ratings = black_box(ranker.rate(black_box(&problems)).unwrap());
        let seconds = start.elapsed().as_secs_f64();
        assert!(ratings[0].converged);
        println!("{seconds}");
    }
    if let [flag, file] = rest
        && flag == "--scores"
    {
        let ratings = ranker.rate(&problems).unwrap().remove(0).ratings;
        fs::write(file, ratings.iter().map(|rating| format!("{rating}\n")).collect::<String>()).unwrap();
    }
}
