//! Selector: best against worst, where they are far enough apart.

use std::cmp::Reverse;

use metareward_plugin::{
    FromOptions, Options, Unit,
    api::{
        Candidate, Kind, NoPair, OptionError, Plugin, PluginError, PluginInfo, Selection, Selector,
        SelectorPromises,
    },
    score_range,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`ClearWinner`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClearWinnerOptions {
    /// How far apart the best and the worst score must be at least.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
    /// What lengths are measured in.
    pub unit: Unit,
}

impl Default for ClearWinnerOptions {
    fn default() -> Self {
        Self {
            margin: 0.5,
            unit: Unit::Characters,
        }
    }
}

impl Options for ClearWinnerOptions {
    fn check(&self) -> Result<(), OptionError> {
        if self.margin.is_finite() && self.margin >= 0.0 {
            return Ok(());
        }
        Err(OptionError::at(
            "margin",
            format!("expected a number from 0, found {}", self.margin),
        ))
    }
}

/// Best against worst.
#[derive(Clone, Debug)]
pub struct ClearWinner {
    options: ClearWinnerOptions,
}

impl FromOptions for ClearWinner {
    type Options = ClearWinnerOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Selector,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "best against worst, where they are far enough apart".to_owned(),
        }
    }

    fn from_options(options: ClearWinnerOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for ClearWinner {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl ClearWinner {
    fn pair(
        &self,
        item: usize,
        group: &[Candidate],
    ) -> Result<Result<Selection, NoPair>, PluginError> {
        let ClearWinnerOptions { margin, unit } = self.options;
        // Refuses scores that are not finite.
        let Some([lowest, highest]) = score_range(item, group)? else {
            return Ok(Err(NoPair::TooFewCandidates));
        };
        if highest <= lowest {
            return Ok(Err(NoPair::EqualScores));
        }
        if highest - lowest < margin {
            return Ok(Err(NoPair::Other(
                "best and worst are too close".to_owned(),
            )));
        }
        let all = || (0u32..).zip(group);
        // The shortest of the best and the longest of the worst; the seeded random number decides between equals.
        let best = all()
            .filter(|(_, candidate)| candidate.score >= highest)
            .min_by_key(|(index, candidate)| (unit.length(candidate), candidate.tie_break, *index));
        let worst = all()
            .filter(|(_, candidate)| candidate.score <= lowest)
            .min_by_key(|(index, candidate)| {
                (Reverse(unit.length(candidate)), candidate.tie_break, *index)
            });
        let (Some((chosen, best)), Some((rejected, worst))) = (best, worst) else {
            return Err(PluginError::at(item, "no candidate has the best score"));
        };
        let (chosen_length, rejected_length) = (unit.length(best), unit.length(worst));
        Ok(Ok(Selection {
            chosen,
            rejected,
            chosen_length,
            rejected_length,
        }))
    }
}

impl Selector for ClearWinner {
    /// What the laws hold this selector to beyond the laws of all selectors: the paper's tiers at rho 0.
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        Ok(SelectorPromises {
            rho: Some(0.0),
            max_chosen_length: None,
            ignores_order: true,
        })
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(self.options.unit.name())
    }

    fn select(
        &self,
        groups: &[Vec<Candidate>],
    ) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        groups
            .iter()
            .enumerate()
            .map(|(item, group)| self.pair(item, group))
            .collect()
    }
}

metareward_plugin::export!(selector: ClearWinner);
