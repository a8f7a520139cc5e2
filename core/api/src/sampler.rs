//! Plugin kind *sampler*: how answers are drawn.

use serde::{Deserialize, Serialize};

use crate::{Plugin, PluginError};

/// Parameters of one draw, in the order in which the engine applies them: temperature, top-k, top-p, min-p
/// (the order of transformers' logits processors).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits. 0 takes the most probable token.
    pub temperature: f64,
    /// Keeps the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f64,
    /// Keeps this many of the most probable tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keeps tokens at least this probable relative to the most probable one; 0 keeps all.
    #[serde(default)]
    pub min_p: f64,
    /// Longest answer in tokens.
    pub max_tokens: u32,
    /// Texts that end an answer; not part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// What a sampler is asked: a prompt and how many draws of it are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplerItem {
    /// Length of the text that is to be continued, in characters.
    pub characters: u32,
    /// Number of draws.
    pub draws: u32,
}

/// How one draw is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrawPlan {
    /// Parameters of the draw.
    pub sampling: Sampling,
    /// Added to the draw's own seed, so that a sampler can ask for common or for separate random numbers.
    pub seed_offset: u64,
}

/// The most probable next tokens of one answer, for [`Sampler::reshape`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextTokens {
    /// Which draw of its prompt the answer is, from 0.
    pub draw: u32,
    /// How many tokens the answer has already.
    pub position: u32,
    /// Ids of the tokens, most probable first.
    pub tokens: Vec<u32>,
    /// Their logits, temperature not applied, in the same order.
    pub logits: Vec<f64>,
}

/// Decides how answers are drawn (paper section 2, steps 1 and 2).
pub trait Sampler: Plugin {
    /// One plan per draw of every item: `result[i].len() == items[i].draws`.
    ///
    /// # Errors
    /// When an item cannot be planned for.
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError>;

    /// How many of the most probable tokens [`Sampler::reshape`] wants to see of every answer at every step. `None`: the
    /// plans say everything, and `reshape` is never called.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(None)
    }

    /// The probability of each token shown, one list per row: for distributions that the parameters of a plan cannot
    /// express. Called once per step for all answers being written. Temperature, top-p, top-k and min-p of the plan are
    /// not applied to such an answer; length and stop texts are.
    ///
    /// # Errors
    /// When a row cannot be answered.
    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        let _ = rows;
        Err(PluginError::new("this sampler has plans only"))
    }
}
