//! What a judge is asked in an evaluation, in our own words, and how its choice is read. A template is a text, so that
//! a benchmark's exact wording can be put in its place.

use metareward_api::Message;
use metareward_plugin::{Guard, Template};

use crate::bracketed::{Several, Unread, verdict};
use crate::choice::Choice;
use crate::error::EvalError;

/// Asks for a comparison of two answers. The placeholders are `{{question}}`, `{{first}}` and `{{second}}`.
#[derive(Clone, Debug)]
pub struct AskToCompare {
    template: Template,
}

impl AskToCompare {
    /// For one of three verdicts, `[[A]]`, `[[B]]`, `[[C]]` (neither), read by [`read_choice`].
    ///
    /// # Errors
    /// Only if the built-in template were broken.
    pub fn three_labels() -> Result<AskToCompare, EvalError> {
        AskToCompare::from_template(include_str!("compare.txt"))
    }

    /// For one of the five verdicts of Arena-Hard, read by [`crate::arena::read_label`].
    ///
    /// # Errors
    /// Only if the built-in template were broken.
    pub fn five_labels() -> Result<AskToCompare, EvalError> {
        AskToCompare::from_template(include_str!("compare_five.txt"))
    }

    /// In other words.
    ///
    /// # Errors
    /// When a placeholder is missing, unknown or not closed.
    pub fn from_template(text: &str) -> Result<AskToCompare, EvalError> {
        Ok(AskToCompare { template: template(text, &["question", "first", "second"])? })
    }

    /// The messages to the judge. Inserted texts cannot end their place early: see [`Guard`].
    pub fn messages(&self, question: &str, first: &str, second: &str) -> Vec<Message> {
        messages(&self.template, &[question, first, second])
    }

    /// Both orders: the model's answer shown first, and the baseline's.
    pub fn both_orders(&self, question: &str, model: &str, baseline: &str) -> [Vec<Message>; 2] {
        [self.messages(question, model, baseline), self.messages(question, baseline, model)]
    }
}

/// Asks for a rating from 1 to 10, read by [`crate::mt_bench::read_rating`].
#[derive(Clone, Debug)]
pub struct AskToRate {
    first: Template,
    second: Template,
}

impl AskToRate {
    /// In our words.
    ///
    /// # Errors
    /// Only if a built-in template were broken.
    pub fn new() -> Result<AskToRate, EvalError> {
        AskToRate::from_templates(include_str!("rate.txt"), include_str!("rate_second.txt"))
    }

    /// In other words: the first turn's with `{{question}}` and `{{answer}}`, the second turn's with
    /// `{{first_question}}`, `{{first_answer}}`, `{{second_question}}` and `{{second_answer}}`.
    ///
    /// # Errors
    /// When a placeholder is missing, unknown or not closed.
    pub fn from_templates(first: &str, second: &str) -> Result<AskToRate, EvalError> {
        let names = ["first_question", "first_answer", "second_question", "second_answer"];
        Ok(AskToRate { first: template(first, &["question", "answer"])?, second: template(second, &names)? })
    }

    /// The messages that ask for a rating of the first turn.
    pub fn first_turn(&self, question: &str, answer: &str) -> Vec<Message> {
        messages(&self.first, &[question, answer])
    }

    /// The messages that ask for a rating of the second turn. Each turn is a question and its answer.
    pub fn second_turn(&self, first: (&str, &str), second: (&str, &str)) -> Vec<Message> {
        messages(&self.second, &[first.0, first.1, second.0, second.1])
    }
}

/// Reads `[[A]]`, `[[B]]`, or `[[C]]`, which some judges write as `[[tie]]`, from a judge's text.
///
/// # Errors
/// When there is none, and when several differ and `several` asks for agreement.
pub fn read_choice(text: &str, several: Several) -> Result<Choice, Unread> {
    verdict(text, several, |inside| match inside.to_lowercase().as_str() {
        "a" => Some(Choice::First),
        "b" => Some(Choice::Second),
        "c" | "tie" => Some(Choice::Tie),
        _ => None,
    })
}

fn template(text: &str, names: &[&str]) -> Result<Template, EvalError> {
    Template::new(text.trim_end(), names, names)
        .map_err(|error| EvalError::Option { option: "template", message: error.to_string() })
}

fn messages(template: &Template, texts: &[&str]) -> Vec<Message> {
    vec![Message::user(template.render(texts, Guard::Escape))]
}
