//! Plugin kind *task*: what the model works on.

use serde::{Deserialize, Serialize};

use crate::{Plugin, PluginError, Prompt, Scale};

/// A response with a mark, to learn judging from (EFT of Yuan et al. 2024).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeExample {
    /// The question.
    pub prompt: String,
    /// The answer judged.
    pub response: String,
    /// The judgment to learn: reasoning and closing line as the rubric reads them.
    pub judgment: String,
}

/// Two judgments with a winner, to learn meta-judging from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetaExample {
    /// The question.
    pub prompt: String,
    /// The answer judged.
    pub response: String,
    /// The judgment shown first.
    pub first: String,
    /// The judgment shown second.
    pub second: String,
    /// The verdict to learn: reasoning and closing line as the meta-judge reads them.
    pub verdict: String,
}

/// A prompt with an answer, to learn answering from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demonstration {
    /// The question.
    pub prompt: Prompt,
    /// The answer to learn.
    pub response: String,
}

/// Where prompts and examples come from, and, where there is one, an oracle.
///
/// `seed` selects which examples are drawn; the same seed gives the same examples, and a longer list begins with the
/// shorter one.
pub trait Task: Plugin {
    /// Up to `n` distinct prompts; fewer where the task has no more.
    ///
    /// # Errors
    /// When the task cannot make or read them.
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError>;

    /// Up to `n` answers to learn from; none where the task has none.
    ///
    /// # Errors
    /// When the task cannot make or read them.
    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError>;

    /// Up to `n` judgments to learn from; none where the task has none.
    ///
    /// # Errors
    /// When the task cannot make or read them.
    fn judge_examples(&self, seed: u64, n: u32) -> Result<Vec<JudgeExample>, PluginError>;

    /// Up to `n` verdicts to learn from; none where the task has none.
    ///
    /// # Errors
    /// When the task cannot make or read them.
    fn meta_examples(&self, seed: u64, n: u32) -> Result<Vec<MetaExample>, PluginError>;

    /// The exact points of each response on the rubric's scale, used for measuring only and never for training.
    /// `None`: the task has no oracle.
    ///
    /// # Errors
    /// When a prompt is not one of the task's.
    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError>;

    /// The scale of the oracle's points. `None`: the task has no oracle, or does not say.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        Ok(None)
    }

    /// An answer to each prompt that the oracle gives full points. `None`: the task cannot make such answers.
    ///
    /// # Errors
    /// When a prompt is not one of the task's.
    fn perfect_answers(&self, prompts: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        let _ = prompts;
        Ok(None)
    }
}
