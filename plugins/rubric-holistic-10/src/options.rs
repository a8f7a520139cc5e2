//! The options.

use metareward_plugin::{Aggregate, Conflict, Guard, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`crate::Holistic10`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Holistic10Options {
    /// The judge's prompt, with `{{prompt}}` and `{{response}}` and, where wanted, `{{criteria}}` and `{{closing}}`.
    pub template: String,
    /// What to look at and what the numbers mean; also what the meta-judge is shown.
    pub criteria: String,
    /// The line that a judgment ends with, with `{{score}}` in it.
    pub score_line: String,
    /// How a reward is made of scores.
    pub aggregate: Aggregate,
    /// What is made of closing lines with different scores.
    pub conflict: Conflict,
    /// What happens to parts of the template that occur in a question or response.
    pub guard: Guard,
}

impl Default for Holistic10Options {
    fn default() -> Self {
        Self {
            template: include_str!("template.txt").trim_end().to_owned(),
            criteria: include_str!("criteria.txt").trim_end().to_owned(),
            score_line: "Score: {{score}}".to_owned(),
            aggregate: Aggregate::Mean,
            conflict: Conflict::Refuse,
            guard: Guard::Escape,
        }
    }
}

impl Options for Holistic10Options {}
