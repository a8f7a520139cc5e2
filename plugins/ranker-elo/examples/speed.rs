//! Prints the time per problem for an iteration of the paper: 5,000 responses with 11 judgments each, every pair in
//! both orders, as 110 battles and as 55 in which both orders are one. Run with
//! `cargo run --release -p ranker-elo --example speed`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use metareward_api::{Battle, Ranker, RankingProblem};
use metareward_plugin::FromOptions;
use ranker_elo::{Elo, EloOptions};

fn main() {
    // A multiplicative congruential generator: battles that look like battles, the same every time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let separate: Vec<RankingProblem> = (0..5000)
        .map(|_| {
            let strength: Vec<f64> = (0..11).map(|_| 4.0 * random() - 2.0).collect();
            let mut battles = Vec::new();
            for left in 0..11u32 {
                for right in (0..11).filter(|right| *right != left) {
                    let chance = 1.0 / (1.0 + (strength[right as usize] - strength[left as usize]).exp());
                    let (left_wins, right_wins) = if random() < chance { (0.41, 0.0) } else { (0.0, 0.59) };
                    battles.push(Battle { left, right, left_wins, right_wins, ties: 0.0 });
                }
            }
            RankingProblem { players: 11, battles }
        })
        .collect();
    for (battles, problems) in [(110, separate.clone()), (55, separate.iter().map(merged).collect())] {
        for regularization in [0.01, 0.0] {
            let elo = Elo::from_options(EloOptions { regularization, ..EloOptions::default() }).unwrap();
            let best = (0..20)
                .map(|_| {
                    let start = Instant::now();
                    let ratings = elo.rate(&problems).unwrap();
                    assert!(ratings.iter().all(|rating| rating.converged));
                    start.elapsed()
                })
                .min()
                .unwrap();
            let steps: u32 = elo.rate(&problems).unwrap().iter().map(|rating| rating.steps).sum();
            println!(
                "{battles} battles, regularization {regularization}: {:.2} µs per problem, {:.1} steps",
                best.as_secs_f64() * 1e6 / problems.len() as f64,
                f64::from(steps) / problems.len() as f64
            );
        }
    }
}

/// Both orders of every pair as one battle.
fn merged(problem: &RankingProblem) -> RankingProblem {
    let mut battles: Vec<Battle> = Vec::new();
    for battle in &problem.battles {
        match battles.iter_mut().find(|other| (other.left, other.right) == (battle.right, battle.left)) {
            Some(other) => {
                other.left_wins += battle.right_wins;
                other.right_wins += battle.left_wins;
            }
            None => battles.push(*battle),
        }
    }
    RankingProblem { battles, ..*problem }
}
