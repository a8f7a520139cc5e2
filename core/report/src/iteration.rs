//! What one iteration's records show beyond the counts of its stages: lengths, rewards, the meta-judge's habits.

use std::collections::BTreeMap;

use metareward_api::{PairKind, Winner};
use metareward_eval::{Bootstrap, Figure, Groups, quantile};
use serde::{Deserialize, Serialize};

use crate::{PromptRecords, StageFigures};

/// One iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationFigures {
    /// Its number, from 1.
    pub iteration: u32,
    /// The model that answers and judges: the one before.
    pub model: String,
    /// Its finished stages.
    pub stages: Vec<StageFigures>,
    /// Lengths of distinct responses, of chosen and of rejected ones, in characters.
    pub lengths: Vec<LengthFigures>,
    /// Lower ends of bins a quarter of a point wide, and how many responses have their mean score in each.
    pub rewards: Vec<(f64, u64)>,
    /// The meta-judge's habits; `None` where it was not asked.
    pub position_bias: Option<PositionBias>,
    /// Who wins between which scores; `None` where the meta-judge was not asked.
    pub matrix: Option<ScoreMatrix>,
    /// How the ranker rates judgments that gave a score, by that score.
    pub score_ratings: Vec<ScoreRating>,
}

/// Lengths of a set of texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthFigures {
    /// Which texts: `responses`, `chosen` or `rejected`.
    pub of: String,
    /// How many.
    pub n: usize,
    /// Their mean length in characters.
    pub mean: f64,
    /// How their lengths are spread.
    pub quantiles: Quantiles,
}

/// Quantiles of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// A tenth is below.
    pub p10: f64,
    /// A quarter is below.
    pub p25: f64,
    /// Half is below.
    pub p50: f64,
    /// Three quarters are below.
    pub p75: f64,
    /// Nine tenths are below.
    pub p90: f64,
}

impl Quantiles {
    /// Of any values; `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { p10: at(0.1)?, p25: at(0.25)?, p50: at(0.5)?, p75: at(0.75)?, p90: at(0.9)? })
    }
}

/// Shares of decided verdicts, as in the paper's table of meta-judge statistics (table 5). Intervals draw prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// The judgment with the higher score wins, of verdicts between different scores.
    pub higher_wins: Option<Figure>,
    /// The judgment shown first wins, of verdicts between equal scores.
    pub first_equal: Option<Figure>,
    /// The same between different scores.
    pub first_different: Option<Figure>,
    /// The same of all.
    pub first: Option<Figure>,
    /// The verdict names the same judgment in both orders, of pairs decided in both.
    pub consistent: Option<Figure>,
}

/// Verdicts by the scores of the two judgments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreMatrix {
    /// The scores, lowest first.
    pub scores: Vec<f64>,
    /// Row: score of the judgment shown first; column: of the one shown second. How often the first won, the second
    /// won, and neither.
    pub cells: Vec<Vec<[u64; 3]>>,
}

/// Ratings of the judgments that gave one score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRating {
    /// The score.
    pub score: f64,
    /// Number of judgments.
    pub n: usize,
    /// Mean of their ratings, each minus the mean rating of its response's judgments.
    pub mean: f64,
    /// How those differences are spread.
    pub quantiles: Quantiles,
}

/// A count and what it is out of, per prompt.
type Ratio = (f64, f64);

fn ratio(groups: &[&[Ratio]]) -> Option<f64> {
    let (mut count, mut of) = (0.0, 0.0);
    for (part, whole) in groups.iter().flat_map(|group| group.iter()) {
        count += part;
        of += whole;
    }
    (of > 0.0).then(|| count / of)
}

/// A ratio with its interval; `n` is what it is out of.
fn ratio_figure(groups: &Groups<Ratio>, bootstrap: &Bootstrap) -> Option<Figure> {
    let figure = bootstrap.figure(groups, &ratio)?;
    let n: f64 = groups.values().map(|(_, of)| of).sum();
    Some(Figure { n: n as usize, ..figure })
}

/// Counts while the records of an iteration go by.
#[derive(Default)]
pub(crate) struct Tally {
    lengths: [Vec<f64>; 3],
    rewards: BTreeMap<i64, u64>,
    higher_wins: Groups<Ratio>,
    first_equal: Groups<Ratio>,
    first_different: Groups<Ratio>,
    first: Groups<Ratio>,
    consistent: Groups<Ratio>,
    matrix: BTreeMap<(Score, Score), [u64; 3]>,
    ratings: BTreeMap<Score, Vec<f64>>,
    asked: bool,
}

/// A score as a key, in the order of numbers.
#[derive(Clone, Copy, PartialEq)]
struct Score(f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Adding 0 makes one zero of two.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

/// Bins of rewards in one point of the scale.
const BINS: f64 = 4.0;

impl Tally {
    /// Adds one prompt.
    pub fn add(&mut self, records: &PromptRecords) {
        let length = |text: &str| text.chars().count() as f64;
        for response in records.responses.iter().filter(|response| response.duplicate_of.is_none()) {
            self.lengths[0].push(length(&response.text));
            let scores: Vec<f64> = records
                .judgments
                .iter()
                .filter(|judgment| judgment.response == response.draw)
                .filter_map(|judgment| judgment.score)
                .collect();
            if !scores.is_empty() {
                let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                *self.rewards.entry((mean * BINS).floor() as i64).or_default() += 1;
            }
        }
        for pair in records.pairs.iter().filter(|pair| pair.kind == PairKind::Actor) {
            self.lengths[1].push(length(&pair.chosen.text));
            self.lengths[2].push(length(&pair.rejected.text));
        }
        self.add_verdicts(records);
        for rated in &records.ratings {
            let mean = rated.ratings.iter().sum::<f64>() / rated.ratings.len().max(1) as f64;
            for (draw, rating) in rated.judgments.iter().zip(&rated.ratings) {
                let judgment = records.judgments.iter().find(|j| j.response == rated.response && j.draw == *draw);
                if let Some(score) = judgment.and_then(|judgment| judgment.score) {
                    self.ratings.entry(Score(score)).or_default().push(rating - mean);
                }
            }
        }
    }

    fn add_verdicts(&mut self, records: &PromptRecords) {
        self.asked |= !records.verdicts.is_empty();
        let scores: BTreeMap<(u32, u32), f64> =
            records.judgments.iter().filter_map(|j| Some(((j.response, j.draw), j.score?))).collect();
        let verdicts: BTreeMap<(u32, u32, u32), Winner> =
            records.verdicts.iter().filter_map(|v| Some(((v.response, v.first, v.second), v.winner?))).collect();
        let mut of = [(0.0, 0.0); 5];
        let add = |ratio: &mut Ratio, is: bool| {
            ratio.0 += f64::from(u8::from(is));
            ratio.1 += 1.0;
        };
        for ((response, first, second), winner) in &verdicts {
            let scored = scores.get(&(*response, *first)).zip(scores.get(&(*response, *second)));
            let Some((first_score, second_score)) = scored else { continue };
            let cell = self.matrix.entry((Score(*first_score), Score(*second_score))).or_default();
            let first_wins = match winner {
                Winner::First => {
                    cell[0] += 1;
                    true
                }
                Winner::Second => {
                    cell[1] += 1;
                    false
                }
                Winner::Tie => {
                    cell[2] += 1;
                    continue;
                }
            };
            add(&mut of[3], first_wins);
            if first_score == second_score {
                add(&mut of[1], first_wins);
            } else {
                add(&mut of[2], first_wins);
                add(&mut of[0], first_wins == (first_score > second_score));
            }
            // Each pair once: where its judgments stand in the order of their draws.
            if first < second
                && let Some(other) = verdicts.get(&(*response, *second, *first))
                && *other != Winner::Tie
            {
                add(&mut of[4], *other != *winner);
            }
        }
        let groups = [
            &mut self.higher_wins,
            &mut self.first_equal,
            &mut self.first_different,
            &mut self.first,
            &mut self.consistent,
        ];
        for (group, ratio) in groups.into_iter().zip(of) {
            if ratio.1 > 0.0 {
                group.push(&records.prompt.id, ratio);
            }
        }
    }

    /// The figures.
    pub fn finish(
        self,
        iteration: u32,
        model: String,
        stages: Vec<StageFigures>,
        bootstrap: &Bootstrap,
    ) -> IterationFigures {
        let lengths = ["responses", "chosen", "rejected"].iter().zip(&self.lengths).filter_map(|(of, values)| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            Some(LengthFigures { of: (*of).into(), n: values.len(), mean, quantiles: Quantiles::of(values)? })
        });
        let figure = |groups| ratio_figure(groups, bootstrap);
        let position_bias = self.asked.then(|| PositionBias {
            higher_wins: figure(&self.higher_wins),
            first_equal: figure(&self.first_equal),
            first_different: figure(&self.first_different),
            first: figure(&self.first),
            consistent: figure(&self.consistent),
        });
        let mut scores: Vec<Score> = self.matrix.keys().flat_map(|(first, second)| [*first, *second]).collect();
        scores.sort();
        scores.dedup();
        let row = |first: &Score| {
            let cell = |second: &Score| self.matrix.get(&(*first, *second)).copied().unwrap_or_default();
            scores.iter().map(cell).collect()
        };
        let matrix = self.asked.then(|| ScoreMatrix {
            scores: scores.iter().map(|score| score.0).collect(),
            cells: scores.iter().map(row).collect(),
        });
        let score_ratings = self.ratings.iter().filter_map(|(score, values)| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            Some(ScoreRating { score: score.0, n: values.len(), mean, quantiles: Quantiles::of(values)? })
        });
        IterationFigures {
            iteration,
            model,
            stages,
            lengths: lengths.collect(),
            rewards: self.rewards.iter().map(|(bin, count)| (*bin as f64 / BINS, *count)).collect(),
            position_bias,
            matrix,
            score_ratings: score_ratings.collect(),
        }
    }
}
