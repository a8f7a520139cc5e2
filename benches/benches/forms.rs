//! What a call costs in each form of a plugin: built in, component, dynamic library, paired in one run.
//!
//! `cargo bench --bench forms` builds the rankers in both other forms, asks all three in turn, and prints medians with the
//! spread between the quartiles. The first call of a component, its compilation and its loading from the cache are
//! measured once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use metareward_api::{Battle, Ranker, RankingProblem};
use metareward_builtin::registry;
use metareward_host::{Registry, Settings, Source, hash_file};
use metareward_tests::{forms, root};
use serde_json::Value;

/// A congruential generator: battles that look like battles, the same every time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end)) as u32
    }
}

/// The judgments of one response: every two meet in both orders, wins weighted by position, a few ties.
fn eleven(draws: &mut Draws) -> RankingProblem {
    let mut battles = Vec::new();
    for left in 0..11 {
        for right in left + 1..11 {
            let mut battle = Battle { left, right, ..Battle::default() };
            for weight in [0.41, 0.59] {
                match draws.below(10 + right - left) {
                    0 => battle.ties += 0.5,
                    drawn if drawn < 6 => battle.right_wins += weight,
                    _ => battle.left_wins += weight,
                }
            }
            battles.push(battle);
        }
    }
    RankingProblem { players: 11, battles }
}

/// So many single battles between 26 players.
fn tournament(count: u32, draws: &mut Draws) -> RankingProblem {
    let mut battles = Vec::new();
    for _ in 0..count {
        let left = draws.below(26);
        let right = (left + 1 + draws.below(25)) % 26;
        let won = draws.below(52) > 26 + left - right.min(left);
        let wins = |won| if won { 1.0 } else { 0.0 };
        battles.push(Battle { left, right, left_wins: wins(won), right_wins: wins(!won), ties: 0.0 });
    }
    RankingProblem { players: 26, battles }
}

fn pinned(file: &Path) -> Source {
    Source { plugin: file.to_string_lossy().into_owned(), sha256: Some(hash_file(file).unwrap()) }
}

/// Median and quartiles.
fn quartiles(times: &mut [Duration]) -> [f64; 3] {
    times.sort();
    [1, 2, 3].map(|quarter| times[(times.len() - 1) * quarter / 4].as_secs_f64())
}

fn micros(seconds: f64) -> String {
    let micros = seconds * 1e6;
    if micros < 10.0 { format!("{micros:.2} µs") } else { format!("{micros:.0} µs") }
}

/// Asks all forms in turn, so that what else the machine does meets them alike; per round each form is asked often
/// enough for a millisecond.
fn compare(what: &str, per: usize, rankers: &[(&str, Box<dyn Ranker>)], problems: &[RankingProblem]) {
    let once = |ranker: &dyn Ranker| black_box(ranker.rate(black_box(problems)).unwrap());
    let repeats: Vec<usize> = rankers
        .iter()
        .map(|(_, ranker)| {
            once(&**ranker);
            let start = Instant::now();
            once(&**ranker);
            (1e-3 / start.elapsed().as_secs_f64().max(1e-9)).ceil() as usize
        })
        .collect();
    let mut times = vec![Vec::new(); rankers.len()];
    for _ in 0..41 {
        for (place, (_, ranker)) in rankers.iter().enumerate() {
            let start = Instant::now();
            for _ in 0..repeats[place] {
                once(&**ranker);
            }
            times[place].push(start.elapsed() / u32::try_from(repeats[place]).unwrap());
        }
    }
    let mut line = format!("| {what} ");
    let mut first = None;
    for times in &mut times {
        let [low, median, high] = quartiles(times).map(|seconds| seconds / per as f64);
        let ratio = median / *first.get_or_insert(median);
        line += &format!("| {} ({} to {}), {ratio:.2}× ", micros(median), micros(low), micros(high));
    }
    println!("{line}|");
}

fn rankers(plugins: &Registry, name: &str) -> Vec<(&'static str, Box<dyn Ranker>)> {
    let files = forms::by_package()[format!("ranker-{name}").as_str()];
    let make = |source: &Source| plugins.ranker(source, &Value::Null).unwrap();
    vec![
        ("built in", make(&Source::named(name))),
        ("component", make(&pinned(&files.component))),
        ("library", make(&pinned(&files.library))),
    ]
}

fn main() {
    let settings = |cache| Settings { cache, threads: 1, ..Settings::default() };
    let cache = root().join("target/forms/bench-cache");
    let _ = std::fs::remove_dir_all(&cache);
    let elo = &forms::by_package()["ranker-elo"].component;
    for what in ["compiled", "from the cache"] {
        let plugins = registry(settings(Some(cache.clone()))).unwrap();
        let start = Instant::now();
        let ranker = plugins.ranker(&pinned(elo), &Value::Null).unwrap();
        let loaded = start.elapsed();
        let start = Instant::now();
        black_box(ranker.rate(&[]).unwrap());
        println!("elo as a component, {what}: ready in {loaded:.1?}, first call {:.1?}", start.elapsed());
    }
    println!("component of {} KiB\n", std::fs::metadata(elo).unwrap().len() / 1024);

    let plugins = registry(settings(Some(cache.clone()))).unwrap();
    let draws = &mut Draws(7);
    println!("median (quartiles), ratio to built in; one thread");
    println!("| | built in | component | library |\n|---|---|---|---|");
    for name in ["win-rate", "elo"] {
        let rankers = rankers(&plugins, name);
        for count in [10, 1_000, 100_000] {
            let problem = [tournament(count, draws)];
            compare(&format!("{name}: one call of {count} battles"), 1, &rankers, &problem);
        }
    }
    let problems: Vec<RankingProblem> = (0..5_000).map(|_| eleven(draws)).collect();
    for name in ["elo", "bradley-terry", "newman", "win-rate", "copeland", "elo-online"] {
        let what = format!("{name}: per problem of 11 players, 5,000 in a call");
        compare(&what, problems.len(), &rankers(&plugins, name), &problems);
    }
    let all_cores = registry(Settings { cache: Some(cache), ..Settings::default() }).unwrap();
    let what = "elo: the same on all cores, as a run asks";
    compare(what, problems.len(), &rankers(&all_cores, "elo"), &problems);
}
