//! The records in the order in which they flow: prompt → response → judgment → reward → actor pair, and match →
//! verdict → battle matrix → rating → judge pair.
//!
//! Every record knows where it came from. On disk each is one line of JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Finish;

/// Who speaks in a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word that chat templates know: `system`, `user` or `assistant`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation, rendered to tokens by the model's own chat template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the person.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }

    /// Instructions to the model.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
}

/// Name of a prompt, unique within an experiment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptId(pub String);

impl fmt::Display for PromptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A question put to the actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Unique name.
    pub id: PromptId,
    /// The question as the judge sees it: the text of the person's turn.
    pub text: String,
    /// Instructions before it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Instruction category, if the source names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

impl Prompt {
    /// The conversation that the actor answers.
    pub fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain([Message::user(&self.text)]).collect()
    }
}

/// Why no score or winner could be read from a text. A judgment without a score never counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreadable {
    /// The closing line is missing.
    Missing,
    /// There is a closing line, but what stands in it is not a number or a name.
    NotANumber,
    /// The number lies off the scale.
    OffScale,
    /// Several closing lines contradict each other.
    Contradiction,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreadable::Missing => "no closing line",
            Unreadable::NotANumber => "closing line cannot be read",
            Unreadable::OffScale => "score off the scale",
            Unreadable::Contradiction => "contradicting closing lines",
        })
    }
}

/// One sampled answer to a prompt (paper section 2, step 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The prompt that it answers.
    pub prompt: PromptId,
    /// Which of the K draws it is, from 0.
    pub draw: u32,
    /// Fingerprint of the model that made it.
    pub model: String,
    /// The answer.
    pub text: String,
    /// Its length in tokens, the end-of-turn token not counted.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The earlier draw with the same text, if there is one. Such a response is kept but not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<u32>,
}

/// Where a text is shown, of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Before the other one.
    First,
    /// After the other one.
    Second,
}

/// One judgment of a response (paper section 2, step 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgment {
    /// The prompt.
    pub prompt: PromptId,
    /// The response judged, by its draw.
    pub response: u32,
    /// Which of the N draws it is, from 0.
    pub draw: u32,
    /// Where the rubric compares: the other response shown, by its draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opponent: Option<u32>,
    /// Where the rubric compares: where the response judged was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Position>,
    /// Fingerprint of the model that made it.
    pub model: String,
    /// Reasoning and closing line.
    pub text: String,
    /// Its length in tokens.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The score read from it, always of the response judged: mirrored on the scale where it was shown second. `None`:
    /// unreadable, and counts nowhere.
    pub score: Option<f64>,
    /// Why there is no score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<Unreadable>,
}

/// Two judgments of one response that meet, in this order: `first` is shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Match {
    /// Index of the judgment shown first.
    pub first: u32,
    /// Index of the judgment shown second.
    pub second: u32,
}

/// Who won a [`Match`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Winner {
    /// The judgment shown first.
    First,
    /// The judgment shown second.
    Second,
    /// Neither.
    Tie,
}

/// The meta-judge's answer to one match (paper section 3, steps 2 and 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The prompt.
    pub prompt: PromptId,
    /// The response whose judgments meet, by its draw.
    pub response: u32,
    /// Draw of the judgment shown first.
    pub first: u32,
    /// Draw of the judgment shown second.
    pub second: u32,
    /// Fingerprint of the model that made it.
    pub model: String,
    /// Reasoning and closing line.
    pub text: String,
    /// Its length in tokens.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The winner. `None`: unreadable, and counts nowhere.
    pub winner: Option<Winner>,
    /// Why there is no winner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<Unreadable>,
}

/// The ratings of one response's judgments (paper section 3, steps 4 to 6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatedResponse {
    /// The prompt.
    pub prompt: PromptId,
    /// The response, by its draw.
    pub response: u32,
    /// Draws of its readable judgments; rows of `battles` and entries of `ratings` are in this order.
    pub judgments: Vec<u32>,
    /// Variance of their scores: the widest response of a prompt is the one whose judgments meet.
    pub variance: f64,
    /// Weights w1 and w2 of a win in the first and in the second position.
    pub weights: [f64; 2],
    /// Weights of wins, row against column. The order in which the battles were fought is that of the verdicts.
    pub battles: Vec<Vec<f64>>,
    /// Weights of ties, row against column; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ties: Vec<Vec<f64>>,
    /// Ratings; the ranker says on which scale.
    pub ratings: Vec<f64>,
    /// Whether the ranker reached its optimum.
    pub converged: bool,
    /// What a reader should know of these ratings.
    pub remarks: Vec<crate::Remark>,
}

/// Which role a preference pair trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairKind {
    /// Two responses to a prompt.
    Actor,
    /// Two judgments of a response.
    Judge,
}

/// Chosen or rejected side of a [`Pair`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairSide {
    /// Which draw it is: of the response (actor) or of the judgment (judge).
    pub draw: u32,
    /// The text trained on.
    pub text: String,
    /// What chose it: reward (actor) or rating (judge).
    pub score: f64,
    /// Length in the selector's unit.
    pub length: u32,
}

/// A preference pair (paper sections 2 and 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Actor or judge.
    pub kind: PairKind,
    /// The prompt.
    pub prompt: PromptId,
    /// The response judged; `None` for actor pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<u32>,
    /// Fingerprint of the model that made both sides.
    pub model: String,
    /// The conversation that both sides continue.
    pub messages: Vec<Message>,
    /// The preferred side.
    pub chosen: PairSide,
    /// The other side.
    pub rejected: PairSide,
    /// Weight in the loss; 1 unless a method says otherwise.
    pub weight: f64,
}

/// Why a group of candidates gave no pair. Kept, so that every prompt is accounted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoPair {
    /// Fewer than two candidates have a score.
    TooFewCandidates,
    /// Highest and lowest score are equal.
    EqualScores,
    /// The tiers leave only one candidate for both sides.
    SameCandidate,
    /// The chosen candidate is over the length limit.
    ChosenTooLong,
    /// A reason of the plugin's own.
    Other(String),
}

impl fmt::Display for NoPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoPair::TooFewCandidates => f.write_str("fewer than two candidates with a score"),
            NoPair::EqualScores => f.write_str("equal scores"),
            NoPair::SameCandidate => f.write_str("one candidate for both sides"),
            NoPair::ChosenTooLong => f.write_str("chosen over the length limit"),
            NoPair::Other(reason) => f.write_str(reason),
        }
    }
}
