//! Each law can fail: for every law of every kind a plugin that breaks it, most of them the paper's default plugin
//! with one thing wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod meta_judge;
mod optimizer;
mod ranker;
mod rubric;
mod sampler;
mod selector;
mod task;

use metareward_laws::{Finding, LawOutcome, Plan};

/// Enough to find every fault here.
pub const PLAN: Plan = Plan { cases: 256, seed: 7 };

/// Checks that the law whose sentence holds `words` is broken, with a counterexample, and that the seed repeats it.
#[track_caller]
pub fn breaks(words: &str, check: impl Fn() -> Vec<LawOutcome>) {
    let outcomes = check();
    let hit: Vec<&LawOutcome> = outcomes.iter().filter(|outcome| outcome.law.contains(words)).collect();
    assert!(!hit.is_empty(), "no law says {words:?}");
    let broken = hit.iter().find(|outcome| outcome.is_broken());
    let Some(broken) = broken else { panic!("not broken: {words:?} in {outcomes:#?}") };
    let Finding::Broken { reason, counterexample } = &broken.finding else { unreachable!() };
    assert!(!reason.is_empty() && !counterexample.is_empty(), "{broken}");
    assert_eq!(check(), outcomes, "the seed does not repeat it");
}
