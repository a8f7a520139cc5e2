//! N judgments of every distinct response (paper section 2, step 2).

use std::collections::BTreeMap;

use metareward_api::{Judgment, Part, Position, Prompt, PromptId, Response, RubricItem, Scale};
use serde_json::{Value, json};

use super::{
    Context, Drawer, Work,
    draws::{Asked, AskedDraw, answers, kept},
    upstream,
};
use crate::{
    RunError,
    events::StageWatch,
    seeds::Purpose,
    statistics::{JudgmentStatistics, Statistics},
    store::{Place, Stage, StageRecord},
};

/// Stage `judgments`.
pub(crate) struct Judge<'a> {
    pub place: Place,
    pub drawer: Drawer,
    pub prompts: &'a StageRecord,
    pub responses: &'a StageRecord,
    pub n: u32,
    /// Judges the responses to the first so many prompts of the stage alone.
    pub limit: Option<u32>,
    pub shard_size: usize,
    pub statistics: JudgmentStatistics,
}

/// One conversation with the judge.
struct Question<'r> {
    prompt: &'r Prompt,
    /// The response judged.
    response: &'r Response,
    /// Where the rubric compares: the response beside it, and where the one judged is shown.
    beside: Option<(&'r Response, Position)>,
}

impl Question<'_> {
    fn item(&self) -> RubricItem<'_> {
        let prompt = &self.prompt.text;
        let judged = &self.response.text;
        match self.beside {
            None => RubricItem { prompt, response: judged, opponent: None },
            Some((other, Position::First)) => RubricItem { prompt, response: judged, opponent: Some(&other.text) },
            Some((other, Position::Second)) => RubricItem { prompt, response: &other.text, opponent: Some(judged) },
        }
    }

    /// The score of the response judged, from that of the answer shown first.
    fn score(&self, read: f64, scale: Scale) -> f64 {
        match self.beside {
            Some((_, Position::Second)) => (scale.min + scale.max - read).clamp(scale.min, scale.max),
            _ => read,
        }
    }

    fn name(&self) -> String {
        let (prompt, response) = (&self.prompt.id, self.response.draw);
        match self.beside {
            None => format!("prompt {prompt}, response {response}"),
            Some((other, _)) => format!("prompt {prompt}, response {response} beside {}", other.draw),
        }
    }
}

/// Which opponent a turn brings, of so many, and where the response judged is shown: opponents in turn, places in turn
/// too, so that two rounds bring every opponent once in each place.
fn meeting(turn: usize, opponents: usize) -> (usize, Position) {
    let (round, opponent) = (turn / opponents.max(1), turn % opponents.max(1));
    (opponent, if (round + opponent).is_multiple_of(2) { Position::First } else { Position::Second })
}

impl Judge<'_> {
    /// The prompts of a shard whose responses are judged.
    fn prompts(&self, cx: &Context<'_>, shard: usize) -> Result<Vec<Prompt>, RunError> {
        let mut prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        if let Some(limit) = self.limit {
            prompts.truncate((limit as usize).saturating_sub(shard * self.shard_size));
        }
        Ok(prompts)
    }
}

/// What the judge is asked about each response, `n` times in all: draw `d` is the answer to question `d`, beginning again
/// where there are fewer questions than draws. Where the rubric compares, a response without another one has none.
fn questions<'r>(prompts: &'r [Prompt], responses: &'r [Response], n: u32, compares: bool) -> Vec<Vec<Question<'r>>> {
    let mut all = Vec::new();
    for prompt in prompts {
        let judged: Vec<&Response> = judged(responses, &prompt.id).collect();
        for (place, response) in judged.iter().copied().enumerate() {
            let question = |beside| Question { prompt, response, beside };
            if !compares {
                all.push(vec![question(None)]);
                continue;
            }
            let others: Vec<&Response> =
                judged.iter().cycle().skip(place + 1).take(judged.len() - 1).copied().collect();
            let turns = (2 * others.len()).min(n as usize);
            let met = (0..turns).filter_map(|turn| {
                let (opponent, shown) = meeting(turn, others.len());
                Some(question(Some((*others.get(opponent)?, shown))))
            });
            let met: Vec<Question<'r>> = met.collect();
            if !met.is_empty() {
                all.push(met);
            }
        }
    }
    all
}

/// The responses of a prompt that are judged: each distinct text once.
pub(crate) fn judged<'r>(responses: &'r [Response], prompt: &PromptId) -> impl Iterator<Item = &'r Response> {
    responses.iter().filter(move |response| response.prompt == *prompt && response.duplicate_of.is_none())
}

impl Work for Judge<'_> {
    type Record = Judgment;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Judgments
    }

    fn shards(&self) -> usize {
        match self.limit {
            Some(limit) => (limit as usize).div_ceil(self.shard_size).min(self.prompts.shards.len()),
            None => self.prompts.shards.len(),
        }
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        let rest =
            self.limit.map(|limit| (limit as usize).saturating_sub(shard * self.shard_size).min(self.shard_size));
        Ok(json!({
            "model": self.drawer.model.fingerprint,
            "seeds": [self.drawer.seeds.stage(self.drawer.iteration, Purpose::Judgment, &[])],
            "sampler": plugins.judge_sampler.identity(),
            "rubric": plugins.rubric.identity(),
            "n": self.n,
            "limit": rest,
            "prompts": upstream(self.prompts, shard)?,
            "responses": upstream(self.responses, shard)?,
        }))
    }

    fn compute(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        watch: &StageWatch<'_>,
    ) -> Result<Vec<Judgment>, RunError> {
        let prompts = self.prompts(cx, shard)?;
        let responses: Vec<Response> = cx.store.read(self.responses, shard)?;
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        let scale = plugins.rubric.ask(|rubric| rubric.scale(), |_| String::new())?;
        let questions = questions(&prompts, &responses, self.n, plugins.compares);
        let flat: Vec<&Question<'_>> = questions.iter().flatten().collect();
        let items: Vec<RubricItem<'_>> = flat.iter().map(|question| question.item()).collect();
        let mut conversations = plugins
            .rubric
            .ask_each(
                items.len(),
                |rubric, range| rubric.render(items.get(range).unwrap_or_default()),
                |item| flat.get(item).map_or_else(String::new, |question| question.name()),
            )?
            .into_iter();
        let name = |of: &[Question<'_>]| {
            of.first().map_or_else(String::new, |question| {
                format!("prompt {}, response {}", question.prompt.id, question.response.draw)
            })
        };
        let draws = |of: &[Question<'_>]| -> Vec<AskedDraw> {
            let Some(Question { prompt, response, .. }) = of.first() else { return Vec::new() };
            let seed = |draw| {
                let indices = [response.draw, draw];
                self.drawer.seeds.prompt(self.drawer.iteration, Purpose::Judgment, &prompt.id, &indices)
            };
            let draw = |draw: u32| AskedDraw { conversation: draw as usize % of.len(), seed: seed(draw) };
            (0..self.n).map(draw).collect()
        };
        let asked: Vec<Asked> = questions
            .iter()
            .map(|of| Asked {
                id: name(of),
                conversations: conversations.by_ref().take(of.len()).collect(),
                draws: draws(of),
            })
            .collect();
        let answers = answers(cx, &self.drawer, Part::Judge, shard, &asked, watch)?;
        let texts: Vec<&str> = answers.iter().flatten().map(|answer| answer.text.as_str()).collect();
        let n = self.n.max(1) as usize;
        let parsed = plugins.rubric.ask_each(
            texts.len(),
            |rubric, range| rubric.parse(texts.get(range).unwrap_or_default()),
            |item| {
                let response = questions.get(item / n).map_or_else(String::new, |of| name(of));
                format!("{response}, judgment {}", item % n)
            },
        );
        let mut parsed = kept(cx, (&self.place, self.stage(), shard), &answers, parsed)?.into_iter();
        let mut judgments = Vec::new();
        for (of, texts) in questions.iter().zip(answers) {
            for (((draw, question), answer), parsed) in (0..).zip(of.iter().cycle()).zip(texts).zip(&mut parsed) {
                judgments.push(Judgment {
                    prompt: question.prompt.id.clone(),
                    response: question.response.draw,
                    draw,
                    opponent: question.beside.map(|(other, _)| other.draw),
                    shown: question.beside.map(|(_, shown)| shown),
                    model: self.drawer.model.fingerprint.to_string(),
                    text: answer.text,
                    tokens: answer.tokens,
                    finish: answer.finish,
                    score: parsed.as_ref().ok().map(|read| question.score(*read, scale)),
                    unreadable: parsed.err(),
                });
            }
        }
        Ok(judgments)
    }

    fn count(&mut self, cx: &Context<'_>, shard: usize, judgments: &[Judgment]) -> Result<(), RunError> {
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        let scale = plugins.rubric.ask(|rubric| rubric.scale(), |_| String::new())?;
        if plugins.compares {
            let responses: Vec<Response> = cx.store.read(self.responses, shard)?;
            let alone = |prompt: &Prompt| judged(&responses, &prompt.id).count() == 1;
            self.statistics.without_opponent += self.prompts(cx, shard)?.iter().filter(|p| alone(p)).count() as u64;
        }
        let statistics = &mut self.statistics;
        let mut means: BTreeMap<&PromptId, Vec<f64>> = BTreeMap::new();
        for (prompt, _, scores) in by_response(judgments) {
            if scores.is_empty() {
                statistics.unscored_responses += 1;
            } else {
                means.entry(prompt).or_default().push(scores.iter().sum::<f64>() / scores.len() as f64);
            }
        }
        for judgment in judgments {
            statistics.judgments += 1;
            statistics.tokens.add(f64::from(judgment.tokens));
            *statistics.finish.entry(judgment.finish).or_default() += 1;
            if let Some(reason) = judgment.unreadable {
                *statistics.unreadable.entry(reason).or_default() += 1;
            }
            if let Some(score) = judgment.score {
                statistics.add_score(score, scale.max);
            }
        }
        for means in means.values().filter(|means| means.len() > 1) {
            statistics.tied_prompts.add(means.windows(2).all(|pair| pair.first() == pair.last()));
        }
        Ok(())
    }

    fn statistics(&mut self) -> Statistics {
        self.statistics.finish();
        Statistics::Judgments(std::mem::take(&mut self.statistics))
    }
}

/// Readable scores of each response, in the order of the records. Sorted, so that a mean or a variance does not
/// depend on the order in which judgments were drawn.
pub(crate) fn by_response(judgments: &[Judgment]) -> Vec<(&PromptId, u32, Vec<f64>)> {
    let mut groups: Vec<(&PromptId, u32, Vec<f64>)> = Vec::new();
    for judgment in judgments {
        let fits = groups
            .last()
            .is_some_and(|(prompt, response, _)| **prompt == judgment.prompt && *response == judgment.response);
        if !fits {
            groups.push((&judgment.prompt, judgment.response, Vec::new()));
        }
        if let (Some(score), Some((_, _, scores))) = (judgment.score, groups.last_mut()) {
            scores.push(score);
        }
    }
    for (_, _, scores) in &mut groups {
        scores.sort_by(f64::total_cmp);
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_rounds_bring_every_opponent_once_in_each_place(opponents in 1usize..12) {
            let met: BTreeSet<(usize, Position)> = (0..2 * opponents).map(|turn| meeting(turn, opponents)).collect();
            prop_assert_eq!(met.len(), 2 * opponents);
            prop_assert!(met.iter().all(|(opponent, _)| *opponent < opponents));
        }

        #[test]
        fn every_round_brings_every_opponent_and_places_stay_even(opponents in 1usize..12, turns in 1usize..60) {
            let met: Vec<(usize, Position)> = (0..turns).map(|turn| meeting(turn, opponents)).collect();
            for round in met.chunks(opponents) {
                let opponents: BTreeSet<usize> = round.iter().map(|(opponent, _)| *opponent).collect();
                prop_assert_eq!(opponents.len(), round.len());
            }
            let firsts = met.iter().filter(|(_, shown)| *shown == Position::First).count();
            // An odd round leaves one over, and the next one takes it back.
            prop_assert!((turns as i64 - 2 * firsts as i64).abs() <= 1, "{} of {}", firsts, turns);
        }
    }
}
