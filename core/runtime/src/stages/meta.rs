//! The widest response of each prompt, the matches among its judgments, and their verdicts (paper section 3, steps
//! 1 to 3).

use std::collections::BTreeMap;

use metareward_api::{Judgment, Match, MetaJudgeItem, Part, Prompt, PromptId, Response, Verdict, Winner};
use serde_json::{Value, json};

use super::{
    Context, Drawer, Work,
    draws::{Asked, answers, kept},
    judge::by_response,
    upstream,
};
use crate::{
    RunError,
    events::StageWatch,
    seeds::{Purpose, Seeds},
    statistics::{Statistics, VerdictStatistics},
    store::{Place, Stage, StageRecord},
};

/// The response of a prompt whose judgments meet, and those of its judgments that have a score.
pub(crate) struct Widest<'j> {
    pub response: u32,
    /// Population variance of the scores.
    pub variance: f64,
    /// Readable judgments in the order of their draws: the players.
    pub judgments: Vec<&'j Judgment>,
}

/// For each prompt the response with the highest variance of scores; ties by seed. `None` where no response has two
/// readable judgments.
pub(crate) fn widest<'j>(
    prompts: &[Prompt],
    judgments: &'j [Judgment],
    seeds: Seeds,
    iteration: u32,
) -> Vec<Option<Widest<'j>>> {
    let mut best: BTreeMap<&PromptId, (f64, u64, u32)> = BTreeMap::new();
    for (prompt, response, scores) in by_response(judgments) {
        if scores.len() < 2 {
            continue;
        }
        let tie = seeds.prompt(iteration, Purpose::WidestTie, prompt, &[response]);
        let candidate = (variance(&scores), tie, response);
        let entry = best.entry(prompt).or_insert(candidate);
        if candidate.0.total_cmp(&entry.0).then(candidate.1.cmp(&entry.1)).is_gt() {
            *entry = candidate;
        }
    }
    let readable = |prompt: &PromptId, response: u32| {
        judgments
            .iter()
            .filter(|judgment| judgment.prompt == *prompt && judgment.response == response && judgment.score.is_some())
            .collect()
    };
    prompts
        .iter()
        .map(|prompt| {
            best.get(&prompt.id).map(|(variance, _, response)| Widest {
                response: *response,
                variance: *variance,
                judgments: readable(&prompt.id, *response),
            })
        })
        .collect()
}

/// Population variance; exactly 0 for equal scores.
fn variance(scores: &[f64]) -> f64 {
    if scores.first() == scores.last() {
        // Sorted, so all are equal; the formula could leave a rounding error.
        return 0.0;
    }
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    scores.iter().map(|score| (score - mean) * (score - mean)).sum::<f64>() / count
}

/// Stage `verdicts`.
pub(crate) struct Compare<'a> {
    pub place: Place,
    pub drawer: Drawer,
    pub prompts: &'a StageRecord,
    pub responses: &'a StageRecord,
    pub judgments: &'a StageRecord,
    pub statistics: VerdictStatistics,
}

impl Work for Compare<'_> {
    type Record = Verdict;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Verdicts
    }

    fn shards(&self) -> usize {
        self.prompts.shards.len()
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        let plugins = cx.plugins.at(self.drawer.iteration)?;
        Ok(json!({
            "model": self.drawer.model.fingerprint,
            "seeds": [
                self.drawer.seeds.stage(self.drawer.iteration, Purpose::Verdict, &[]),
                self.drawer.seeds.stage(self.drawer.iteration, Purpose::WidestTie, &[]),
            ],
            "sampler": plugins.meta_sampler.identity(),
            "rubric": plugins.rubric.identity(),
            "meta_judge": plugins.meta_judge.identity(),
            "prompts": upstream(self.prompts, shard)?,
            "responses": upstream(self.responses, shard)?,
            "judgments": upstream(self.judgments, shard)?,
        }))
    }

    fn compute(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        watch: &StageWatch<'_>,
    ) -> Result<Vec<Verdict>, RunError> {
        let prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        let responses: Vec<Response> = cx.store.read(self.responses, shard)?;
        let judgments: Vec<Judgment> = cx.store.read(self.judgments, shard)?;
        let iteration = self.drawer.iteration;
        let plugins = cx.plugins.at(iteration)?;
        let widest = widest(&prompts, &judgments, self.drawer.seeds, iteration);
        let players: Vec<u32> = widest
            .iter()
            .map(|widest| widest.as_ref().map_or(0, |widest| u32::try_from(widest.judgments.len()).unwrap_or_default()))
            .collect();
        let prompt_name = |index: usize| prompts.get(index).map_or_else(String::new, |p| format!("prompt {}", p.id));
        let schedules = plugins.meta_judge.ask_each(
            players.len(),
            |meta, range| meta.schedule(players.get(range).unwrap_or_default()),
            prompt_name,
        )?;
        let criteria = plugins.rubric.ask(|rubric| rubric.criteria(), |_| String::new())?;

        let mut met: Vec<(&Prompt, &Response, &Judgment, &Judgment)> = Vec::new();
        for ((prompt, widest), schedule) in prompts.iter().zip(&widest).zip(schedules) {
            let Some(widest) = widest else { continue };
            let response = responses.iter().find(|r| r.prompt == prompt.id && r.draw == widest.response);
            let response = response.ok_or_else(|| {
                RunError::Bug(format!(
                    "prompt {} has judgments of a response {} that is not there",
                    prompt.id, widest.response
                ))
            })?;
            for Match { first, second } in schedule {
                if let (Some(first), Some(second)) =
                    (widest.judgments.get(first as usize), widest.judgments.get(second as usize))
                {
                    met.push((prompt, response, first, second));
                }
            }
        }
        let name = |index: usize| {
            met.get(index).map_or_else(String::new, |(prompt, response, first, second)| {
                format!(
                    "prompt {}, response {}, judgments {} and {}",
                    prompt.id, response.draw, first.draw, second.draw
                )
            })
        };
        let items: Vec<MetaJudgeItem<'_>> = met
            .iter()
            .map(|(prompt, response, first, second)| MetaJudgeItem {
                prompt: &prompt.text,
                response: &response.text,
                criteria: &criteria,
                first: &first.text,
                second: &second.text,
            })
            .collect();
        let conversations = plugins.meta_judge.ask_each(
            items.len(),
            |meta, range| meta.render(items.get(range).unwrap_or_default()),
            name,
        )?;
        let asked: Vec<Asked> = met
            .iter()
            .zip(conversations)
            .enumerate()
            .map(|(index, ((prompt, response, first, second), messages))| {
                let indices = [response.draw, first.draw, second.draw];
                let seed = self.drawer.seeds.prompt(iteration, Purpose::Verdict, &prompt.id, &indices);
                Asked::one(name(index), messages, [seed])
            })
            .collect();
        let answers = answers(cx, &self.drawer, Part::MetaJudge, shard, &asked, watch)?;
        let texts: Vec<&str> = answers.iter().flatten().map(|answer| answer.text.as_str()).collect();
        let parsed = plugins.meta_judge.ask_each(
            texts.len(),
            |meta, range| meta.parse(texts.get(range).unwrap_or_default()),
            name,
        );
        let parsed = kept(cx, (&self.place, self.stage(), shard), &answers, parsed)?;
        let verdicts = met.iter().zip(answers.iter().flatten()).zip(parsed);
        Ok(verdicts
            .map(|(((prompt, response, first, second), answer), parsed)| Verdict {
                prompt: prompt.id.clone(),
                response: response.draw,
                first: first.draw,
                second: second.draw,
                model: self.drawer.model.fingerprint.to_string(),
                text: answer.text.clone(),
                tokens: answer.tokens,
                finish: answer.finish,
                winner: parsed.as_ref().ok().copied(),
                unreadable: parsed.err(),
            })
            .collect())
    }

    fn count(&mut self, cx: &Context<'_>, shard: usize, verdicts: &[Verdict]) -> Result<(), RunError> {
        let prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        let judgments: Vec<Judgment> = cx.store.read(self.judgments, shard)?;
        let widest = widest(&prompts, &judgments, self.drawer.seeds, self.drawer.iteration);
        self.statistics.prompts_without += widest.iter().filter(|widest| widest.is_none()).count() as u64;
        let scores: BTreeMap<(&PromptId, u32, u32), f64> = judgments
            .iter()
            .filter_map(|judgment| Some(((&judgment.prompt, judgment.response, judgment.draw), judgment.score?)))
            .collect();
        for verdict in verdicts {
            let statistics = &mut self.statistics;
            statistics.verdicts += 1;
            statistics.tokens.add(f64::from(verdict.tokens));
            if let Some(reason) = verdict.unreadable {
                *statistics.unreadable.entry(reason).or_default() += 1;
            }
            let first_wins = match verdict.winner {
                None => continue,
                Some(Winner::Tie) => {
                    statistics.ties += 1;
                    continue;
                }
                Some(winner) => winner == Winner::First,
            };
            statistics.first.add(first_wins);
            let score = |draw| scores.get(&(&verdict.prompt, verdict.response, draw));
            if let (Some(first), Some(second)) = (score(verdict.first), score(verdict.second)) {
                if first == second {
                    statistics.first_equal.add(first_wins);
                } else {
                    statistics.first_different.add(first_wins);
                    statistics.higher_wins.add((first > second) == first_wins);
                }
            }
        }
        Ok(())
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::Verdicts(std::mem::take(&mut self.statistics))
    }
}

#[cfg(test)]
mod tests {
    use metareward_api::Finish;
    use proptest::prelude::*;

    use super::*;

    fn judgment(response: u32, draw: u32, score: Option<f64>) -> Judgment {
        Judgment {
            prompt: PromptId("p".into()),
            response,
            draw,
            opponent: None,
            shown: None,
            model: String::new(),
            text: String::new(),
            tokens: 0,
            finish: Finish::EndOfTurn,
            score,
            unreadable: None,
        }
    }

    fn prompt() -> Prompt {
        Prompt { id: PromptId("p".into()), text: String::new(), system: None, category: None }
    }

    proptest! {
        #[test]
        fn the_widest_response_has_the_highest_variance(
            scores in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0u8..6), 3), 1..6),
            seed: u64,
        ) {
            let judgments: Vec<Judgment> = (0..).zip(&scores).flat_map(|(response, scores)| {
                (0..).zip(scores).map(move |(draw, score)| judgment(response, draw, score.map(f64::from)))
            }).collect();
            let variances: Vec<Option<f64>> = scores.iter().map(|scores| {
                let mut read: Vec<f64> = scores.iter().flatten().map(|score| f64::from(*score)).collect();
                read.sort_by(f64::total_cmp);
                (read.len() > 1).then(|| variance(&read))
            }).collect();
            let highest = variances.iter().flatten().copied().max_by(f64::total_cmp);
            match widest(&[prompt()], &judgments, Seeds::new(seed), 1).pop().unwrap() {
                None => prop_assert!(highest.is_none()),
                Some(widest) => {
                    prop_assert_eq!(Some(widest.variance), highest);
                    prop_assert_eq!(variances[widest.response as usize], highest);
                    prop_assert!(widest.judgments.len() > 1);
                    prop_assert!(widest.judgments.iter().all(|j| j.score.is_some() && j.response == widest.response));
                }
            }
        }
    }

    #[test]
    fn ties_are_broken_by_seed_and_reach_every_response() {
        let judgments: Vec<Judgment> = (0..4)
            .flat_map(|response| (0..2).map(move |draw| judgment(response, draw, Some(f64::from(draw)))))
            .collect();
        let chosen: std::collections::BTreeSet<u32> = (0..60)
            .filter_map(|seed| Some(widest(&[prompt()], &judgments, Seeds::new(seed), 1).pop()??.response))
            .collect();
        assert_eq!(chosen.len(), 4);
    }

    #[test]
    fn equal_scores_have_no_variance_at_all() {
        assert_eq!(variance(&[4.1, 4.1, 4.1]), 0.0);
    }
}
