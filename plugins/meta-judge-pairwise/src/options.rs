//! The options and what they may be.

use metareward_api::{OptionError, WeightScope};
use metareward_plugin::{Guard, Options, check_labels};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is made of two orders of one pair that name different judgments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Disagreement {
    /// Both wins count, each with its position's weight: the paper.
    Weigh,
    /// Both count as ties: the public implementation attempt.
    Tie,
}

/// What [`WeightScope`] looks like in options.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used: the records' crate has none")]
enum ScopeSchema {
    /// The verdicts on one response.
    Response,
    /// All verdicts of an iteration.
    Iteration,
    /// All verdicts of the run up to and including the iteration.
    Run,
}

/// Options of [`crate::Pairwise`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PairwiseOptions {
    /// The meta-judge's prompt, with `{{first}}` and `{{second}}` and, where wanted, `{{prompt}}`, `{{response}}`,
    /// `{{criteria}}`, `{{closing}}`, `{{first_label}}` and `{{second_label}}`.
    pub template: String,
    /// The line that a verdict ends with, with `{{winner}}` in it.
    pub winner_line: String,
    /// What the judgment shown first and the one shown second are called: two different words.
    pub labels: [String; 2],
    /// Over which verdicts the wins of the positions are counted.
    #[schemars(with = "ScopeSchema")]
    pub scope: WeightScope,
    /// Whether wins are weighted against position bias; without, every win weighs a half.
    pub position_weights: bool,
    /// What is made of two orders that disagree.
    pub disagreement: Disagreement,
    /// A closing line with `{{score}}`, for example `Score: {{score}}`, that is taken out of the judgments before they
    /// are shown; `null` shows them whole.
    pub strip_score: Option<String>,
    /// What happens to parts of the template that occur in inserted text.
    pub guard: Guard,
}

impl Default for PairwiseOptions {
    fn default() -> Self {
        Self {
            template: include_str!("template.txt").trim_end().to_owned(),
            winner_line: "Winner: {{winner}}".to_owned(),
            labels: ["A".to_owned(), "B".to_owned()],
            scope: WeightScope::Iteration,
            position_weights: true,
            disagreement: Disagreement::Weigh,
            strip_score: None,
            guard: Guard::Escape,
        }
    }
}

impl Options for PairwiseOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_labels(&self.labels)
    }
}
