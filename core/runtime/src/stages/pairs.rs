//! Preference pairs: of responses by reward (paper section 2, steps 3 and 4), of judgments by rating (section 3, step 7).

use metareward_api::{
    Candidate, Judgment, NoPair, Pair, PairKind, PairSide, Prompt, PromptId, RatedResponse, Response, RubricItem,
    Selection, Selector,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Context, Drawer, Work,
    judge::{by_response, judged},
    upstream,
};
use crate::{
    RunError,
    events::StageWatch,
    plugins::Bound,
    seeds::Purpose,
    statistics::{PairStatistics, PairSummary, Statistics},
    store::{Model, Place, Stage, StageRecord},
};

/// A prompt that gave no pair of a kind, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unpaired {
    /// Kind of the pair that there is none of.
    pub kind: PairKind,
    /// The prompt.
    pub prompt: PromptId,
    /// The response judged; `None` for actor pairs, and where no response has two readable judgments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<u32>,
    /// Why.
    pub reason: NoPair,
}

/// What pairs are made from.
#[derive(Clone)]
pub(crate) struct Sources<'a> {
    pub place: Place,
    /// Who answered.
    pub drawer: Drawer,
    /// Who judged.
    pub judge: Model,
    pub prompts: &'a StageRecord,
    pub responses: &'a StageRecord,
    pub judgments: &'a StageRecord,
    /// `None` where the iteration makes no judge pairs.
    pub ratings: Option<&'a StageRecord>,
    pub actor_pairs: bool,
}

/// A group of candidates as the selector sees it, and the texts behind it.
struct Group<'r> {
    candidates: Vec<Candidate>,
    texts: Vec<(u32, &'r str)>,
}

impl Sources<'_> {
    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        let seed = |purpose| self.drawer.seeds.stage(self.drawer.iteration, purpose, &[]);
        Ok(json!({
            "model": self.drawer.model.fingerprint,
            "rubric": plugins.rubric.identity(),
            "prompts": upstream(self.prompts, shard)?,
            "responses": upstream(self.responses, shard)?,
            "judgments": upstream(self.judgments, shard)?,
            "actor": self.actor_pairs.then(|| json!([seed(Purpose::ResponseTie), plugins.actor_selector.identity()])),
            "judge": match self.ratings {
                None => Value::Null,
                Some(ratings) => {
                    json!([seed(Purpose::JudgmentTie), plugins.judge_selector.identity(), upstream(ratings, shard)?])
                }
            },
        }))
    }

    /// Every prompt's pairs or reasons, actor before judge.
    fn select(&self, cx: &Context<'_>, shard: usize) -> Result<Vec<Result<Pair, Unpaired>>, RunError> {
        let prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        let responses: Vec<Response> = cx.store.read(self.responses, shard)?;
        let judgments: Vec<Judgment> = cx.store.read(self.judgments, shard)?;
        let mut actor = if self.actor_pairs { self.actor(cx, &prompts, &responses, &judgments)? } else { Vec::new() };
        let mut judge = match self.ratings {
            None => Vec::new(),
            Some(ratings) => {
                let rated: Vec<RatedResponse> = cx.store.read(ratings, shard)?;
                self.judge(cx, &prompts, &responses, &judgments, &rated)?
            }
        };
        actor.append(&mut judge);
        // A stable sort by prompt keeps the actor pair before the judge pair.
        let position = |outcome: &Result<Pair, Unpaired>| {
            let id = match outcome {
                Ok(pair) => &pair.prompt,
                Err(unpaired) => &unpaired.prompt,
            };
            prompts.iter().position(|prompt| prompt.id == *id)
        };
        actor.sort_by_cached_key(position);
        Ok(actor)
    }

    fn actor(
        &self,
        cx: &Context<'_>,
        prompts: &[Prompt],
        responses: &[Response],
        judgments: &[Judgment],
    ) -> Result<Vec<Result<Pair, Unpaired>>, RunError> {
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        let scored = by_response(judgments);
        let scores: Vec<Vec<f64>> = scored.iter().map(|(_, _, scores)| scores.clone()).collect();
        let name = |index: usize| {
            scored
                .get(index)
                .map_or_else(String::new, |(prompt, response, _)| format!("prompt {prompt}, response {response}"))
        };
        let rewards = plugins.rubric.ask_each(
            scores.len(),
            |rubric, range| rubric.aggregate(scores.get(range).unwrap_or_default()),
            name,
        )?;
        let reward = |response: &Response| {
            let found = scored
                .iter()
                .zip(&rewards)
                .find(|((prompt, draw, _), _)| **prompt == response.prompt && *draw == response.draw);
            found.and_then(|(_, reward)| *reward)
        };
        let group = |prompt: &Prompt| {
            let mut group = Group { candidates: Vec::new(), texts: Vec::new() };
            for response in judged(responses, &prompt.id) {
                if let Some(score) = reward(response) {
                    let tie = self.tie(Purpose::ResponseTie, &prompt.id, &[response.draw]);
                    group.add(response.draw, &response.text, response.tokens, score, tie);
                }
            }
            group
        };
        let groups: Vec<Group<'_>> = prompts.iter().map(group).collect();
        let selected = self.ask(&plugins.actor_selector, &groups, prompts)?;
        let outcomes = prompts.iter().zip(&groups).zip(selected);
        Ok(outcomes
            .map(|((prompt, group), selection)| match selection {
                Ok(selection) => Ok(self.pair(PairKind::Actor, prompt, None, prompt.messages(), group, selection)),
                Err(reason) => {
                    Err(Unpaired { kind: PairKind::Actor, prompt: prompt.id.clone(), response: None, reason })
                }
            })
            .collect())
    }

    fn judge(
        &self,
        cx: &Context<'_>,
        prompts: &[Prompt],
        responses: &[Response],
        judgments: &[Judgment],
        rated: &[RatedResponse],
    ) -> Result<Vec<Result<Pair, Unpaired>>, RunError> {
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        let rated: Vec<Option<&RatedResponse>> =
            prompts.iter().map(|prompt| rated.iter().find(|rated| rated.prompt == prompt.id)).collect();
        let group = |rated: &Option<&RatedResponse>| {
            let mut group = Group { candidates: Vec::new(), texts: Vec::new() };
            let Some(rated) = rated else { return group };
            for (draw, rating) in rated.judgments.iter().zip(&rated.ratings) {
                let judgment = judgments
                    .iter()
                    .find(|j| j.prompt == rated.prompt && j.response == rated.response && j.draw == *draw);
                if let Some(judgment) = judgment {
                    let tie = self.tie(Purpose::JudgmentTie, &rated.prompt, &[rated.response, *draw]);
                    group.add(*draw, &judgment.text, judgment.tokens, *rating, tie);
                }
            }
            group
        };
        let groups: Vec<Group<'_>> = rated.iter().map(group).collect();
        let selected = self.ask(&plugins.judge_selector, &groups, prompts)?;
        let response = |rated: Option<&RatedResponse>| {
            let rated = rated?;
            responses.iter().find(|response| response.prompt == rated.prompt && response.draw == rated.response)
        };
        let items: Vec<RubricItem<'_>> = prompts
            .iter()
            .zip(&rated)
            .map(|(prompt, rated)| RubricItem {
                prompt: &prompt.text,
                response: response(*rated).map_or("", |response| response.text.as_str()),
                // A rubric that compares has no judge pairs.
                opponent: None,
            })
            .collect();
        let name = |index: usize| prompts.get(index).map_or_else(String::new, |prompt| format!("prompt {}", prompt.id));
        let conversations = plugins.rubric.ask_each(
            items.len(),
            |rubric, range| rubric.render(items.get(range).unwrap_or_default()),
            name,
        )?;
        let outcomes = prompts.iter().zip(rated).zip(&groups).zip(selected).zip(conversations);
        Ok(outcomes
            .map(|((((prompt, rated), group), selection), messages)| {
                let response = rated.map(|rated| rated.response);
                match selection {
                    Ok(selection) => Ok(self.pair(PairKind::Judge, prompt, response, messages, group, selection)),
                    Err(reason) => Err(Unpaired { kind: PairKind::Judge, prompt: prompt.id.clone(), response, reason }),
                }
            })
            .collect())
    }

    fn tie(&self, purpose: Purpose, prompt: &PromptId, indices: &[u32]) -> u64 {
        self.drawer.seeds.prompt(self.drawer.iteration, purpose, prompt, indices)
    }

    fn ask(
        &self,
        selector: &Bound<dyn Selector>,
        groups: &[Group<'_>],
        prompts: &[Prompt],
    ) -> Result<Vec<Result<Selection, NoPair>>, RunError> {
        let candidates: Vec<Vec<Candidate>> = groups.iter().map(|group| group.candidates.clone()).collect();
        let name = |index: usize| prompts.get(index).map_or_else(String::new, |prompt| format!("prompt {}", prompt.id));
        selector.ask_each(
            candidates.len(),
            |selector, range| selector.select(candidates.get(range).unwrap_or_default()),
            name,
        )
    }

    fn pair(
        &self,
        kind: PairKind,
        prompt: &Prompt,
        response: Option<u32>,
        messages: Vec<metareward_api::Message>,
        group: &Group<'_>,
        selection: Selection,
    ) -> Pair {
        Pair {
            kind,
            prompt: prompt.id.clone(),
            response,
            model: match kind {
                PairKind::Actor => self.drawer.model.fingerprint.to_string(),
                PairKind::Judge => self.judge.fingerprint.to_string(),
            },
            messages,
            chosen: group.side(selection.chosen, selection.chosen_length),
            rejected: group.side(selection.rejected, selection.rejected_length),
            weight: 1.0,
        }
    }
}

impl<'r> Group<'r> {
    fn add(&mut self, draw: u32, text: &'r str, tokens: u32, score: f64, tie_break: u64) {
        let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        self.candidates.push(Candidate { score, characters, tokens, tie_break });
        self.texts.push((draw, text));
    }

    /// The host has checked that the index is one of the group's.
    fn side(&self, index: u32, length: u32) -> PairSide {
        let index = index as usize;
        let (draw, text) = self.texts.get(index).copied().unwrap_or_default();
        let score = self.candidates.get(index).map_or(f64::NAN, |candidate| candidate.score);
        PairSide { draw, text: text.to_owned(), score, length }
    }
}

/// Stage `pairs`.
pub(crate) struct Pairs<'a> {
    pub sources: Sources<'a>,
    pub statistics: PairStatistics,
}

/// Stage `unpaired`: the same selection, seen from the other side.
pub(crate) struct WithoutPair<'a> {
    pub sources: Sources<'a>,
}

impl Work for Pairs<'_> {
    type Record = Pair;

    fn place(&self) -> &Place {
        &self.sources.place
    }

    fn stage(&self) -> Stage {
        Stage::Pairs
    }

    fn shards(&self) -> usize {
        self.sources.prompts.shards.len()
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        self.sources.key(cx, shard)
    }

    fn compute(&mut self, cx: &mut Context<'_>, shard: usize, _: &StageWatch<'_>) -> Result<Vec<Pair>, RunError> {
        Ok(self.sources.select(cx, shard)?.into_iter().filter_map(Result::ok).collect())
    }

    fn count(&mut self, cx: &Context<'_>, shard: usize, pairs: &[Pair]) -> Result<(), RunError> {
        let plugins = cx.plugins.at(self.sources.drawer.iteration)?;
        let new = |selector: &Bound<dyn Selector>| -> Result<PairSummary, RunError> {
            let unit = selector.ask(|selector| selector.length_unit(), |_| String::new())?;
            Ok(PairSummary { unit, ..PairSummary::default() })
        };
        if self.sources.actor_pairs && self.statistics.actor.is_none() {
            self.statistics.actor = Some(new(&plugins.actor_selector)?);
        }
        if self.sources.ratings.is_some() && self.statistics.judge.is_none() {
            self.statistics.judge = Some(new(&plugins.judge_selector)?);
        }
        for pair in pairs {
            let Some(summary) = self.summary(pair.kind) else { continue };
            summary.pairs += 1;
            summary.chosen_length.add(f64::from(pair.chosen.length));
            summary.rejected_length.add(f64::from(pair.rejected.length));
            summary.margin.add(pair.chosen.score - pair.rejected.score);
        }
        for unpaired in self.sources.select(cx, shard)?.into_iter().filter_map(Result::err) {
            if let Some(summary) = self.summary(unpaired.kind) {
                *summary.none.entry(unpaired.reason.to_string()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::Pairs(std::mem::take(&mut self.statistics))
    }
}

impl Pairs<'_> {
    fn summary(&mut self, kind: PairKind) -> Option<&mut PairSummary> {
        match kind {
            PairKind::Actor => self.statistics.actor.as_mut(),
            PairKind::Judge => self.statistics.judge.as_mut(),
        }
    }
}

impl Work for WithoutPair<'_> {
    type Record = Unpaired;

    fn place(&self) -> &Place {
        &self.sources.place
    }

    fn stage(&self) -> Stage {
        Stage::Unpaired
    }

    fn shards(&self) -> usize {
        self.sources.prompts.shards.len()
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        self.sources.key(cx, shard)
    }

    fn compute(&mut self, cx: &mut Context<'_>, shard: usize, _: &StageWatch<'_>) -> Result<Vec<Unpaired>, RunError> {
        Ok(self.sources.select(cx, shard)?.into_iter().filter_map(Result::err).collect())
    }
}
