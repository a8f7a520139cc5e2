//! Plugin kind *rubric*: what the judge is asked and how its answer is read.

use serde::{Deserialize, Serialize};

use crate::{Message, Plugin, PluginError, Unreadable};

/// The range of valid scores. Fractions between the ends are valid (paper section 2, step 2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Lowest score.
    pub min: f64,
    /// Highest score.
    pub max: f64,
}

impl Scale {
    /// Whether `score` is a number on the scale.
    pub fn contains(&self, score: f64) -> bool {
        score.is_finite() && score >= self.min && score <= self.max
    }
}

/// A response to be judged, alone or beside another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RubricItem<'a> {
    /// The question.
    pub prompt: &'a str,
    /// The answer.
    pub response: &'a str,
    /// Another answer to the same question, where [`Rubric::compares`] asks for one: shown after `response`.
    pub opponent: Option<&'a str>,
}

/// Asks the judge, reads its answer, and makes a reward of many answers (paper section 2).
pub trait Rubric: Plugin {
    /// The range of valid scores.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn scale(&self) -> Result<Scale, PluginError>;

    /// The scoring rules alone, as the meta-judge is shown them.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn criteria(&self) -> Result<String, PluginError>;

    /// Whether a response is judged beside another one. The score is then that of the answer shown first; the loop shows
    /// a response in both places in turn, and mirrors the score on the scale where it was shown second.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn compares(&self) -> Result<bool, PluginError> {
        Ok(false)
    }

    /// The conversation put to the judge, one per item.
    ///
    /// # Errors
    /// When the template does not render.
    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError>;

    /// The score in each text, or a named reason why there is none. Never guesses.
    ///
    /// # Errors
    /// When the plugin itself fails; an unreadable text is not an error.
    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError>;

    /// The line that a judge ends with when it gives `score`. `None`: the rubric does not say, and the law that such a
    /// line parses back to its score is not checked.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn closing_line(&self, _score: f64) -> Result<Option<String>, PluginError> {
        Ok(None)
    }

    /// The reward of each response from its valid scores: `None` where there are none.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError>;
}
