//! The options and what they may be.

use metareward_api::OptionError;
use metareward_plugin::{Options, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of several candidates that fit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The best on the chosen side, the worst on the rejected side; of equally good ones as by length.
    Score,
    /// The shortest on the chosen side, the longest on the rejected side; of equally long ones as by score.
    Length,
    /// One at random, seeded.
    Random,
}

/// Options of [`crate::Threshold`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdOptions {
    /// Only candidates with at least this score can be chosen; `null` sets no threshold.
    pub chosen_min: Option<f64>,
    /// Only candidates with at most this score can be rejected; `null` sets no threshold. Below `chosen_min`.
    pub rejected_max: Option<f64>,
    /// Chosen must score higher than rejected by at least this.
    #[schemars(range(min = 0.0))]
    pub min_gap: f64,
    /// Which of several candidates that fit is taken. Without both thresholds only `score` makes the widest pair.
    pub prefer: Prefer,
    /// What lengths are measured in.
    pub unit: Unit,
    /// Differences of scores up to this are rounding: a score this much short of a threshold fits.
    #[schemars(range(min = 0.0))]
    pub tolerance: f64,
}

impl Default for ThresholdOptions {
    fn default() -> Self {
        Self {
            chosen_min: None,
            rejected_max: None,
            min_gap: 1.0,
            prefer: Prefer::Score,
            unit: Unit::Characters,
            tolerance: 1e-9,
        }
    }
}

impl Options for ThresholdOptions {
    fn check(&self) -> Result<(), OptionError> {
        for (key, value) in [("min_gap", self.min_gap), ("tolerance", self.tolerance)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(OptionError::at(key, format!("expected a number from 0, found {value}")));
            }
        }
        if let (Some(chosen), Some(rejected)) = (self.chosen_min, self.rejected_max)
            && rejected >= chosen
        {
            let message = format!("expected a number below `chosen_min` ({chosen}), found {rejected}");
            return Err(OptionError::at("rejected_max", message));
        }
        Ok(())
    }
}
