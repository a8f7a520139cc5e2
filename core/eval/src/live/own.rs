//! Sheets from files of one's own.

use super::{Form, Sheet, is_missing, read_records, text};
use crate::ask::{AskToCompare, AskToRate};
use crate::error::{EvalError, record};

impl Sheet {
    /// Of `eval pairwise`: `{"prompt", "model_output", "baseline_output"}`, with `model_first` and `baseline_first` where
    /// they are known. Each missing one is asked for.
    ///
    /// # Errors
    /// When the text has another form, or an output is empty.
    pub fn pairwise(file: &str, json: &str, ask: &AskToCompare) -> Result<Sheet, EvalError> {
        let mut sheet = Sheet::new(
            Form::Pairwise,
            read_records(file, json, "expected pairs with prompt, model_output, baseline_output")?,
        );
        for index in 0..sheet.records.len() {
            let of = |name| text(file, index, &sheet.records[index], name);
            let (prompt, model, baseline) = (of("prompt")?, of("model_output")?, of("baseline_output")?);
            for (whose, output) in [("the model's", model), ("the baseline's", baseline)] {
                if output.trim().is_empty() {
                    return Err(EvalError::EmptyOutput { place: record(file, index), whose });
                }
            }
            let [model_first, baseline_first] = ask.both_orders(prompt, model, baseline);
            for (field, messages) in [("model_first", model_first), ("baseline_first", baseline_first)] {
                if is_missing(&sheet.records[index], field) {
                    sheet.ask(file, index, field, messages);
                }
            }
        }
        Ok(sheet)
    }

    /// Of `eval judge --pairs`: `{"prompt", "first", "second", "reference"}`, both answers as texts. A record without
    /// `judge` is asked for in both orders.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn judge_pairs(file: &str, json: &str, ask: &AskToCompare) -> Result<Sheet, EvalError> {
        let mut sheet = Sheet::new(
            Form::JudgePairs,
            read_records(file, json, "expected pairs with prompt, first, second, reference")?,
        );
        for index in 0..sheet.records.len() {
            if is_missing(&sheet.records[index], "judge") {
                let of = |name| text(file, index, &sheet.records[index], name);
                let [as_listed, turned] = ask.both_orders(of("prompt")?, of("first")?, of("second")?);
                sheet.ask(file, index, "as_listed", as_listed);
                sheet.ask(file, index, "turned", turned);
            }
        }
        Ok(sheet)
    }

    /// Of `eval judge --scores`: `{"prompt", "output", "reference"}`. A record without `judge` is asked for a rating.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn judge_scores(file: &str, json: &str, ask: &AskToRate) -> Result<Sheet, EvalError> {
        let sheet =
            Sheet::new(Form::JudgeScores, read_records(file, json, "expected scores with prompt, output, reference")?);
        sheet.rate(file, "judge", ask)
    }

    /// Of `eval bias --verdicts`: `{"prompt", "first", "second"}`, the answers as texts in the places in which they are shown.
    /// A record without `choice` is asked for; lengths that are missing are the texts' in characters.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn verdicts(file: &str, json: &str, ask: &AskToCompare) -> Result<Sheet, EvalError> {
        let mut sheet =
            Sheet::new(Form::Verdicts, read_records(file, json, "expected comparisons with prompt, first, second")?);
        for index in 0..sheet.records.len() {
            if is_missing(&sheet.records[index], "choice") {
                let of = |name| text(file, index, &sheet.records[index], name);
                let (first, second) = (of("first")?, of("second")?);
                let messages = ask.messages(of("prompt")?, first, second);
                let lengths = serde_json::json!([first.chars().count(), second.chars().count()]);
                sheet.ask(file, index, "choice", messages);
                if is_missing(&sheet.records[index], "lengths") {
                    sheet.records[index].insert("lengths".to_owned(), lengths);
                }
            }
        }
        Ok(sheet)
    }

    /// Of `eval bias --scores`: `{"prompt", "output"}`. A record without `score` is asked for a rating; a length that is
    /// missing is the output's in characters.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn scores(file: &str, json: &str, ask: &AskToRate) -> Result<Sheet, EvalError> {
        let mut sheet = Sheet::new(Form::Scores, read_records(file, json, "expected scores with prompt, output")?);
        for index in 0..sheet.records.len() {
            if is_missing(&sheet.records[index], "score") && is_missing(&sheet.records[index], "length") {
                let length = text(file, index, &sheet.records[index], "output")?.chars().count();
                sheet.records[index].insert("length".to_owned(), length.into());
            }
        }
        sheet.rate(file, "score", ask)
    }

    fn rate(mut self, file: &str, field: &'static str, ask: &AskToRate) -> Result<Sheet, EvalError> {
        for index in 0..self.records.len() {
            if is_missing(&self.records[index], field) {
                let of = |name| text(file, index, &self.records[index], name);
                let messages = ask.first_turn(of("prompt")?, of("output")?);
                self.ask(file, index, field, messages);
            }
        }
        Ok(self)
    }
}
