//! Where things lie in a run folder.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Which part of a run a stage belongs to: a folder of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// `sft/`.
    Sft,
    /// `iteration-<t>/`, from 1.
    Iteration(u32),
    /// `evaluation/<model>/`, with the model's name (`seed`, `sft`, `M1` …) or `held-out` for the prompts.
    Evaluation(String),
}

impl Place {
    /// The folder, relative to the run.
    pub fn folder(&self) -> PathBuf {
        match self {
            Place::Sft => "sft".into(),
            Place::Iteration(iteration) => format!("iteration-{iteration}").into(),
            Place::Evaluation(model) => Path::new("evaluation").join(model),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Sft => f.write_str("SFT"),
            Place::Iteration(iteration) => write!(f, "iteration {iteration}"),
            Place::Evaluation(model) => write!(f, "evaluation of {model}"),
        }
    }
}

/// A stage: what is made of what came before, in shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The prompts worked on; records are [`metareward_api::Prompt`].
    Prompts,
    /// SFT's examples; records are [`metareward_api::Example`].
    Examples,
    /// K responses per prompt; [`metareward_api::Response`].
    Responses,
    /// N judgments per distinct response; [`metareward_api::Judgment`].
    Judgments,
    /// The meta-judge's answers; [`metareward_api::Verdict`].
    Verdicts,
    /// Ratings of judgments; [`metareward_api::RatedResponse`].
    Ratings,
    /// Preference pairs; [`metareward_api::Pair`].
    Pairs,
    /// Prompts that gave no pair, with the reason; [`crate::Unpaired`].
    Unpaired,
    /// Reference log-probabilities of the pairs; [`crate::ReferenceLogProbs`].
    Reference,
    /// Training of the next model. Its folder is the trainer's.
    Training,
    /// The oracle's points of evaluated responses; [`crate::Points`].
    Points,
}

impl Stage {
    /// Name of the stage's folder, also as shown.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Prompts => "prompts",
            Stage::Examples => "examples",
            Stage::Responses => "responses",
            Stage::Judgments => "judgments",
            Stage::Verdicts => "verdicts",
            Stage::Ratings => "ratings",
            Stage::Pairs => "pairs",
            Stage::Unpaired => "unpaired",
            Stage::Reference => "reference",
            Stage::Training => "training",
            Stage::Points => "points",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
