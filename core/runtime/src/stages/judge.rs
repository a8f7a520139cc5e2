//! N judgments of every distinct response (paper section 2, step 2).

use std::collections::BTreeMap;

use metareward_api::{Judgment, Prompt, PromptId, Response, RubricItem};
use serde_json::{Value, json};

use super::{
    Context, Drawer, Work,
    draws::{Asked, answers},
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
        let judged: Vec<(&Prompt, &Response)> = prompts
            .iter()
            .flat_map(|prompt| judged(&responses, &prompt.id).map(move |response| (prompt, response)))
            .collect();
        let name = |index: usize| {
            judged.get(index).map_or_else(String::new, |(prompt, response)| {
                format!("prompt {}, response {}", prompt.id, response.draw)
            })
        };
        let items: Vec<RubricItem<'_>> = judged
            .iter()
            .map(|(prompt, response)| RubricItem { prompt: &prompt.text, response: &response.text })
            .collect();
        let conversations = plugins.rubric.ask(|rubric| rubric.render(&items), name)?;
        let seed = |prompt: &Prompt, response: &Response, draw| {
            let indices = [response.draw, draw];
            self.drawer.seeds.prompt(self.drawer.iteration, Purpose::Judgment, &prompt.id, &indices)
        };
        let asked = judged
            .iter()
            .zip(conversations)
            .enumerate()
            .map(|(index, ((prompt, response), messages))| Asked {
                id: name(index),
                messages,
                seeds: (0..self.n).map(|draw| seed(prompt, response, draw)).collect(),
            })
            .collect();
        let answers = answers(cx, &self.drawer, &plugins.judge_sampler, asked, watch)?;
        let texts: Vec<&str> = answers.iter().flatten().map(|answer| answer.text.as_str()).collect();
        let n = self.n.max(1) as usize;
        let mut parsed = plugins
            .rubric
            .ask(|rubric| rubric.parse(&texts), |item| format!("{}, judgment {}", name(item / n), item % n))?
            .into_iter();
        let mut judgments = Vec::new();
        for ((prompt, response), answers) in judged.iter().zip(&answers) {
            for ((draw, answer), parsed) in (0..).zip(answers).zip(&mut parsed) {
                judgments.push(Judgment {
                    prompt: prompt.id.clone(),
                    response: response.draw,
                    draw,
                    model: self.drawer.model.fingerprint.to_string(),
                    text: answer.text.clone(),
                    tokens: answer.tokens,
                    finish: answer.finish,
                    score: parsed.as_ref().ok().copied(),
                    unreadable: parsed.err(),
                });
            }
        }
        Ok(judgments)
    }

    fn count(&mut self, cx: &Context<'_>, _: usize, judgments: &[Judgment]) -> Result<(), RunError> {
        let rubric = &cx.plugins.at(self.drawer.iteration)?.rubric;
        let scale = rubric.ask(|rubric| rubric.scale(), |_| String::new())?;
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
