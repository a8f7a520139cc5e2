//! A preference pair token by token: which part each token belongs to, and whether it is trained on.

use metareward_api::Message;
use serde::Serialize;

use crate::{
    Result, TorchError,
    prompting::{Completed, Prompting},
};

/// The part of a pair that a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The conversation before both completions, the opening of the model's turn included.
    Prompt,
    /// The preferred completion.
    Chosen,
    /// The other completion.
    Rejected,
    /// The token that ends the turn after a completion.
    End,
}

impl Part {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Part::Prompt => "prompt",
            Part::Chosen => "chosen",
            Part::Rejected => "rejected",
            Part::End => "end",
        }
    }
}

/// One token of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MarkedToken {
    /// The token.
    pub id: i64,
    /// Its text, read by itself; bytes that are no whole character show as `�`.
    pub text: String,
    /// The part that it belongs to.
    pub part: Part,
    /// Whether the loss reads its log-probability: completions and their end are trained on, prompts are not, and neither is
    /// what the longest sequence cuts off.
    pub trained: bool,
}

/// A pair as the trainer sees it. The chosen and the rejected sequence both begin with `prompt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MarkedPair {
    /// Tokens of the conversation.
    pub prompt: Vec<MarkedToken>,
    /// Tokens of the preferred completion, the end of the turn last.
    pub chosen: Vec<MarkedToken>,
    /// Tokens of the other completion, the end of the turn last.
    pub rejected: Vec<MarkedToken>,
}

impl MarkedPair {
    /// The tokens of a pair. Sequences are cut to `max_length` tokens at the end, as the trainer cuts them.
    ///
    /// # Errors
    /// [`TorchError::Input`] when the conversation does not fit the chat template, or the prompt leaves no room for a
    /// completion.
    pub fn new(
        prompting: &Prompting,
        messages: &[Message],
        chosen: &str,
        rejected: &str,
        max_length: Option<usize>,
    ) -> Result<Self> {
        let Completed { prompt, completion: chosen } = prompting.complete(messages, chosen)?;
        let rejected = prompting.complete(messages, rejected)?.completion;
        let room = max_length.map(|longest| longest.saturating_sub(prompt.len()));
        if room == Some(0) {
            return Err(TorchError::Input(format!(
                "the prompt has {} tokens and leaves no room for a completion within {}",
                prompt.len(),
                max_length.unwrap_or(0)
            )));
        }
        let mark = |id: i64, part: Part, trained: bool| MarkedToken {
            id,
            text: prompting.tokenizer().token_text(id),
            part,
            trained,
        };
        let completion = |ids: &[i64], part: Part| {
            let end = ids.len().saturating_sub(1);
            let part_at = |place: usize| if place == end { Part::End } else { part };
            let inside = |place: usize| room.is_none_or(|room| place < room);
            ids.iter().enumerate().map(|(place, id)| mark(*id, part_at(place), inside(place))).collect()
        };
        Ok(Self {
            prompt: prompt.iter().map(|id| mark(*id, Part::Prompt, false)).collect(),
            chosen: completion(&chosen, Part::Chosen),
            rejected: completion(&rejected, Part::Rejected),
        })
    }
}
