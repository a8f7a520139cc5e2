//! What a finished stage shows: kept in its stage.json, sent as an event, and printed.

use std::collections::BTreeMap;

use metareward_api::{Finish, Unreadable};
use serde::{Deserialize, Serialize};

/// Figures of a stage, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Statistics {
    /// Nothing but the number of records.
    Records,
    /// Of responses.
    Responses(ResponseStatistics),
    /// Of judgments.
    Judgments(JudgmentStatistics),
    /// Of verdicts.
    Verdicts(VerdictStatistics),
    /// Of ratings.
    Ratings(RatingStatistics),
    /// Of preference pairs.
    Pairs(PairStatistics),
    /// Of a training run.
    Training(TrainingStatistics),
    /// Of the oracle's points.
    Points(PointStatistics),
}

/// A share, with what it is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub of: u64,
}

impl Share {
    /// Adds one case.
    pub fn add(&mut self, is: bool) {
        self.of += 1;
        self.count += u64::from(is);
    }

    /// From 0 to 1; `None` of nothing.
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }
}

/// A mean, with the number of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Sum of the values.
    pub sum: f64,
    /// Number of values.
    pub count: u64,
}

impl Mean {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean; `None` of nothing.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Responses of an iteration or of an evaluated model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResponseStatistics {
    /// Responses in all.
    pub responses: u64,
    /// Those with the same text as an earlier one to the same prompt. Not judged.
    pub duplicates: u64,
    /// Why they ended.
    pub finish: BTreeMap<Finish, u64>,
    /// Length in characters.
    pub characters: Mean,
    /// Length in tokens.
    pub tokens: Mean,
}

/// How many judgments gave a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreCount {
    /// The score.
    pub score: f64,
    /// How many judgments gave it.
    pub count: u64,
}

/// Judgments of an iteration or of an evaluated model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JudgmentStatistics {
    /// Judgments in all.
    pub judgments: u64,
    /// Those without a score, by reason. They count nowhere.
    pub unreadable: BTreeMap<Unreadable, u64>,
    /// Responses of which no judgment has a score.
    pub unscored_responses: u64,
    /// Where the rubric compares: prompts with one distinct response, which are not judged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub without_opponent: u64,
    /// Scores and how often they were given, lowest first.
    pub histogram: Vec<ScoreCount>,
    /// Mean of the scores.
    pub score: Mean,
    /// Share of scores equal to the highest of the scale.
    pub top: Share,
    /// Entropy of the histogram in bits: 0 when all scores are the same.
    pub entropy: f64,
    /// Prompts with at least two scored responses, all of them with the same mean score.
    pub tied_prompts: Share,
    /// Length in tokens.
    pub tokens: Mean,
    /// Why they ended.
    pub finish: BTreeMap<Finish, u64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl JudgmentStatistics {
    /// Share of judgments without a score.
    pub fn failure_rate(&self) -> Share {
        Share { count: self.unreadable.values().sum(), of: self.judgments }
    }

    /// Adds a score to histogram and mean.
    pub(crate) fn add_score(&mut self, score: f64, highest: f64) {
        match self.histogram.binary_search_by(|entry| entry.score.total_cmp(&score)) {
            Ok(index) => {
                if let Some(entry) = self.histogram.get_mut(index) {
                    entry.count += 1;
                }
            }
            Err(index) => self.histogram.insert(index, ScoreCount { score, count: 1 }),
        }
        self.score.add(score);
        self.top.add(score >= highest);
    }

    /// Computes the entropy from the histogram.
    pub(crate) fn finish(&mut self) {
        let total = self.score.count as f64;
        let term = |entry: &ScoreCount| {
            let share = entry.count as f64 / total;
            -share * share.log2()
        };
        // The sum over one score is -0.0; adding 0.0 makes it 0.0.
        self.entropy = self.histogram.iter().map(term).sum::<f64>() + 0.0;
    }

    /// A warning in plain words when the judge no longer tells responses apart.
    pub fn saturation(&self) -> Option<String> {
        let share = self.top.value()?;
        if self.score.count < 20 {
            return None;
        }
        if share > 0.8 {
            return Some(format!(
                "the judge is saturated: {:.0} % of its {} scores are the highest of the scale, so that rewards no \
                 longer tell responses apart",
                share * 100.0,
                self.score.count
            ));
        }
        (self.entropy < 0.2).then(|| {
            format!(
                "the judge nearly always gives the same score: the entropy of its {} scores is {:.2} bits",
                self.score.count, self.entropy
            )
        })
    }
}

/// Verdicts of an iteration, as in the paper's table of meta-judge statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerdictStatistics {
    /// Verdicts in all.
    pub verdicts: u64,
    /// Those without a winner, by reason. They count nowhere.
    pub unreadable: BTreeMap<Unreadable, u64>,
    /// Readable verdicts that are ties.
    pub ties: u64,
    /// Wins of the judgment shown first, of all decided verdicts.
    pub first: Share,
    /// The same where both judgments gave the same score.
    pub first_equal: Share,
    /// The same where they gave different scores.
    pub first_different: Share,
    /// Wins of the judgment with the higher score, of decided verdicts with different scores.
    pub higher_wins: Share,
    /// Prompts without a response that has two readable judgments.
    pub prompts_without: u64,
    /// Length in tokens.
    pub tokens: Mean,
}

/// Ratings of an iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatingStatistics {
    /// Responses whose judgments were rated.
    pub rated: u64,
    /// Of those, how many did not converge.
    pub not_converged: u64,
    /// Remarks of the ranker, by kind.
    pub remarks: BTreeMap<String, u64>,
    /// Weight w1 of a win in the first position.
    pub w1: Mean,
    /// Weight w2 of a win in the second position.
    pub w2: Mean,
}

/// Preference pairs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairSummary {
    /// Pairs.
    pub pairs: u64,
    /// Prompts without a pair, by reason.
    pub none: BTreeMap<String, u64>,
    /// Length of the chosen texts.
    pub chosen_length: Mean,
    /// Length of the rejected texts.
    pub rejected_length: Mean,
    /// Unit of the lengths.
    pub unit: String,
    /// Score of the chosen minus score of the rejected.
    pub margin: Mean,
}

/// Preference pairs of an iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairStatistics {
    /// Pairs of responses; `None` where the iteration makes none.
    pub actor: Option<PairSummary>,
    /// Pairs of judgments; `None` where the iteration makes none.
    pub judge: Option<PairSummary>,
}

/// One epoch of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochStatistics {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Mean training loss. Not a number where a command trained that says none.
    #[serde(with = "perhaps_unknown")]
    pub train_loss: f64,
    /// Mean loss on held-out examples.
    pub validation_loss: Option<f64>,
}

/// A training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingStatistics {
    /// Examples trained on.
    pub examples: u64,
    /// Of them, actor pairs.
    pub actor_pairs: u64,
    /// Of them, judge pairs.
    pub judge_pairs: u64,
    /// Examples held out for validation.
    pub validation: u64,
    /// Optimizer steps.
    pub steps: u32,
    /// Loss of the first step, before any update: ln 2 for DPO. Not a number where a command trained that says none.
    #[serde(with = "perhaps_unknown")]
    pub first_loss: f64,
    /// Examples cut at the largest length.
    pub truncated: u32,
    /// The epochs.
    pub epochs: Vec<EpochStatistics>,
    /// The epoch whose checkpoint became the model.
    pub kept: u32,
}

/// The oracle's points of a model's responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointStatistics {
    /// Points.
    pub points: Mean,
}

/// A number that is not one is `null` in JSON.
mod perhaps_unknown {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Some(*number).filter(|number| number.is_finite()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[(f64, u64)]) -> JudgmentStatistics {
        let mut statistics = JudgmentStatistics::default();
        for (score, count) in scores {
            (0..*count).for_each(|_| statistics.add_score(*score, 5.0));
        }
        statistics.finish();
        statistics
    }

    #[test]
    fn a_judge_that_always_gives_the_top_score_is_reported() {
        assert!(of(&[(4.0, 15), (5.0, 85)]).saturation().unwrap().contains("85 %"));
        assert!(of(&[(4.0, 21), (5.0, 79)]).saturation().is_none());
        assert!(of(&[(3.0, 100)]).saturation().unwrap().contains("0.00 bits"));
        assert!(of(&[]).saturation().is_none());
    }

    #[test]
    fn the_histogram_is_sorted_and_entropy_is_in_bits() {
        let statistics = of(&[(5.0, 2), (1.0, 2), (4.5, 4)]);
        let scores: Vec<f64> = statistics.histogram.iter().map(|entry| entry.score).collect();
        assert_eq!(scores, [1.0, 4.5, 5.0]);
        assert!((statistics.entropy - 1.5).abs() < 1e-12);
    }
}
