//! Plugin kind *selector*: which two candidates become chosen and rejected.

use serde::{Deserialize, Serialize};

use crate::{NoPair, Plugin, PluginError};

/// A response with its reward, or a judgment with its rating.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Reward or rating.
    pub score: f64,
    /// Length of the text in characters (Unicode scalar values).
    pub characters: u32,
    /// Length of the text in tokens.
    pub tokens: u32,
    /// A seeded random number, the same for the same text in the same place of the same run: breaks ties.
    pub tie_break: u64,
}

/// The two that make a pair, by index in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Index of the preferred candidate.
    pub chosen: u32,
    /// Index of the other one.
    pub rejected: u32,
    /// Length of the chosen text in the selector's unit.
    pub chosen_length: u32,
    /// Length of the rejected text in the selector's unit.
    pub rejected_length: u32,
}

/// What not every honest selector promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SelectorPromises {
    /// The tiers of the paper's section 2, step 4, with this rho: chosen is the shortest of the upper one, rejected
    /// the longest of the lower one.
    pub rho: Option<f64>,
    /// No chosen text is longer than this, in the selector's unit.
    pub max_chosen_length: Option<u32>,
    /// Permuting the candidates changes nothing but the index.
    pub ignores_order: bool,
}

/// Selects preference pairs (paper section 2, step 4; section 3, step 7). One plugin instance for actor pairs and one,
/// configured differently, for judge pairs.
pub trait Selector: Plugin {
    /// What the selector promises beyond the laws of all selectors.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        Ok(SelectorPromises::default())
    }

    /// The unit in which lengths are measured and reported: `characters` or `tokens`.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn length_unit(&self) -> Result<String, PluginError>;

    /// For each group a pair, or a named reason why there is none.
    ///
    /// # Errors
    /// When a score is not finite.
    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError>;
}
