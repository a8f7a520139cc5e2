//! Intervals by the bootstrap: prompts are drawn with replacement, and the statistic is computed on each draw.

use serde::{Deserialize, Serialize};

use crate::Groups;
use crate::random::Random;

/// A figure: what was measured, on how much, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The statistic on all measurements.
    pub value: f64,
    /// Interval around it. `None` with fewer than two prompts, or when the statistic is undefined on too many draws.
    pub interval: Option<Interval>,
    /// Number of measurements.
    pub n: usize,
    /// Number of prompts that they belong to.
    pub prompts: usize,
}

/// Bounds of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies between the bounds or on one.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A statistic of groups; `None` where it is undefined, such as the mean of nothing.
pub type Statistic<'a, T> = &'a dyn Fn(&[&[T]]) -> Option<f64>;

/// How intervals are made: percentile bootstrap over prompts (Efron and Tibshirani 1993, chapter 13).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of draws.
    pub draws: u32,
    /// Share of draws inside the interval, from 0 to 1.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1000 draws, 95 %.
    fn default() -> Self {
        Bootstrap { draws: 1000, level: 0.95, seed: 1 }
    }
}

/// An interval is given only if the statistic is defined on at least this share of the draws.
const DEFINED: f64 = 0.95;

impl Bootstrap {
    /// The statistic with its interval. `None` if it is undefined on the measurements.
    pub fn figure<T>(&self, groups: &Groups<T>, statistic: Statistic<T>) -> Option<Figure> {
        let all: Vec<&[T]> = groups.iter().map(|(_, values)| values).collect();
        let value = statistic(&all)?;
        let mut drawn = Vec::with_capacity(all.len());
        let interval = self.interval(all.len(), &mut |prompts| {
            drawn.clear();
            drawn.extend(prompts.iter().map(|prompt| all[*prompt]));
            statistic(&drawn)
        });
        Some(Figure { value, interval, n: groups.len(), prompts: all.len() })
    }

    /// The statistic of `ours` minus that of `theirs`, on the prompts that both have. The same prompts are drawn for both,
    /// so what makes a prompt hard for both cancels. `n` counts the measurements of the side that has fewer.
    pub fn difference<T>(&self, ours: &Groups<T>, theirs: &Groups<T>, statistic: Statistic<T>) -> Option<Figure> {
        let both: Vec<(&[T], &[T])> = ours
            .iter()
            .map(|(prompt, values)| (values, theirs.of(prompt)))
            .filter(|(_, others)| !others.is_empty())
            .collect();
        let (left, right): (Vec<&[T]>, Vec<&[T]>) = both.iter().copied().unzip();
        let value = statistic(&left)? - statistic(&right)?;
        let (mut drawn, mut others) = (Vec::with_capacity(both.len()), Vec::with_capacity(both.len()));
        let interval = self.interval(both.len(), &mut |prompts| {
            drawn.clear();
            drawn.extend(prompts.iter().map(|prompt| left[*prompt]));
            others.clear();
            others.extend(prompts.iter().map(|prompt| right[*prompt]));
            Some(statistic(&drawn)? - statistic(&others)?)
        });
        let count = |side: &[&[T]]| side.iter().map(|values| values.len()).sum::<usize>();
        Some(Figure { value, interval, n: count(&left).min(count(&right)), prompts: both.len() })
    }

    /// Draws `prompts` of `prompts` again and again, and takes the middle of what the statistic says.
    fn interval(&self, prompts: usize, statistic: &mut dyn FnMut(&[usize]) -> Option<f64>) -> Option<Interval> {
        if prompts < 2 || self.draws == 0 {
            return None;
        }
        let mut random = Random::new(self.seed);
        let mut chosen = vec![0; prompts];
        let mut values = Vec::with_capacity(self.draws as usize);
        for _ in 0..self.draws {
            chosen.fill_with(|| random.below(prompts));
            values.extend(statistic(&chosen).filter(|value| value.is_finite()));
        }
        if (values.len() as f64) < DEFINED * f64::from(self.draws) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level.clamp(0.0, 1.0)) / 2.0;
        Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? })
    }
}

/// Quantile of sorted values, with straight lines between them (numpy's default, type 7 of Hyndman and Fan 1996). `None`
/// of nothing.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = (place.floor() as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * (place - below as f64))
}
