//! An honest task and wrong ones.

use std::sync::atomic::{AtomicU32, Ordering};

use meta_judge_pairwise::{Pairwise, PairwiseOptions};
use metareward_api::{
    Demonstration, JudgeExample, Kind, MetaExample, Plugin, PluginError, PluginInfo, Prompt, PromptId, Scale, Task,
};
use metareward_laws::{LawOutcome, check_task, check_task_readers, laws_of};
use metareward_plugin::FromOptions;
use rubric_additive::{Additive, AdditiveOptions};

use crate::{Case, PLAN, case, every_law_breaks, holds};

/// What is wrong with [`Echo`].
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoScale,
    CountsCalls,
    Mumbles,
    Repeats,
    Order,
    Empty,
    OffScale,
    NeverFull,
    LooksAround,
}

/// Asks to say a number again; the oracle gives 5 points or 0.
struct Echo(Fault, AtomicU32);

impl Echo {
    fn numbers(&self, seed: u64, n: u32) -> impl Iterator<Item = u64> {
        let repeats = self.0 == Fault::Repeats;
        let last = if self.0 == Fault::Order { u64::from(n) } else { 0 };
        (0..u64::from(n))
            .map(move |index| seed.wrapping_add(if repeats { index / 2 } else { index }).wrapping_add(last))
    }
}

fn prompt(number: u64) -> Prompt {
    Prompt { id: PromptId(format!("echo-{number}")), text: format!("say {number}"), system: None, category: None }
}

fn perfect(prompt: &Prompt) -> Result<String, String> {
    prompt.text.strip_prefix("say ").map(str::to_owned).ok_or("not one of ours".to_owned())
}

impl Plugin for Echo {
    fn info(&self) -> PluginInfo {
        PluginInfo { kind: Kind::Task, name: "echo".into(), version: "0.0.0".into(), summary: "says it again".into() }
    }
}

impl Task for Echo {
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError> {
        Ok(self.numbers(seed, n).map(prompt).collect())
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        let response = |number: u64| if self.0 == Fault::Empty { String::new() } else { number.to_string() };
        Ok(self
            .numbers(seed, n)
            .map(|number| Demonstration { prompt: prompt(number), response: response(number) })
            .collect())
    }

    fn judge_examples(&self, seed: u64, n: u32) -> Result<Vec<JudgeExample>, PluginError> {
        let judgment = if self.0 == Fault::Mumbles { "Good." } else { "It is right.\nScore: 5" };
        let example = |number| JudgeExample {
            prompt: prompt(number).text,
            response: number.to_string(),
            judgment: judgment.to_owned(),
        };
        Ok(self.numbers(seed, n).map(example).collect())
    }

    fn meta_examples(&self, seed: u64, n: u32) -> Result<Vec<MetaExample>, PluginError> {
        let verdict = if self.0 == Fault::Mumbles { "Hm." } else { "The first counts.\nWinner: A" };
        let example = |number| MetaExample {
            prompt: prompt(number).text,
            response: number.to_string(),
            first: "It is right.\nScore: 5".into(),
            second: "Who knows.\nScore: 2".into(),
            verdict: verdict.to_owned(),
        };
        Ok(self.numbers(seed, n).map(example).collect())
    }

    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        let calls = self.1.fetch_add(1, Ordering::Relaxed);
        let points = |(prompt, response): &(&Prompt, &str)| match (perfect(prompt).as_deref() == Ok(*response), self.0)
        {
            (false, Fault::OffScale) => -1.0,
            (false, Fault::LooksAround) => items.len() as f64,
            (false, Fault::CountsCalls) => f64::from(calls % 5),
            (false, _) => 0.0,
            (true, Fault::NeverFull) => 4.0,
            (true, _) => 5.0,
        };
        Ok(Some(items.iter().map(points).collect()))
    }

    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        Ok(Some(Scale { min: 0.0, max: if self.0 == Fault::NoScale { 0.0 } else { 5.0 } }))
    }

    fn perfect_answers(&self, prompts: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        prompts.iter().map(|prompt| perfect(prompt).map_err(PluginError::new)).collect::<Result<_, _>>().map(Some)
    }
}

fn check(fault: Fault) -> Vec<LawOutcome> {
    check_task(&Echo(fault, AtomicU32::new(0)), PLAN)
}

fn wrong(law: &'static str, wrong: &'static str, fault: Fault) -> Case<'static> {
    case(law, wrong, move || check(fault))
}

#[test]
fn every_law_of_tasks_breaks() {
    let cases = [
        wrong("the plugin says", "an oracle's scale without width", Fault::NoScale),
        wrong("prompts are distinct", "every prompt twice", Fault::Repeats),
        wrong("the same seed", "another list when more is asked for", Fault::Order),
        wrong("examples are filled", "empty answers to learn from", Fault::Empty),
        wrong("the oracle stays on the scale", "points below the scale", Fault::OffScale),
        wrong("the oracle says the same", "points that depend on the batch", Fault::LooksAround),
        wrong("a perfect answer", "four points of five", Fault::NeverFull),
        wrong("no call leaves a trace", "points that count calls", Fault::CountsCalls),
    ];
    every_law_breaks(laws_of(Kind::Task), &cases);
}

#[test]
fn every_law_of_a_tasks_readers_breaks() {
    let rubric = Additive::from_options(AdditiveOptions::default()).unwrap();
    let judge = Pairwise::from_options(PairwiseOptions::default()).unwrap();
    let check = |fault| check_task_readers(&Echo(fault, AtomicU32::new(0)), &rubric, &judge, PLAN);
    let names: Vec<&str> = check(Fault::None).iter().map(|outcome| outcome.law).collect();
    let cases = [
        case("judgments to learn from", "judgments without a score", || check(Fault::Mumbles)),
        case("verdicts to learn from", "verdicts without a winner", || check(Fault::Mumbles)),
    ];
    every_law_breaks(&names, &cases);
    holds(&check(Fault::None), &[]);
}

#[test]
fn honest_tasks_hold() {
    holds(&check(Fault::None), &[]);
}
