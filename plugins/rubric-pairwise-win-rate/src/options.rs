//! The options and what they may be.

use metareward_api::OptionError;
use metareward_plugin::{Guard, Options, check_labels};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`crate::PairwiseWinRate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PairwiseWinRateOptions {
    /// The judge's prompt, with `{{prompt}}`, `{{response}}` (shown first) and `{{opponent}}` (shown second) and, where wanted,
    /// `{{criteria}}`, `{{closing}}`, `{{first_label}}` and `{{second_label}}`.
    pub template: String,
    /// What makes an answer the better one; also what the meta-judge is shown.
    pub criteria: String,
    /// The line that a judgment ends with, with `{{winner}}` in it.
    pub winner_line: String,
    /// What the answer shown first and the one shown second are called: two different words.
    pub labels: [String; 2],
    /// Whether the judge may call a tie, which counts half; without, such a judgment is unreadable.
    pub ties: bool,
    /// What happens to parts of the template that occur in a question or an answer.
    pub guard: Guard,
}

impl Default for PairwiseWinRateOptions {
    fn default() -> Self {
        Self {
            template: include_str!("template.txt").trim_end().to_owned(),
            criteria: include_str!("criteria.txt").trim_end().to_owned(),
            winner_line: "Winner: {{winner}}".to_owned(),
            labels: ["A".to_owned(), "B".to_owned()],
            ties: true,
            guard: Guard::Escape,
        }
    }
}

impl Options for PairwiseWinRateOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_labels(&self.labels)
    }
}
