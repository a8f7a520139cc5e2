//! Each law can fail: for every law of every kind a plugin that breaks it, most of them the paper's default plugin with
//! one thing wrong. Run with `--nocapture`, the tests print every law with what broke it and the smallest counterexample.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod every_kind;
mod exact;
mod meta_judge;
mod optimizer;
mod options;
mod ranker;
mod rubric;
mod same;
mod sampler;
mod selector;
mod task;

use metareward_laws::{Finding, LawOutcome, Plan};

/// Enough to find every fault here.
pub const PLAN: Plan = Plan { cases: 256, seed: 7 };

/// A wrong plugin and the law that it must break.
pub struct Case<'a> {
    /// The law's sentence, or its beginning.
    law: &'static str,
    /// What is wrong with the plugin.
    wrong: &'static str,
    /// Checks a fresh one.
    check: Box<dyn Fn() -> Vec<LawOutcome> + 'a>,
}

pub fn case<'a>(law: &'static str, wrong: &'static str, check: impl Fn() -> Vec<LawOutcome> + 'a) -> Case<'a> {
    Case { law, wrong, check: Box::new(check) }
}

/// Checks that every one of `laws` is broken by a case, with a counterexample, and that the seed repeats it.
#[track_caller]
pub fn every_law_breaks(laws: &[&str], cases: &[Case<'_>]) {
    for law in laws {
        assert!(cases.iter().any(|case| law.starts_with(case.law)), "nothing breaks the law: {law}");
    }
    for Case { law, wrong, check } in cases {
        let outcomes = check();
        let outcome = outcomes.iter().find(|outcome| outcome.law.starts_with(law));
        let outcome = outcome.unwrap_or_else(|| panic!("no law says {law:?}"));
        let Finding::Broken { reason, counterexample } = &outcome.finding else {
            panic!("{wrong}: not broken: {outcomes:#?}")
        };
        assert!(!reason.is_empty() && !counterexample.is_empty(), "{outcome}");
        println!("{wrong}\n{outcome}\n");
        let again = check();
        let again = again.iter().find(|outcome| outcome.law.starts_with(law));
        assert_eq!(again, Some(outcome), "{wrong}: the seed does not repeat it");
    }
}

/// Checks that laws are held by an honest plugin, or about a promise that it does not make.
#[track_caller]
pub fn holds(outcomes: &[LawOutcome], not_checked: &[&str]) {
    for outcome in outcomes {
        let skipped = not_checked.iter().any(|law| outcome.law.starts_with(law));
        let expected = match &outcome.finding {
            Finding::NotChecked(_) => skipped,
            finding => *finding == Finding::Held && !skipped,
        };
        assert!(expected, "{outcome}");
    }
}
