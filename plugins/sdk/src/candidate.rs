//! What selectors have in common.

use metareward_api::{Candidate, PluginError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What lengths are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Unicode scalar values.
    Characters,
    /// Tokens of the model.
    Tokens,
}

impl Unit {
    /// The name that [`metareward_api::Selector::length_unit`] returns.
    pub fn name(self) -> String {
        match self {
            Unit::Characters => "characters",
            Unit::Tokens => "tokens",
        }
        .to_owned()
    }

    /// The candidate's length.
    pub fn length(self, candidate: &Candidate) -> u32 {
        match self {
            Unit::Characters => candidate.characters,
            Unit::Tokens => candidate.tokens,
        }
    }
}

/// Lowest and highest score of a group; `None` where there are fewer than two candidates.
///
/// # Errors
/// When a score is not finite; `item` is the group's index in the batch.
pub fn score_range(item: usize, group: &[Candidate]) -> Result<Option<[f64; 2]>, PluginError> {
    if let Some((index, bad)) = group.iter().enumerate().find(|(_, candidate)| !candidate.score.is_finite()) {
        return Err(PluginError::at(item, format!("candidate {index} has the score {}", bad.score)));
    }
    if group.len() < 2 {
        return Ok(None);
    }
    let lowest = group.iter().map(|candidate| candidate.score).fold(f64::INFINITY, f64::min);
    let highest = group.iter().map(|candidate| candidate.score).fold(f64::NEG_INFINITY, f64::max);
    Ok(Some([lowest, highest]))
}
