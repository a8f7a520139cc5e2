//! Answer files of Arena-Hard, for the length of the answers.

use std::collections::BTreeMap;
use std::path::Path;

use metareward_api::PromptId;
use serde::Deserialize;
use serde_json::Value;

use super::judgments::Identifier;
use crate::Groups;
use crate::error::{EvalError, read, record};
use crate::records::records;

/// Lengths of answers, by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// Characters of each answer, by model and then by question.
    pub lengths: BTreeMap<String, Groups<f64>>,
}

/// A record as the public tool writes it: its first version with `choices`, its second with `messages`.
#[derive(Deserialize)]
struct Raw {
    #[serde(alias = "uid")]
    question_id: Identifier,
    #[serde(alias = "model_id")]
    model: String,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Choice {
    turns: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    content: String,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    /// A text, or an object with the text under `answer`.
    content: Value,
}

impl Answers {
    /// Reads answer files of any number of models.
    ///
    /// # Errors
    /// When a file cannot be read, or a record has another form.
    pub fn read(paths: &[&Path]) -> Result<Answers, EvalError> {
        let mut all = Answers::default();
        for path in paths {
            all.add_json(&path.display().to_string(), &read(path)?)?;
        }
        Ok(all)
    }

    /// Adds the answers of one text; `file` names it in errors.
    ///
    /// # Errors
    /// When a record has another form.
    pub fn add_json(&mut self, file: &str, text: &str) -> Result<(), EvalError> {
        let raw: Vec<Raw> =
            records(file, text, "expected answers with question_id or uid, model, choices or messages")?;
        for (index, item) in raw.into_iter().enumerate() {
            let turns = item.choices.first().map(|choice| choice.turns.iter().map(|turn| turn.content.as_str()));
            let said = item.messages.iter().filter(|message| message.role == "assistant").filter_map(Message::text);
            let letters = match turns {
                Some(turns) => turns.map(|text| text.chars().count()).sum(),
                None if item.messages.is_empty() => {
                    let message = "neither choices nor messages".to_string();
                    return Err(EvalError::Form { place: record(file, index), message });
                }
                None => said.map(|text| text.chars().count()).sum::<usize>(),
            };
            let Identifier(question) = item.question_id;
            self.lengths.entry(item.model).or_default().push(&PromptId(question), letters as f64);
        }
        Ok(())
    }
}

impl Message {
    fn text(&self) -> Option<&str> {
        self.content.as_str().or_else(|| self.content.get("answer")?.as_str())
    }
}
