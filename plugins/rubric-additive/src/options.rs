//! The options and what they may be.

use metareward_api::OptionError;
use metareward_plugin::{Aggregate, Conflict, Guard, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`crate::Additive`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdditiveOptions {
    /// The judge's prompt, with `{{prompt}}` and `{{response}}` and, where wanted, `{{criteria}}`, `{{closing}}`,
    /// `{{min}}` and `{{max}}`.
    pub template: String,
    /// The scoring rules; also what the meta-judge is shown.
    pub criteria: String,
    /// The line that a judgment ends with, with `{{score}}` in it.
    pub score_line: String,
    /// Lowest and highest score.
    pub scale: [f64; 2],
    /// How a reward is made of scores.
    pub aggregate: Aggregate,
    /// What is made of closing lines with different scores.
    pub conflict: Conflict,
    /// What happens to parts of the template that occur in a question or response.
    pub guard: Guard,
}

impl Default for AdditiveOptions {
    fn default() -> Self {
        Self {
            template: include_str!("template.txt").trim_end().to_owned(),
            criteria: include_str!("criteria.txt").trim_end().to_owned(),
            score_line: "Score: {{score}}".to_owned(),
            scale: [0.0, 5.0],
            aggregate: Aggregate::Mean,
            conflict: Conflict::Refuse,
            guard: Guard::Escape,
        }
    }
}

impl Options for AdditiveOptions {
    fn check(&self) -> Result<(), OptionError> {
        let [min, max] = self.scale;
        if !(min.is_finite() && max.is_finite() && min < max) {
            let message = format!("expected a lower and a higher number, found [{min}, {max}]");
            return Err(OptionError::at("scale", message));
        }
        Ok(())
    }
}
