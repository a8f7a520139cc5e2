//! A right task and wrong ones.

use metareward_api::{
    Demonstration, JudgeExample, Kind, MetaExample, Plugin, PluginError, PluginInfo, Prompt, PromptId, Scale, Task,
};
use metareward_laws::{Finding, TaskPromises, check_task};

use crate::{PLAN, breaks};

/// What is wrong with [`Echo`].
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Repeats,
    Order,
    Empty,
    OffScale,
    NeverFull,
    LooksAround,
}

/// Asks to say a number again; the oracle gives 5 points or 0.
struct Echo(Fault);

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

    fn judge_examples(&self, _: u64, _: u32) -> Result<Vec<JudgeExample>, PluginError> {
        Ok(Vec::new())
    }

    fn meta_examples(&self, _: u64, _: u32) -> Result<Vec<MetaExample>, PluginError> {
        Ok(Vec::new())
    }

    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        let points = |(prompt, response): &(&Prompt, &str)| match (perfect(prompt).as_deref() == Ok(*response), self.0)
        {
            (false, Fault::OffScale) => -1.0,
            (false, Fault::LooksAround) => items.len() as f64,
            (false, _) => 0.0,
            (true, Fault::NeverFull) => 4.0,
            (true, _) => 5.0,
        };
        Ok(Some(items.iter().map(points).collect()))
    }
}

fn promises() -> TaskPromises<'static> {
    TaskPromises { scale: Scale { min: 0.0, max: 5.0 }, perfect: Some(&perfect) }
}

#[track_caller]
fn wrong(words: &str, fault: Fault) {
    breaks(words, || check_task(&Echo(fault), promises(), PLAN));
}

#[test]
fn the_right_one_breaks_nothing() {
    let outcomes = check_task(&Echo(Fault::None), promises(), PLAN);
    assert!(outcomes.iter().all(|outcome| outcome.finding == Finding::Held), "{outcomes:#?}");
}

#[test]
fn repeated_prompts() {
    wrong("prompts are distinct", Fault::Repeats);
}

#[test]
fn another_list_when_more_is_asked_for() {
    wrong("begins with the shorter one", Fault::Order);
}

#[test]
fn empty_answers_to_learn_from() {
    wrong("examples are filled", Fault::Empty);
}

#[test]
fn points_off_the_scale() {
    wrong("stays on the scale", Fault::OffScale);
}

#[test]
fn points_that_depend_on_the_batch() {
    wrong("the same item by item", Fault::LooksAround);
}

#[test]
fn no_full_points_for_a_perfect_answer() {
    wrong("full points", Fault::NeverFull);
}
