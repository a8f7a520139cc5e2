//! Measuring a model on held-out prompts: its responses with the oracle's points, and its judgments of one fixed set
//! of responses, the same for every model.

use metareward_api::{Prompt, PromptId, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Drawer, Work, judge::Judge, respond::Respond, upstream};
use crate::{
    RunError,
    events::StageWatch,
    seeds::Seeds,
    statistics::{JudgmentStatistics, PointStatistics, ResponseStatistics, Statistics},
    store::{Model, Place, Stage, StageRecord},
};

/// The oracle's points of an evaluated response. Measured only, never trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Points {
    /// The prompt.
    pub prompt: PromptId,
    /// The response, by its draw.
    pub response: u32,
    /// Points on the oracle's scale.
    pub points: f64,
}

/// What all models are measured on.
pub(crate) struct HeldOut {
    pub prompts: StageRecord,
    /// Responses of the first model evaluated, which every judge judges.
    pub base: Option<StageRecord>,
}

/// Measures one model. The first one measured makes the responses that all are asked to judge.
pub(crate) fn evaluate(cx: &mut Context<'_>, held_out: &mut HeldOut, model: &Model) -> Result<(), RunError> {
    let evaluation = cx.config().evaluation.clone();
    let place = Place::Evaluation(model.name.clone());
    // The same seeds for every model: differences are the models', not the draws'.
    let drawer = Drawer { model: model.clone(), served: None, iteration: 0, seeds: Seeds::new(evaluation.seed) };
    let responses = cx.stage(Respond {
        place: place.clone(),
        drawer: drawer.clone(),
        prompts: &held_out.prompts,
        k: evaluation.responses,
        statistics: ResponseStatistics::default(),
    })?;
    cx.stage(Score {
        place: place.clone(),
        prompts: &held_out.prompts,
        responses: &responses,
        statistics: PointStatistics::default(),
    })?;
    let base = held_out.base.get_or_insert(responses);
    if evaluation.judge_prompts > 0 {
        let shard_size = cx.config().prompts.shard_size as usize;
        cx.stage(Judge {
            place,
            drawer,
            prompts: &held_out.prompts,
            responses: base,
            n: evaluation.judgments,
            limit: Some(evaluation.judge_prompts),
            shard_size,
            statistics: JudgmentStatistics::default(),
        })?;
    }
    Ok(())
}

/// Stage `points`; no records where the task has no oracle.
struct Score<'a> {
    place: Place,
    prompts: &'a StageRecord,
    responses: &'a StageRecord,
    statistics: PointStatistics,
}

impl Work for Score<'_> {
    type Record = Points;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Points
    }

    fn shards(&self) -> usize {
        self.prompts.shards.len()
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        Ok(json!({
            "task": cx.task.identity(),
            "prompts": upstream(self.prompts, shard)?,
            "responses": upstream(self.responses, shard)?,
        }))
    }

    fn compute(&mut self, cx: &mut Context<'_>, shard: usize, _: &StageWatch<'_>) -> Result<Vec<Points>, RunError> {
        let prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        let responses: Vec<Response> = cx.store.read(self.responses, shard)?;
        let items: Vec<(&Prompt, &str)> = responses
            .iter()
            .filter_map(|response| {
                Some((prompts.iter().find(|prompt| prompt.id == response.prompt)?, response.text.as_str()))
            })
            .collect();
        let name = |index: usize| {
            responses.get(index).map_or_else(String::new, |r| format!("prompt {}, response {}", r.prompt, r.draw))
        };
        let points = cx.task.ask_each(
            items.len(),
            // No points at all where there is no oracle.
            |task, range| Ok(task.oracle(items.get(range).unwrap_or_default())?.unwrap_or_default()),
            name,
        )?;
        Ok(responses
            .iter()
            .zip(points)
            .map(|(response, points)| Points { prompt: response.prompt.clone(), response: response.draw, points })
            .collect())
    }

    fn count(&mut self, _: &Context<'_>, _: usize, points: &[Points]) -> Result<(), RunError> {
        points.iter().for_each(|points| self.statistics.points.add(points.points));
        Ok(())
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::Points(std::mem::take(&mut self.statistics))
    }
}
