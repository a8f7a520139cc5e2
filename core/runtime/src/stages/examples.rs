//! SFT's examples: answers, judgments and verdicts to learn from, as conversations.

use metareward_api::{Example, MetaJudgeItem, RubricItem, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Work};
use crate::{
    RunError,
    events::StageWatch,
    plugins::{Bound, PluginSet},
    seeds::Purpose,
    store::{Place, Stage},
};

/// How many examples of each kind to draw, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExampleCounts {
    /// Answers to learn from.
    pub demonstrations: u32,
    /// Judgments to learn from.
    pub judge_examples: u32,
    /// Verdicts to learn from.
    pub meta_examples: u32,
}

/// Asks the task for examples and renders them with a rubric and a meta-judge: answers, then judgments, then verdicts.
pub(crate) fn draw(
    plugins: &PluginSet,
    task: &Bound<dyn Task>,
    counts: ExampleCounts,
    seed: u64,
) -> Result<Vec<Example>, RunError> {
    let named = |kind: &str| {
        let kind = kind.to_owned();
        move |item: usize| format!("{kind} {item}")
    };
    let example = |kind: &str, index: usize, messages, completion| Example {
        id: format!("{kind} {index}"),
        messages,
        completion,
    };
    let mut examples = Vec::new();
    let drawn = task.ask(|task| task.demonstrations(seed, counts.demonstrations), named("demonstration"))?;
    for (index, demonstration) in drawn.into_iter().enumerate() {
        let messages = demonstration.prompt.messages();
        examples.push(example("demonstration", index, messages, demonstration.response));
    }
    let drawn = task.ask(|task| task.judge_examples(seed, counts.judge_examples), named("judge example"))?;
    if plugins.compares && !drawn.is_empty() {
        let rubric = &plugins.rubric.record.info.name;
        let message = format!(
            "rubric `{rubric}` judges a response beside another one, and a judge example shows one response; draw none: \
             sft.judge_examples = 0"
        );
        return Err(RunError::Input { place: format!("task {}", task.record.info.name), message });
    }
    let items: Vec<RubricItem<'_>> = drawn
        .iter()
        .map(|example| RubricItem { prompt: &example.prompt, response: &example.response, opponent: None })
        .collect();
    let conversations = plugins.rubric.ask_each(
        items.len(),
        |rubric, range| rubric.render(items.get(range).unwrap_or_default()),
        named("judge example"),
    )?;
    for (index, (drawn, messages)) in drawn.iter().zip(conversations).enumerate() {
        examples.push(example("judge example", index, messages, drawn.judgment.clone()));
    }
    let drawn = task.ask(|task| task.meta_examples(seed, counts.meta_examples), named("meta-judge example"))?;
    let criteria = plugins.rubric.ask(|rubric| rubric.criteria(), |_| String::new())?;
    let items: Vec<MetaJudgeItem<'_>> = drawn
        .iter()
        .map(|example| MetaJudgeItem {
            prompt: &example.prompt,
            response: &example.response,
            criteria: &criteria,
            first: &example.first,
            second: &example.second,
        })
        .collect();
    let conversations = plugins.meta_judge.ask_each(
        items.len(),
        |meta, range| meta.render(items.get(range).unwrap_or_default()),
        named("meta-judge example"),
    )?;
    for (index, (drawn, messages)) in drawn.iter().zip(conversations).enumerate() {
        examples.push(example("meta-judge example", index, messages, drawn.verdict.clone()));
    }
    Ok(examples)
}

/// Stage `examples`.
pub(crate) struct Examples {
    place: Place,
    examples: Vec<Example>,
    shard_size: usize,
}

impl Examples {
    /// The examples that the config asks for, with the rubric and the meta-judge of the first iteration.
    pub fn draw(cx: &Context<'_>) -> Result<Self, RunError> {
        let config = cx.config();
        let counts = ExampleCounts {
            demonstrations: config.sft.demonstrations,
            judge_examples: config.sft.judge_examples,
            meta_examples: config.sft.meta_examples,
        };
        let seed = cx.seeds().stage(0, Purpose::Task, &[]);
        let examples = draw(cx.plugins.at(0)?, cx.task, counts, seed)?;
        if examples.is_empty() {
            let message =
                "the task has no demonstrations, judge examples or meta-judge examples to fine-tune on; give \
                           some, or set sft.enabled = false"
                    .to_owned();
            return Err(RunError::Input { place: format!("task {}", config.task.plugin), message });
        }
        Ok(Self { place: Place::Sft, examples, shard_size: 1024 })
    }

    fn shard(&self, shard: usize) -> &[Example] {
        self.examples.chunks(self.shard_size).nth(shard).unwrap_or_default()
    }
}

impl Work for Examples {
    type Record = Example;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Examples
    }

    fn shards(&self) -> usize {
        self.examples.len().div_ceil(self.shard_size)
    }

    fn key(&self, _: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        Ok(json!({ "examples": self.shard(shard) }))
    }

    fn compute(&mut self, _: &mut Context<'_>, shard: usize, _: &StageWatch<'_>) -> Result<Vec<Example>, RunError> {
        Ok(self.shard(shard).to_vec())
    }
}
