//! Plugin kind *meta-judge*: which judgments meet, what the meta-judge is asked, and what its verdicts weigh.

use serde::{Deserialize, Serialize};

use crate::{Battle, Match, Message, Plugin, PluginError, Unreadable, Winner};

/// Two judgments of one response, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaJudgeItem<'a> {
    /// The question.
    pub prompt: &'a str,
    /// The answer that both judgments are about.
    pub response: &'a str,
    /// The rubric's scoring rules.
    pub criteria: &'a str,
    /// The judgment shown first.
    pub first: &'a str,
    /// The judgment shown second.
    pub second: &'a str,
}

/// Over which verdicts the wins of the two positions are counted (open in the paper; per iteration by default).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightScope {
    /// The verdicts on one response.
    Response,
    /// All verdicts of an iteration.
    Iteration,
    /// All verdicts of the run up to and including the iteration.
    Run,
}

/// How often each position won.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionWins {
    /// Wins of the judgment shown first.
    pub first: u64,
    /// Wins of the judgment shown second.
    pub second: u64,
}

/// The readable verdicts on one response's judgments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerdictSet {
    /// Number of judgments.
    pub players: u32,
    /// Matches and winners, by index of the judgment in `0..players`. Unreadable verdicts are not in it.
    pub verdicts: Vec<(Match, Winner)>,
}

/// What [`MetaJudge::weigh`] makes of one [`VerdictSet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// Weights w1 and w2 of a win in the first and in the second position.
    pub weights: [f64; 2],
    /// The battles that the ranker is given, in the order in which they were fought.
    pub battles: Vec<Battle>,
}

/// What not every honest meta-judge promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaJudgePromises {
    /// Weights and battle matrix as in the paper's section 3, steps 4 and 5.
    pub paper_weights: bool,
    /// Judgments are shown whole.
    pub shows_judgments_whole: bool,
}

/// Compares judgments (paper section 3, steps 2 to 5).
pub trait MetaJudge: Plugin {
    /// What the meta-judge promises beyond the laws of all meta-judges.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        Ok(MetaJudgePromises::default())
    }

    /// Over which verdicts [`PositionWins`] are counted for [`MetaJudge::weigh`].
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn scope(&self) -> Result<WeightScope, PluginError>;

    /// The matches to play among `n` judgments, for each `n`. The paper: every pair, in both orders.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError>;

    /// The conversation put to the meta-judge, one per item.
    ///
    /// # Errors
    /// When the template does not render.
    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError>;

    /// The winner in each text, or a named reason why there is none. Never guesses.
    ///
    /// # Errors
    /// When the plugin itself fails; an unreadable text is not an error.
    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError>;

    /// The line that a meta-judge ends with when `winner` wins. `None`: the plugin does not say, and the law that such a
    /// line parses back to its winner is not checked.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn closing_line(&self, _winner: Winner) -> Result<Option<String>, PluginError> {
        Ok(None)
    }

    /// Battles from verdicts; `wins[i]` are the wins by position in the scope of `sets[i]`.
    ///
    /// # Errors
    /// When a verdict names a judgment that is not there.
    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError>;
}
