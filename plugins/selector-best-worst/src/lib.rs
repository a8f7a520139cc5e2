//! Selector: the highest score against the lowest (the preference pairs of Yuan et al. 2024).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::cmp::Ordering;

use metareward_api::{
    Candidate, Kind, NoPair, OptionError, Plugin, PluginError, PluginInfo, Selection, Selector, SelectorPromises,
};
use metareward_plugin::{FromOptions, Options, Unit, score_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of several equally good (or bad) candidates is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// The shortest of the best, the longest of the worst; then one at random.
    Length,
    /// One at random, seeded.
    Random,
}

/// Options of [`BestWorst`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BestWorstOptions {
    /// Which of several equally good (or bad) candidates is taken.
    pub ties: Ties,
    /// What lengths are measured in.
    pub unit: Unit,
    /// Scores that differ by no more than this count as equal: what rounding makes of one number.
    #[schemars(range(min = 0.0))]
    pub tolerance: f64,
}

impl Default for BestWorstOptions {
    fn default() -> Self {
        Self { ties: Ties::Length, unit: Unit::Characters, tolerance: 1e-9 }
    }
}

impl Options for BestWorstOptions {
    fn check(&self) -> Result<(), OptionError> {
        if self.tolerance.is_finite() && self.tolerance >= 0.0 {
            return Ok(());
        }
        Err(OptionError::at("tolerance", format!("expected a number from 0, found {}", self.tolerance)))
    }
}

/// The highest score against the lowest.
#[derive(Clone, Debug)]
pub struct BestWorst {
    options: BestWorstOptions,
}

impl FromOptions for BestWorst {
    type Options = BestWorstOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Selector,
            name: "best-worst".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "the highest score against the lowest".to_owned(),
        }
    }

    fn from_options(options: BestWorstOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for BestWorst {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Selector for BestWorst {
    /// Indifference to order, and where ties go by length the paper's tiers at rho 0.
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        let BestWorstOptions { ties, tolerance, .. } = self.options;
        Ok(SelectorPromises {
            rho: (ties == Ties::Length && tolerance <= 1e-9).then_some(0.0),
            max_chosen_length: None,
            ignores_order: true,
        })
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(self.options.unit.name())
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        groups.iter().enumerate().map(|(item, group)| self.pair(item, group)).collect()
    }
}

impl BestWorst {
    fn pair(&self, item: usize, group: &[Candidate]) -> Result<Result<Selection, NoPair>, PluginError> {
        let BestWorstOptions { ties, unit, tolerance } = self.options;
        let Some([lowest, highest]) = score_range(item, group)? else { return Ok(Err(NoPair::TooFewCandidates)) };
        if highest - lowest <= tolerance {
            return Ok(Err(NoPair::EqualScores));
        }
        // The first of candidates that nothing tells apart, and only then does order matter.
        let first = |toward: fn(Ordering) -> Ordering, keep: &dyn Fn(f64) -> bool| {
            (0u32..).zip(group).filter(|(_, candidate)| keep(candidate.score)).min_by(|(i, a), (j, b)| {
                let random = a.tie_break.cmp(&b.tie_break).then(i.cmp(j));
                match ties {
                    Ties::Length => toward(unit.length(a).cmp(&unit.length(b))).then(random),
                    Ties::Random => random,
                }
            })
        };
        let chosen = first(|order| order, &|score| score >= highest - tolerance);
        let rejected = first(Ordering::reverse, &|score| score <= lowest + tolerance);
        let (Some((chosen, best)), Some((rejected, worst))) = (chosen, rejected) else {
            return Err(PluginError::at(item, "the scores are too far apart to be compared"));
        };
        // Both only where the tolerance is half the range or more.
        if chosen == rejected {
            return Ok(Err(NoPair::SameCandidate));
        }
        if best.score <= worst.score {
            return Ok(Err(NoPair::EqualScores));
        }
        let (chosen_length, rejected_length) = (unit.length(best), unit.length(worst));
        Ok(Ok(Selection { chosen, rejected, chosen_length, rejected_length }))
    }
}

metareward_plugin::export!(selector: BestWorst);
