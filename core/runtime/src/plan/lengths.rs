//! How long prompts and answers are, and what conversations have in common.

use metareward_api::{Generator, Message, MetaJudgeItem, Prompt, RubricItem, Sampler, SamplerItem};
use serde::{Deserialize, Serialize};

use crate::{
    Loaded, RunError,
    plugins::{Bound, PluginSet, Plugins},
    stages::prompts::Pool,
};

/// Mean length of answers in tokens, as measured: in place of half of what a sampler allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerLengths {
    /// A response.
    pub response: Option<f64>,
    /// A judgment.
    pub judgment: Option<f64>,
    /// A verdict.
    pub verdict: Option<f64>,
}

/// Mean lengths, in tokens, of what the stages read and write.
pub(super) struct Lengths {
    /// A prompt as the model reads it.
    pub prompt: f64,
    /// What a judge reads but for the response.
    pub judge: Frame,
    /// What a meta-judge reads but for the response and the judgments.
    pub meta: Frame,
    pub response: f64,
    pub judgment: f64,
    pub verdict: f64,
    pub evaluated: f64,
    /// The longest answers that the samplers allow, in the same order.
    pub longest: [f64; 4],
}

/// A rendered template, by where in it the texts stand. Shares are of its length.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    /// Tokens without the texts.
    pub tokens: f64,
    /// Share that is the same for all prompts, from the beginning.
    pub common: f64,
    /// Share before each of the texts, in the order of the marks; 1 where a text was not found.
    pub before: Vec<f64>,
}

impl Frame {
    /// Tokens that go through the model when what conversations begin with in common is computed once: `texts` has, in the
    /// order of the marks, the length of each text and how many conversations there are that differ up to it and in it.
    /// `prompts` is the number of prompts. What is common to all prompts is computed once per shard, and not counted.
    pub fn computed(&self, prompts: f64, texts: &[(f64, f64)]) -> f64 {
        let mut order: Vec<(f64, f64, f64)> =
            self.before.iter().zip(texts).map(|(before, (length, count))| (*before, *length, *count)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut at, mut differ, mut computed) = (self.common.min(1.0), prompts, 0.0);
        for (before, length, count) in order {
            computed += differ * self.tokens * (before - at).max(0.0);
            at = at.max(before);
            differ = differ.max(count);
            computed += differ * length;
        }
        computed + differ * self.tokens * (1.0 - at)
    }
}

/// Characters that no template holds, in the place of texts.
const MARKS: [&str; 3] = ["\u{e000}", "\u{e001}", "\u{e002}"];

fn contents(messages: &[Message]) -> String {
    messages.iter().map(|message| message.content.as_str()).collect()
}

/// Share of the marked conversations' characters before each mark, and that they all begin with.
fn shares(marked: &[Vec<Message>], marks: &[&str]) -> (f64, Vec<f64>) {
    let texts: Vec<String> = marked.iter().map(|messages| contents(messages)).collect();
    let length =
        |text: &str| text.chars().filter(|letter| !MARKS.contains(&letter.to_string().as_str())).count() as f64;
    let mean = |shares: Vec<f64>| shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    let before = |mark: &&str| {
        let share = |text: &String| text.find(mark).map_or(1.0, |at| length(&text[..at]) / length(text).max(1.0));
        mean(texts.iter().map(share).collect())
    };
    let common = match texts.split_first() {
        Some((first, others)) if !others.is_empty() => {
            let alike = |other: &String| first.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
            let least = others.iter().map(alike).min().unwrap_or(0) as f64;
            least / mean(texts.iter().map(|text| length(text)).collect()).max(1.0)
        }
        // Of one prompt nothing is known to be common.
        _ => 0.0,
    };
    (common.min(1.0), marks.iter().map(before).collect())
}

/// Mean length in tokens of conversations.
type Measure<'a> = Box<dyn FnMut(&[Vec<Message>]) -> Result<f64, RunError> + 'a>;

pub(super) fn lengths(
    loaded: &Loaded,
    plugins: &Plugins,
    generator: Option<&mut dyn Generator>,
    answers: &AnswerLengths,
    assumptions: &mut Vec<String>,
) -> Result<Lengths, RunError> {
    let set = plugins.at(1)?;
    let prompts: Vec<Prompt> = match &plugins.task {
        Ok(task) => Pool::draw(&loaded.config, task)?.used(&loaded.config)?.into_iter().take(256).collect(),
        Err(error) => {
            assumptions.push(format!("a prompt has 400 characters, as the prompts are not at hand ({error})"));
            let id = |number: u32| metareward_api::PromptId(format!("assumed {number}"));
            let text = |word: &str| word.repeat(80);
            ["word ", "next "]
                .iter()
                .zip(0..)
                .map(|(word, number)| Prompt { id: id(number), text: text(word), system: None, category: None })
                .collect()
        }
    };
    let mut measure: Measure<'_> = match generator {
        Some(generator) => {
            assumptions
                .push("prompts and templates are counted in the model's own tokens, over up to 256 prompts".into());
            Box::new(move |conversations| {
                let counts = generator.count_tokens(conversations)?;
                Ok(counts.iter().map(|count| f64::from(*count)).sum::<f64>() / conversations.len().max(1) as f64)
            })
        }
        None => {
            assumptions.push("four characters make a token, as no tokenizer is loaded".into());
            Box::new(|conversations| {
                let characters: usize =
                    conversations.iter().flatten().map(|message| message.content.chars().count()).sum();
                Ok(characters as f64 / 4.0 / conversations.len().max(1) as f64)
            })
        }
    };
    let asked: Vec<Vec<Message>> = prompts.iter().map(Prompt::messages).collect();
    let mut frame = |plain: &[Vec<Message>], marked: &[Vec<Message>], marks: &[&str]| -> Result<Frame, RunError> {
        let (common, before) = shares(marked, marks);
        Ok(Frame { tokens: measure(plain)?, common, before })
    };
    let judge = frame(&judged(set, &prompts, "")?, &judged(set, &prompts, MARKS[0])?, &MARKS[..1])?;
    let meta = frame(&compared(set, &prompts, ["", "", ""])?, &compared(set, &prompts, MARKS)?, &MARKS)?;
    let longest = [
        longest(&set.actor_sampler)?,
        longest(&set.judge_sampler)?,
        longest(&set.meta_sampler)?,
        longest(&set.evaluation_sampler)?,
    ];
    let [response, judgment, verdict, evaluated] = longest;
    // What was measured of a model never exceeds what this experiment allows.
    let of = |measured: Option<f64>, longest: f64| measured.map_or(longest / 2.0, |measured| measured.min(longest));
    let lengths = Lengths {
        prompt: measure(&asked)?,
        judge,
        meta,
        response: of(answers.response, response),
        judgment: of(answers.judgment, judgment),
        verdict: of(answers.verdict, verdict),
        evaluated: of(answers.response, evaluated),
        longest,
    };
    let measured = answers.response.is_some() && answers.judgment.is_some();
    assumptions.push(format!(
        "answers are {}: {:.0} tokens a response, {:.0} a judgment, {:.0} a verdict",
        if measured { "as long as they were measured" } else { "half as long as they may be" },
        lengths.response,
        lengths.judgment,
        lengths.verdict
    ));
    Ok(lengths)
}

/// What the judge reads of each prompt with this response.
fn judged(set: &PluginSet, prompts: &[Prompt], response: &str) -> Result<Vec<Vec<Message>>, RunError> {
    let name = |item: usize| prompts.get(item).map_or_else(String::new, |prompt| format!("prompt {}", prompt.id));
    let opponent = set.compares.then_some("");
    let items: Vec<RubricItem<'_>> =
        prompts.iter().map(|prompt| RubricItem { prompt: &prompt.text, response, opponent }).collect();
    set.rubric.ask_each(items.len(), |rubric, range| rubric.render(items.get(range).unwrap_or_default()), name)
}

/// What the meta-judge reads of each prompt with this response and these judgments.
fn compared(
    set: &PluginSet,
    prompts: &[Prompt],
    [response, first, second]: [&str; 3],
) -> Result<Vec<Vec<Message>>, RunError> {
    let name = |item: usize| prompts.get(item).map_or_else(String::new, |prompt| format!("prompt {}", prompt.id));
    let criteria = set.rubric.ask(|rubric| rubric.criteria(), |_| String::new())?;
    let items: Vec<MetaJudgeItem<'_>> = prompts
        .iter()
        .map(|prompt| MetaJudgeItem { prompt: &prompt.text, response, criteria: &criteria, first, second })
        .collect();
    set.meta_judge.ask_each(items.len(), |meta, range| meta.render(items.get(range).unwrap_or_default()), name)
}

/// The longest answer that a sampler allows.
fn longest(sampler: &Bound<dyn Sampler>) -> Result<f64, RunError> {
    let item = SamplerItem { characters: 400, draws: 1 };
    let plans = sampler.ask(|sampler| sampler.plan(std::slice::from_ref(&item)), |_| "a sample".into())?;
    Ok(f64::from(plans.first().and_then(|plans| plans.first()).map_or(0, |plan| plan.sampling.max_tokens)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_conversations_share_is_counted_once() {
        // A rubric of 100 tokens, a question of 50 and an instruction of 50; the response stands between the last two.
        let judge = Frame { tokens: 200.0, common: 0.5, before: vec![0.75] };
        // 10 prompts, 70 responses of 30 tokens.
        assert_eq!(judge.computed(10.0, &[(30.0, 70.0)]), 10.0 * 50.0 + 70.0 * 30.0 + 70.0 * 50.0);
        // Two judgments behind the response: 11 first ones and 110 matches per prompt.
        let meta = Frame { tokens: 100.0, common: 0.5, before: vec![0.6, 0.7, 0.8] };
        let computed = meta.computed(1.0, &[(30.0, 1.0), (20.0, 11.0), (20.0, 110.0)]);
        let right = 10.0 + 30.0 + 10.0 + 11.0 * (20.0 + 10.0) + 110.0 * (20.0 + 20.0);
        assert!((computed - right).abs() < 1e-9, "{computed} for {right}");
    }

    proptest! {
        /// Nothing is computed more often than without sharing, and nothing less often than once.
        #[test]
        fn sharing_saves_and_does_not_leave_out(
            tokens in 1.0f64..500.0, common in 0.0f64..1.0, before in prop::collection::vec(0.0f64..=1.0, 3),
            lengths in prop::collection::vec(0.0f64..300.0, 3), players in 1.0f64..12.0, prompts in 1.0f64..100.0,
        ) {
            let frame = Frame { tokens, common, before };
            let counts = [prompts, prompts * players, prompts * players * players];
            let texts: Vec<(f64, f64)> = lengths.iter().copied().zip(counts).collect();
            let computed = frame.computed(prompts, &texts);
            let texts: f64 = lengths.iter().sum();
            // Sums of a dozen products: their rounding is far below a billionth of the whole.
            let slack = 1e-9 * counts[2] * (tokens + texts);
            prop_assert!(computed <= counts[2] * (tokens + texts) + slack);
            prop_assert!(computed >= prompts * (tokens * (1.0 - common) + texts) - slack);
        }
    }
}
