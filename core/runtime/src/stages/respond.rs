//! K responses per prompt (paper section 2, step 1).

use std::collections::BTreeMap;

use metareward_api::{Part, Prompt, Response};
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
    statistics::{ResponseStatistics, Statistics},
    store::{Place, Stage, StageRecord},
};

/// Stage `responses`.
pub(crate) struct Respond<'a> {
    pub place: Place,
    pub drawer: Drawer,
    pub prompts: &'a StageRecord,
    pub k: u32,
    pub statistics: ResponseStatistics,
}

impl Respond<'_> {
    fn part(&self) -> Part {
        match self.place {
            Place::Iteration(_) => Part::Actor,
            Place::Sft | Place::Evaluation(_) => Part::Evaluation,
        }
    }
}

impl Work for Respond<'_> {
    type Record = Response;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Responses
    }

    fn shards(&self) -> usize {
        self.prompts.shards.len()
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        Ok(json!({
            "model": self.drawer.model.fingerprint,
            "seeds": [self.drawer.seeds.stage(self.drawer.iteration, Purpose::Response, &[])],
            "sampler": cx.plugins.at(self.drawer.iteration)?.sampler(self.part()).identity(),
            "k": self.k,
            "prompts": upstream(self.prompts, shard)?,
        }))
    }

    fn compute(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        watch: &StageWatch<'_>,
    ) -> Result<Vec<Response>, RunError> {
        let prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        let seed = |prompt: &Prompt, draw| {
            self.drawer.seeds.prompt(self.drawer.iteration, Purpose::Response, &prompt.id, &[draw])
        };
        let asked: Vec<Asked> = prompts
            .iter()
            .map(|prompt| {
                let seeds = (0..self.k).map(|draw| seed(prompt, draw));
                Asked::one(format!("prompt {}", prompt.id), prompt.messages(), seeds)
            })
            .collect();
        let answers = answers(cx, &self.drawer, self.part(), shard, &asked, watch)?;
        let mut responses = Vec::new();
        for (prompt, answers) in prompts.iter().zip(answers) {
            let mut seen: BTreeMap<String, u32> = BTreeMap::new();
            for (draw, answer) in (0..).zip(answers) {
                let duplicate_of = seen.get(&answer.text).copied();
                seen.entry(answer.text.clone()).or_insert(draw);
                responses.push(Response {
                    prompt: prompt.id.clone(),
                    draw,
                    model: self.drawer.model.fingerprint.to_string(),
                    text: answer.text,
                    tokens: answer.tokens,
                    finish: answer.finish,
                    duplicate_of,
                });
            }
        }
        Ok(responses)
    }

    fn count(&mut self, _: &Context<'_>, _: usize, responses: &[Response]) -> Result<(), RunError> {
        let statistics = &mut self.statistics;
        for response in responses {
            statistics.responses += 1;
            statistics.duplicates += u64::from(response.duplicate_of.is_some());
            *statistics.finish.entry(response.finish).or_default() += 1;
            statistics.characters.add(response.text.chars().count() as f64);
            statistics.tokens.add(f64::from(response.tokens));
        }
        Ok(())
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::Responses(std::mem::take(&mut self.statistics))
    }
}
