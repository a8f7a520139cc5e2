//! The options and what they may be.

use metareward_api::OptionError;
use metareward_plugin::{Options, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which candidate of a tier is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The shortest of the upper tier, the longest of the lower one: actor pairs.
    Length,
    /// One at random of either tier, seeded: judge pairs.
    Random,
}

/// Which of several equally long candidates is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// The better one on the chosen side, the worse one on the rejected side; then at random.
    Score,
    /// One at random, seeded.
    Random,
    /// The one that was drawn first.
    First,
}

/// Options of [`crate::LengthControl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthControlOptions {
    /// Width of the two tiers as a share of the range of scores, from 0 to 1. 0 is best against worst.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rho: f64,
    /// A pair whose chosen text is longer than this is dropped; `null` keeps all.
    #[schemars(range(min = 1))]
    pub max_chosen_length: Option<u32>,
    /// What lengths are measured in.
    pub unit: Unit,
    /// Which candidate of a tier is taken.
    pub prefer: Prefer,
    /// Which of several equally long candidates is taken.
    pub ties: Ties,
    /// Scores that differ by no more than this count as equal: what rounding makes of one number.
    #[schemars(range(min = 0.0))]
    pub tolerance: f64,
}

impl Default for LengthControlOptions {
    fn default() -> Self {
        Self {
            rho: 0.0,
            max_chosen_length: None,
            unit: Unit::Characters,
            prefer: Prefer::Length,
            ties: Ties::Score,
            tolerance: 1e-9,
        }
    }
}

impl Options for LengthControlOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(0.0..=1.0).contains(&self.rho) {
            return Err(OptionError::at("rho", format!("expected a number from 0 to 1, found {}", self.rho)));
        }
        if self.max_chosen_length == Some(0) {
            return Err(OptionError::at(
                "max_chosen_length",
                "expected a whole number from 1; leave it out for no limit",
            ));
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            return Err(OptionError::at("tolerance", format!("expected a number from 0, found {}", self.tolerance)));
        }
        Ok(())
    }
}
