//! Runs one law and says how it went.

use std::{
    cell::Cell,
    fmt::{self, Debug},
};

use metareward_api::PluginError;
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use serde::Serialize;

/// How many cases to try, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Cases per law.
    pub cases: u32,
    /// The same seed gives the same cases.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { cases: 128, seed: 1 }
    }
}

/// Whether a law holds. As JSON: `{"result": "held"}`, or `result` and `detail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "detail", rename_all = "kebab-case")]
pub enum Finding {
    /// In all cases tried.
    Held,
    /// In one case it does not.
    Broken {
        /// What went wrong.
        reason: String,
        /// The smallest case found in which it does.
        counterexample: String,
    },
    /// The law could not be checked; the reason says what is missing.
    NotChecked(String),
}

/// One law and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LawOutcome {
    /// The law, as a sentence.
    pub law: &'static str,
    /// What was found.
    pub finding: Finding,
    /// The seed that repeats it.
    pub seed: u64,
}

impl LawOutcome {
    /// Whether the law is broken.
    pub fn is_broken(&self) -> bool {
        matches!(self.finding, Finding::Broken { .. })
    }

    pub(crate) fn not_checked(law: &'static str, plan: Plan, reason: &str) -> Self {
        Self { law, finding: Finding::NotChecked(reason.to_owned()), seed: plan.seed }
    }
}

impl fmt::Display for LawOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, finding, seed } = self;
        match finding {
            Finding::Held => write!(f, "held: {law}"),
            Finding::NotChecked(reason) => write!(f, "not checked: {law} ({reason})"),
            Finding::Broken { reason, counterexample } => {
                write!(f, "broken: {law}\n  {reason}\n  smallest case: {counterexample}\n  repeat with seed {seed}")
            }
        }
    }
}

/// For a plugin's own tests: an error with every broken law.
///
/// # Errors
/// When a law is broken, or when there are no outcomes at all.
pub fn all_held(outcomes: &[LawOutcome]) -> Result<(), String> {
    if outcomes.is_empty() {
        return Err("no law was checked".to_owned());
    }
    let broken: Vec<String> = outcomes.iter().filter(|outcome| outcome.is_broken()).map(ToString::to_string).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

/// How many smaller cases are tried once one has failed.
const SMALLER_CASES: u32 = 4096;

/// Tries `test` on values of `strategy` and shrinks the first that fails.
pub(crate) fn law<S: Strategy>(
    law: &'static str,
    plan: Plan,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), String>,
) -> LawOutcome {
    let mut seed = [0; 32];
    for chunk in seed.chunks_exact_mut(8) {
        chunk.copy_from_slice(&plan.seed.to_le_bytes());
    }
    // The limit on shrinking is kept here: proptest would tell of its own on standard error. To it the largest number
    // means a default of its own.
    let config =
        Config { cases: plan.cases, failure_persistence: None, max_shrink_iters: u32::MAX - 1, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let (failed, smaller) = (Cell::new(false), Cell::new(0));
    let outcome = runner.run(&strategy, |value| {
        if failed.get() {
            smaller.set(smaller.get() + 1);
        }
        if smaller.get() > SMALLER_CASES {
            return Ok(());
        }
        // Set first, so that a test that panics counts as one that fails.
        let before = failed.replace(true);
        let outcome = test(value).map_err(TestCaseError::fail);
        if outcome.is_ok() {
            failed.set(before);
        }
        outcome
    });
    let finding = match outcome {
        Ok(()) => Finding::Held,
        Err(TestError::Fail(reason, value)) => {
            Finding::Broken { reason: reason.message().to_owned(), counterexample: format!("{value:?}") }
        }
        Err(TestError::Abort(reason)) => Finding::NotChecked(reason.message().to_owned()),
    };
    LawOutcome { law, finding, seed: plan.seed }
}

/// A failing call, as the reason of a broken law.
pub(crate) fn failed(error: PluginError) -> String {
    format!("the plugin failed: {error}")
}

/// Breaks the law unless `holds`.
pub(crate) fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Breaks the law unless both are the same.
pub(crate) fn equal<T: PartialEq + Debug + ?Sized>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    ensure(found == expected, || format!("{what}: found {found:?}, expected {expected:?}"))
}

/// Breaks the law unless both texts are the same; says where they part, for they can be long.
pub(crate) fn same_text(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let common = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let start = common.saturating_sub(40);
    let part = |text: &str| text.chars().skip(start).take(120).collect::<String>();
    let from = if start == 0 { String::new() } else { format!(", from character {start}") };
    Err(format!("{what}{from}: found {}, expected {}", part(found), part(expected)))
}

/// Breaks the law unless both are the same up to `tolerance`, absolute or relative, whichever is wider.
pub(crate) fn near(what: &str, found: f64, expected: f64, tolerance: f64) -> Result<(), String> {
    let close = (found - expected).abs() <= tolerance * expected.abs().max(1.0);
    ensure(close, || format!("{what}: found {found}, expected {expected}"))
}

/// The only answer to the only item.
pub(crate) fn only<T>(answers: Result<Vec<T>, PluginError>) -> Result<T, String> {
    let mut answers = answers.map_err(failed)?;
    match (answers.pop(), answers.is_empty()) {
        (Some(answer), true) => Ok(answer),
        _ => Err("one item, but not one answer".to_owned()),
    }
}
