//! Means, shares, and what scores are spread over.

use metareward_api::PromptId;
use serde::{Deserialize, Serialize};

use crate::{Bootstrap, Figure, Groups};

/// Mean of all values. `None` of nothing.
pub fn mean_of(groups: &[&[f64]]) -> Option<f64> {
    let count: usize = groups.iter().map(|values| values.len()).sum();
    (count > 0).then(|| groups.iter().flat_map(|values| values.iter()).sum::<f64>() / count as f64)
}

/// Mean of all values, with its interval.
pub fn mean(values: &Groups<f64>, bootstrap: &Bootstrap) -> Option<Figure> {
    bootstrap.figure(values, &mean_of)
}

/// Share of values that are at least `threshold`, from 0 to 1: of perfect answers, with the full points as the
/// threshold.
pub fn share_from(values: &Groups<f64>, threshold: f64, bootstrap: &Bootstrap) -> Option<Figure> {
    mean(&reaches(values, threshold), bootstrap)
}

/// 1 for each value that is at least `threshold`, 0 for each other.
pub fn reaches(values: &Groups<f64>, threshold: f64) -> Groups<f64> {
    values.map(|value| f64::from(u8::from(*value >= threshold)))
}

/// For each prompt that both have: the share of comparisons that `model` wins, each of its answers against each answer of
/// the other, a tie as half a win. One value per prompt.
pub fn wins(model: &Groups<f64>, baseline: &Groups<f64>) -> Groups<f64> {
    let mut wins: Vec<(PromptId, f64)> = Vec::new();
    for (prompt, ours) in model.iter() {
        let theirs = baseline.of(prompt);
        let comparisons = ours.len() * theirs.len();
        if comparisons == 0 {
            continue;
        }
        let points = ours.iter().flat_map(|our| theirs.iter().map(move |their| point(*our, *their)));
        wins.push((prompt.clone(), points.sum::<f64>() / comparisons as f64));
    }
    wins.into_iter().collect()
}

/// Win rate of `model` against `baseline` on the same prompts, from 0 to 1; every prompt counts the same.
pub fn win_rate(model: &Groups<f64>, baseline: &Groups<f64>, bootstrap: &Bootstrap) -> Option<Figure> {
    mean(&wins(model, baseline), bootstrap)
}

/// 1 for a win, 0 for a loss, half for a tie.
fn point(ours: f64, theirs: f64) -> f64 {
    match ours.partial_cmp(&theirs) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => 0.0,
        _ => 0.5,
    }
}

/// How often each score occurs. A judge that gives one score to everything teaches nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Scores in rising order, each with its number of occurrences.
    pub counts: Vec<(f64, u64)>,
}

impl Spread {
    /// Counts scores.
    pub fn of<'a>(scores: impl IntoIterator<Item = &'a f64>) -> Spread {
        // Zero has two signs and is one score.
        let mut sorted: Vec<f64> = scores.into_iter().map(|score| score + 0.0).collect();
        sorted.sort_by(f64::total_cmp);
        let mut counts: Vec<(f64, u64)> = Vec::new();
        for score in sorted {
            match counts.last_mut() {
                Some((last, count)) if last.total_cmp(&score).is_eq() => *count += 1,
                _ => counts.push((score, 1)),
            }
        }
        Spread { counts }
    }

    /// Number of scores.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Entropy in bits: 0 when every score is the same, 1 when two are equally frequent. `None` of nothing.
    pub fn entropy(&self) -> Option<f64> {
        let total = self.total();
        let shares = self.counts.iter().map(|(_, count)| *count as f64 / total as f64);
        (total > 0).then(|| shares.map(|share| -share * share.log2()).sum::<f64>().max(0.0))
    }

    /// The most frequent score and its share, the lower one of two that are equally frequent. `None` of nothing.
    pub fn mode(&self) -> Option<(f64, f64)> {
        let (score, count) = self.counts.iter().rev().max_by_key(|(_, count)| *count)?;
        Some((*score, *count as f64 / self.total() as f64))
    }
}
