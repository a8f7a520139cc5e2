//! The plugins on an iteration of the paper's size: 5,000 prompts with 11 judgments and 7 responses each.

#![allow(clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use metareward_api::{Candidate, Match, PairLogProbs, PositionWins, RankingProblem, VerdictSet, Winner};
use metareward_builtin::registry;
use metareward_host::{Settings, Source};
use serde_json::Value;

const PROMPTS: usize = 5_000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn plugins(criterion: &mut Criterion) {
    let registry = registry(Settings::default()).expect("the built-in plugins have different names");
    let mut numbers = Numbers(7);
    let mut group = criterion.benchmark_group("5000 prompts");
    group.throughput(Throughput::Elements(PROMPTS as u64)).sample_size(10);

    // Verdicts of a meta-judge that sees quality through noise and leans to the first position.
    let meta_judge = registry.meta_judge(&Source::named("pairwise"), &Value::Null).expect("defaults are valid");
    let schedule = meta_judge.schedule(&[11]).expect("eleven judgments can meet").remove(0);
    let sets: Vec<VerdictSet> = (0..PROMPTS)
        .map(|_| {
            let quality: Vec<f64> = (0..11).map(|_| numbers.next()).collect();
            let verdict = |m: &Match, noise: f64| match quality[m.first as usize] - quality[m.second as usize] + noise {
                margin if margin > 0.0 => Winner::First,
                _ => Winner::Second,
            };
            let verdicts = schedule.iter().map(|m| (*m, verdict(m, numbers.next() - 0.4))).collect();
            VerdictSet { players: 11, verdicts }
        })
        .collect();
    let wins = vec![PositionWins { first: 300_000, second: 250_000 }; PROMPTS];
    group.bench_function("meta-judge pairwise: weigh 110 verdicts", |bencher| {
        bencher.iter(|| meta_judge.weigh(black_box(&sets), &wins));
    });
    let weighed = meta_judge.weigh(&sets, &wins).expect("verdicts name judgments that are there");
    let battles: Vec<_> =
        weighed.into_iter().map(|weighed| RankingProblem { players: 11, battles: weighed.battles }).collect();
    let ranker = registry.ranker(&Source::named("elo"), &Value::Null).expect("defaults are valid");
    group.bench_function("ranker elo: rate 11 judgments", |bencher| bencher.iter(|| ranker.rate(black_box(&battles))));

    let candidates: Vec<Vec<Candidate>> = (0..PROMPTS)
        .map(|_| {
            let candidate = |_| Candidate {
                score: (numbers.next() * 55.0).round() / 11.0,
                characters: (numbers.next() * 3000.0) as u32,
                tokens: 1,
                tie_break: numbers.next().to_bits(),
            };
            (0..7).map(candidate).collect()
        })
        .collect();
    let options = serde_json::json!({ "rho": 0.32 });
    let selector = registry.selector(&Source::named("length-control"), &options).expect("0.32 is a valid rho");
    group.bench_function("selector length-control: select from 7", |bencher| {
        bencher.iter(|| selector.select(black_box(&candidates)));
    });

    let pairs: Vec<PairLogProbs> = (0..PROMPTS)
        .map(|_| PairLogProbs {
            policy_chosen: -300.0 * numbers.next(),
            policy_rejected: -300.0 * numbers.next(),
            reference_chosen: -300.0 * numbers.next(),
            reference_rejected: -300.0 * numbers.next(),
            chosen_tokens: 200,
            rejected_tokens: 210,
            weight: 1.0,
        })
        .collect();
    let optimizer = registry.optimizer(&Source::named("dpo"), &Value::Null).expect("defaults are valid");
    group.bench_function("optimizer dpo: loss and gradient", |bencher| {
        bencher.iter(|| optimizer.loss(black_box(&pairs)));
    });
    group.finish();
}

criterion_group!(benches, plugins);
criterion_main!(benches);
