//! Weights against position bias, battle matrices and ratings (paper section 3, steps 4 to 6).

use metareward_api::{
    Battle, BattleMatrix, Judgment, Match, PositionWins, Prompt, RankingProblem, RatedResponse, Remark, Verdict,
    VerdictSet, WeightScope, Winner,
};
use serde_json::{Value, json};

use super::{Context, Work, meta::widest, upstream};
use crate::{
    RunError,
    events::StageWatch,
    seeds::{Purpose, Seeds},
    statistics::{RatingStatistics, Statistics},
    store::{Place, Stage, StageRecord},
};

/// Stage `ratings`.
pub(crate) struct Rate<'a> {
    pub place: Place,
    pub iteration: u32,
    pub seeds: Seeds,
    pub prompts: &'a StageRecord,
    pub judgments: &'a StageRecord,
    pub verdicts: &'a StageRecord,
    /// Wins by position in this iteration, and in this and all earlier ones.
    pub iteration_wins: PositionWins,
    pub run_wins: PositionWins,
    pub statistics: RatingStatistics,
}

impl Rate<'_> {
    /// Wins in the meta-judge's scope where it is wider than a response.
    fn wins(&self, cx: &Context<'_>) -> Result<Option<PositionWins>, RunError> {
        let meta_judge = &cx.plugins.at(self.iteration)?.meta_judge;
        Ok(match meta_judge.ask(|meta| meta.scope(), |_| String::new())? {
            WeightScope::Response => None,
            WeightScope::Iteration => Some(self.iteration_wins),
            WeightScope::Run => Some(self.run_wins),
        })
    }
}

/// Wins by position among verdicts.
pub(crate) fn wins(verdicts: &[(Match, Winner)]) -> PositionWins {
    let count = |of| verdicts.iter().filter(|(_, winner)| *winner == of).count() as u64;
    PositionWins { first: count(Winner::First), second: count(Winner::Second) }
}

/// Weights of ties, row against column: symmetric, and empty where there are none.
fn ties(problem: &RankingProblem) -> Vec<Vec<f64>> {
    if problem.battles.iter().all(|battle| battle.ties == 0.0) {
        return Vec::new();
    }
    let alone = |battle: &Battle| Battle { left_wins: 0.0, right_wins: 0.0, ..*battle };
    let battles = problem.battles.iter().map(alone).collect();
    BattleMatrix::of(&RankingProblem { players: problem.players, battles }, 1.0).rows()
}

impl Work for Rate<'_> {
    type Record = RatedResponse;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Ratings
    }

    fn shards(&self) -> usize {
        self.prompts.shards.len()
    }

    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        let plugins = cx.plugins.at(self.iteration)?;
        Ok(json!({
            "seeds": [self.seeds.stage(self.iteration, Purpose::WidestTie, &[])],
            "meta_judge": plugins.meta_judge.identity(),
            "ranker": plugins.ranker.identity(),
            "wins": self.wins(cx)?,
            "prompts": upstream(self.prompts, shard)?,
            "judgments": upstream(self.judgments, shard)?,
            "verdicts": upstream(self.verdicts, shard)?,
        }))
    }

    fn compute(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        _: &StageWatch<'_>,
    ) -> Result<Vec<RatedResponse>, RunError> {
        let prompts: Vec<Prompt> = cx.store.read(self.prompts, shard)?;
        let judgments: Vec<Judgment> = cx.store.read(self.judgments, shard)?;
        let verdicts: Vec<Verdict> = cx.store.read(self.verdicts, shard)?;
        let plugins = cx.plugins.at(self.iteration)?;
        let widest = widest(&prompts, &judgments, self.seeds, self.iteration);
        let rated: Vec<_> = prompts.iter().zip(widest).filter_map(|(prompt, widest)| Some((prompt, widest?))).collect();
        let name = |index: usize| {
            rated.get(index).map_or_else(String::new, |(prompt, widest)| {
                format!("prompt {}, response {}", prompt.id, widest.response)
            })
        };
        let sets: Vec<VerdictSet> = rated
            .iter()
            .map(|(prompt, widest)| {
                let index = |draw: u32| {
                    let position = widest.judgments.iter().position(|judgment| judgment.draw == draw)?;
                    u32::try_from(position).ok()
                };
                let of_this = verdicts.iter().filter(|v| v.prompt == prompt.id && v.response == widest.response);
                VerdictSet {
                    players: u32::try_from(widest.judgments.len()).unwrap_or_default(),
                    verdicts: of_this
                        .filter_map(|verdict| {
                            let played = Match { first: index(verdict.first)?, second: index(verdict.second)? };
                            Some((played, verdict.winner?))
                        })
                        .collect(),
                }
            })
            .collect();
        let in_scope = self.wins(cx)?;
        let counted: Vec<PositionWins> =
            sets.iter().map(|set| in_scope.unwrap_or_else(|| wins(&set.verdicts))).collect();
        let weighed = plugins.meta_judge.ask_each(
            sets.len(),
            |meta, range| {
                let counted = counted.get(range.clone()).unwrap_or_default();
                meta.weigh(sets.get(range).unwrap_or_default(), counted)
            },
            name,
        )?;
        let (weights, problems): (Vec<[f64; 2]>, Vec<RankingProblem>) = weighed
            .into_iter()
            .zip(&sets)
            .map(|(weighed, set)| (weighed.weights, RankingProblem { players: set.players, battles: weighed.battles }))
            .unzip();
        let ratings = plugins.ranker.ask_each(
            problems.len(),
            |ranker, range| ranker.rate(problems.get(range).unwrap_or_default()),
            name,
        )?;
        Ok(rated
            .iter()
            .zip(weights)
            .zip(&problems)
            .zip(ratings)
            .map(|((((prompt, widest), weights), problem), rating)| RatedResponse {
                prompt: prompt.id.clone(),
                response: widest.response,
                judgments: widest.judgments.iter().map(|judgment| judgment.draw).collect(),
                variance: widest.variance,
                weights,
                battles: BattleMatrix::of(problem, 0.0).rows(),
                ties: ties(problem),
                ratings: rating.ratings,
                converged: rating.converged,
                remarks: rating.remarks,
            })
            .collect())
    }

    fn count(&mut self, _: &Context<'_>, _: usize, rated: &[RatedResponse]) -> Result<(), RunError> {
        let statistics = &mut self.statistics;
        for rated in rated {
            statistics.rated += 1;
            statistics.not_converged += u64::from(!rated.converged);
            let [w1, w2] = rated.weights;
            statistics.w1.add(w1);
            statistics.w2.add(w2);
            for remark in &rated.remarks {
                let kind = match remark {
                    Remark::NoBattles => "no-battles",
                    Remark::Undefeated(_) => "undefeated",
                    Remark::Winless(_) => "winless",
                    Remark::Disconnected(_) => "disconnected",
                    Remark::NotConverged => "not-converged",
                };
                *statistics.remarks.entry(kind.to_owned()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::Ratings(std::mem::take(&mut self.statistics))
    }
}
