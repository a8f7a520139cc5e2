//! The options and what they may be.

use metareward_api::{OptionError, Sampling};
use metareward_plugin::{Options, check_sampling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`crate::TopNSigma`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopNSigmaOptions {
    /// Keeps tokens whose logit is at most this many standard deviations below the largest; 0 keeps the largest alone.
    #[schemars(range(min = 0.0))]
    pub n: f64,
    /// Divides the logits of the kept tokens; 0 takes the most probable token. It does not change which are kept.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// How many of the most probable tokens the standard deviation is taken over; `null` is the whole vocabulary, as in the
    /// paper. Fewer are faster and, because the spread is smaller, keep fewer tokens.
    #[schemars(range(min = 1))]
    pub candidates: Option<u32>,
    /// Longest answer in tokens.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
    /// Texts that end an answer.
    pub stop: Vec<String>,
}

impl TopNSigmaOptions {
    /// The plan of every draw. Temperature is in it for the record; the engine leaves it to the sampler.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
        }
    }
}

impl Default for TopNSigmaOptions {
    fn default() -> Self {
        Self { n: 1.0, temperature: 1.0, candidates: None, max_tokens: 1024, stop: Vec::new() }
    }
}

impl Options for TopNSigmaOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.n.is_finite() && self.n >= 0.0) {
            return Err(OptionError::at("n", format!("expected a number from 0, found {}", self.n)));
        }
        if self.candidates == Some(0) {
            let message = "expected a whole number from 1; leave it out for the whole vocabulary";
            return Err(OptionError::at("candidates", message));
        }
        check_sampling(&self.sampling())
    }
}
