//! Conversations to tokens: the prompt that a model continues, and the completion that it is trained or measured on.

use std::path::Path;

use metareward_api::Message;

use crate::{
    Result, TorchError,
    chat::{ChatTemplate, TemplateDate},
    config::ModelConfig,
    tokenizer::TextTokenizer,
};

/// A conversation as the model reads it, ready for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompted {
    /// The tokens.
    pub ids: Vec<i64>,
    /// The text that they encode, special tokens included.
    pub text: String,
}

/// A conversation and its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Tokens of the conversation, ready for the answer.
    pub prompt: Vec<i64>,
    /// Tokens of the completion and the end-of-turn token.
    pub completion: Vec<i64>,
}

/// How the template writes a turn of the model.
#[derive(Clone, Debug)]
struct Turn {
    /// White space between the opening of the turn and the model's words.
    lead: String,
    /// The token that ends the turn.
    end: i64,
}

/// Tokenizer and chat template of one model.
#[derive(Debug)]
pub struct Prompting {
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    turn: Result<Turn, String>,
    end_ids: Vec<i64>,
    vocabulary: i64,
}

impl Prompting {
    /// Reads tokenizer and chat template of a model folder.
    ///
    /// # Errors
    /// [`TorchError::Model`] when one of them is missing or wrong.
    pub fn read(folder: &Path, config: &ModelConfig, date: TemplateDate) -> Result<Self> {
        Self::new(TextTokenizer::read(folder)?, ChatTemplate::read(folder, date)?, &config.eos, config.vocabulary)
            .map_err(|error| match error {
                TorchError::Input(message) => TorchError::model(folder, message),
                other => other,
            })
    }

    /// Puts a tokenizer and a template together. `eos` are the tokens that the model's configuration says end a turn,
    /// `vocabulary` is the number of tokens that the model knows.
    ///
    /// # Errors
    /// [`TorchError::Input`] when nothing says which token ends a turn.
    pub fn new(tokenizer: TextTokenizer, template: ChatTemplate, eos: &[i64], vocabulary: i64) -> Result<Self> {
        let turn = probe(&tokenizer, &template, eos);
        let mut end_ids = eos.to_vec();
        if let Ok(turn) = &turn {
            end_ids.push(turn.end);
        }
        if end_ids.is_empty() {
            end_ids.extend(eos_token(&tokenizer, &template));
        }
        end_ids.sort_unstable();
        end_ids.dedup();
        if end_ids.is_empty() {
            return Err(TorchError::Input(
                "nothing says which token ends a turn: set eos_token_id in config.json or generation_config.json"
                    .to_owned(),
            ));
        }
        Ok(Self { tokenizer, template, turn, end_ids, vocabulary })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Tokens that end the model's turn, sorted: those of the configuration and the one that the template writes.
    pub fn end_ids(&self) -> &[i64] {
        &self.end_ids
    }

    /// The conversation, ready for the model's answer.
    ///
    /// # Errors
    /// [`TorchError::Input`] when the conversation does not fit the template or the model's vocabulary.
    pub fn prompt(&self, messages: &[Message]) -> Result<Prompted> {
        let text = self.template.render(messages, true)?;
        let ids = self.encode(&text)?;
        if ids.is_empty() {
            return Err(TorchError::Input("the chat template renders the conversation as nothing".to_owned()));
        }
        Ok(Prompted { ids, text })
    }

    /// The conversation and `completion` as the model's next turn, word for word as it would have written it: templates
    /// may trim or rewrite a turn when they render it as history, and that is not what is trained on. The end-of-turn
    /// token is the one that the template writes after a turn.
    ///
    /// # Errors
    /// [`TorchError::Input`] as for [`Prompting::prompt`], and when the template does not render a finished turn as a
    /// continuation of the opened one.
    pub fn complete(&self, messages: &[Message], completion: &str) -> Result<Completed> {
        let turn = self.turn.as_ref().map_err(|message| TorchError::Input(message.clone()))?;
        let Prompted { ids: prompt, text } = self.prompt(messages)?;
        let mut ids = self.continuation(&prompt, &text, &turn.lead, completion)?;
        ids.push(turn.end);
        Ok(Completed { prompt, completion: ids })
    }

    /// Tokens of `completion` after the prompt. Encoded together with the prompt, because tokenizers treat the beginning of
    /// a text in their own way; by itself where the two would merge into other tokens than the prompt's, or where a
    /// special token before it would swallow its white space (`rstrip`, as Phi 3's do) and the model's words with it.
    fn continuation(&self, prompt: &[i64], text: &str, lead: &str, completion: &str) -> Result<Vec<i64>> {
        let mut whole = self.encode(&format!("{text}{lead}{completion}"))?;
        if !whole.starts_with(prompt) {
            return self.encode(completion);
        }
        let together = whole.split_off(prompt.len());
        if !completion.starts_with(char::is_whitespace) || self.tokenizer.decode(&together)? == completion {
            return Ok(together);
        }
        let alone = self.encode(completion)?;
        Ok(if self.tokenizer.decode(&alone)? == completion { alone } else { together })
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let ids = self.tokenizer.encode(text)?;
        match ids.iter().find(|id| **id >= self.vocabulary) {
            None => Ok(ids),
            Some(id) => Err(TorchError::Input(format!(
                "the tokenizer gives token {id} ({:?}), but the model knows only {} tokens",
                self.tokenizer.token_text(*id),
                self.vocabulary
            ))),
        }
    }
}

fn eos_token(tokenizer: &TextTokenizer, template: &ChatTemplate) -> Option<i64> {
    template.special("eos_token").and_then(|token| tokenizer.id(token))
}

/// Finds out how the template writes a turn of the model by rendering one with known words.
fn probe(tokenizer: &TextTokenizer, template: &ChatTemplate, eos: &[i64]) -> Result<Turn, String> {
    const WORDS: &str = "metareward-probe";
    let mut messages = vec![Message::user("Hello.")];
    let opened = template.render(&messages, true).map_err(|error| error.to_string())?;
    messages.push(Message::assistant(WORDS));
    let finished = template.render(&messages, false).map_err(|error| error.to_string())?;
    let Some(rest) = finished.strip_prefix(&opened) else {
        return Err(format!(
            "the chat template does not render a finished turn as a continuation of the opened one: a prompt ends in {:?}, \
             the finished conversation is {finished:?}",
            opened.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<String>()
        ));
    };
    let Some((lead, tail)) = rest.split_once(WORDS) else {
        return Err(format!("the chat template leaves out the model's words: it renders its turn as {rest:?}"));
    };
    let tail = tokenizer.encode(tail).map_err(|error| error.to_string())?;
    let end = tail
        .into_iter()
        .find(|id| eos.contains(id) || tokenizer.is_special(*id))
        .or_else(|| eos_token(tokenizer, template))
        .or_else(|| eos.first().copied())
        .ok_or("the chat template ends a turn with no special token, and there is no eos_token_id")?;
    let lead = if lead.trim().is_empty() { lead.to_owned() } else { String::new() };
    Ok(Turn { lead, end })
}
