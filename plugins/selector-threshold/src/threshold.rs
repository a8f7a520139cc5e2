//! Who fits, and who of them is taken.

use std::cmp::Ordering;

use metareward_api::{
    Candidate, Kind, NoPair, OptionError, Plugin, PluginError, PluginInfo, Selection, Selector, SelectorPromises,
};
use metareward_plugin::{FromOptions, Options, score_range};

use crate::{Prefer, ThresholdOptions};

/// Chosen above one score, rejected below another, and a gap between them.
#[derive(Clone, Debug)]
pub struct Threshold {
    options: ThresholdOptions,
}

/// The two sides of a pair.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Chosen,
    Rejected,
}

impl FromOptions for Threshold {
    type Options = ThresholdOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Selector,
            name: "threshold".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "chosen from a score upwards, rejected from a score downwards, a least gap between them"
                .to_owned(),
        }
    }

    fn from_options(options: ThresholdOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Threshold {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Selector for Threshold {
    /// Indifference to order.
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        Ok(SelectorPromises { ignores_order: true, ..SelectorPromises::default() })
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(self.options.unit.name())
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        groups.iter().enumerate().map(|(item, group)| self.pair(item, group)).collect()
    }
}

impl Threshold {
    fn pair(&self, item: usize, group: &[Candidate]) -> Result<Result<Selection, NoPair>, PluginError> {
        let ThresholdOptions { chosen_min, rejected_max, min_gap, unit, tolerance, .. } = self.options;
        let Some([lowest, highest]) = score_range(item, group)? else { return Ok(Err(NoPair::TooFewCandidates)) };
        if highest - lowest <= tolerance {
            return Ok(Err(NoPair::EqualScores));
        }
        let floor = chosen_min.unwrap_or(f64::NEG_INFINITY) - tolerance;
        let ceiling = rejected_max.unwrap_or(f64::INFINITY) + tolerance;
        let Some((chosen, upper)) = self.take(group, Side::Chosen, |score| score >= floor) else {
            return Ok(Err(NoPair::Other(format!("no score of at least {}", chosen_min.unwrap_or(floor)))));
        };
        let Some((rejected, lower)) = self.take(group, Side::Rejected, |score| score <= ceiling) else {
            return Ok(Err(NoPair::Other(format!("no score of at most {}", rejected_max.unwrap_or(ceiling)))));
        };
        if chosen == rejected {
            return Ok(Err(NoPair::SameCandidate));
        }
        let gap = upper.score - lower.score;
        if gap <= 0.0 {
            // Only where the thresholds do not part the candidates and the scores do not decide between them.
            return Ok(Err(NoPair::Other("chosen scores no higher than rejected".to_owned())));
        }
        if gap < min_gap - tolerance {
            return Ok(Err(NoPair::Other(format!("scores less than {min_gap} apart"))));
        }
        let (chosen_length, rejected_length) = (unit.length(upper), unit.length(lower));
        Ok(Ok(Selection { chosen, rejected, chosen_length, rejected_length }))
    }

    /// The candidate that fits and that its side prefers.
    fn take<'a>(&self, group: &'a [Candidate], side: Side, fits: impl Fn(f64) -> bool) -> Option<(u32, &'a Candidate)> {
        let fitting = (0u32..).zip(group).filter(|(_, candidate)| fits(candidate.score));
        fitting.min_by(|(i, a), (j, b)| self.preference(side, a, b).then(i.cmp(j)))
    }

    /// `Less` where `side` prefers `a`.
    fn preference(&self, side: Side, a: &Candidate, b: &Candidate) -> Ordering {
        let toward = |order: Ordering| if side == Side::Chosen { order } else { order.reverse() };
        let by_score = toward(b.score.total_cmp(&a.score));
        let by_length = toward(self.options.unit.length(a).cmp(&self.options.unit.length(b)));
        let random = a.tie_break.cmp(&b.tie_break);
        match self.options.prefer {
            Prefer::Score => by_score.then(by_length).then(random),
            Prefer::Length => by_length.then(by_score).then(random),
            Prefer::Random => random,
        }
    }
}
