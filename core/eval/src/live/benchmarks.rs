//! Sheets from the public benchmarks' files of questions and answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Form, Record, Sheet, read_records, text};
use crate::ask::{AskToCompare, AskToRate};
use crate::error::{EvalError, beginning, record};

/// A file's name for messages, and its text.
pub type Source<'a> = (&'a str, &'a str);

/// Answers of models by question, as the public tools' answer files hold them: the texts of the model's turns.
type Answers = BTreeMap<String, BTreeMap<String, Vec<String>>>;

impl Sheet {
    /// Of AlpacaEval: the outputs of a model and of a baseline, records of `{"instruction", "output", "generator"}` for the
    /// same instructions in the same order. Both orders are asked for; the preference is their mean.
    ///
    /// # Errors
    /// When a text has another form, the instructions differ, or an output is empty and `empty_outputs` does not let it
    /// through.
    pub fn alpaca(
        model: Source,
        baseline: Source,
        empty_outputs: bool,
        ask: &AskToCompare,
    ) -> Result<Sheet, EvalError> {
        const EXPECTED: &str = "expected outputs with instruction, output, generator";
        let models = read_records(model.0, model.1, EXPECTED)?;
        let baselines = read_records(baseline.0, baseline.1, EXPECTED)?;
        if models.len() != baselines.len() {
            return Err(EvalError::Count {
                place: model.0.to_owned(),
                found: models.len(),
                other: baseline.0.to_owned(),
                expected: baselines.len(),
            });
        }
        let mut sheet = Sheet::new(Form::Alpaca, Vec::new());
        for (index, (own, other)) in models.iter().zip(&baselines).enumerate() {
            let instruction = text(model.0, index, own, "instruction")?;
            let expected = text(baseline.0, index, other, "instruction")?;
            if instruction != expected {
                return Err(EvalError::Misaligned {
                    place: record(model.0, index),
                    other: baseline.0.to_owned(),
                    found: beginning(instruction),
                    expected: beginning(expected),
                });
            }
            let (output, against) = (text(model.0, index, own, "output")?, text(baseline.0, index, other, "output")?);
            for (file, whose, output) in [(model.0, "the model's", output), (baseline.0, "the baseline's", against)] {
                if output.trim().is_empty() && !empty_outputs {
                    return Err(EvalError::EmptyOutput { place: record(file, index), whose });
                }
            }
            let name =
                |fields: &Record, default: &str| fields.get("generator").cloned().unwrap_or_else(|| json!(default));
            let mut fields = Record::new();
            for (field, value) in [
                ("instruction", json!(instruction)),
                ("output_1", json!(against)),
                ("generator_1", name(other, "baseline")),
                ("output_2", json!(output)),
                ("generator_2", name(own, "model")),
            ] {
                fields.insert(field.to_owned(), value);
            }
            if let Some(dataset) = own.get("dataset") {
                fields.insert("dataset".to_owned(), dataset.clone());
            }
            sheet.records.push(fields);
            let [model_first, baseline_first] = ask.both_orders(instruction, output, against);
            sheet.ask(model.0, index, "model_first", model_first);
            sheet.ask(model.0, index, "baseline_first", baseline_first);
        }
        Ok(sheet)
    }

    /// Of Arena-Hard: questions (`question_id` and `turns`, or `uid` and `prompt`) and answer files of any number of models,
    /// the anchor among them. Each model but the anchor is asked for on each question, in both orders.
    ///
    /// # Errors
    /// When a text has another form, the anchor or an answer to a question is missing, or there is no other model.
    pub fn arena(questions: Source, answers: &[Source], anchor: &str, ask: &AskToCompare) -> Result<Sheet, EvalError> {
        let file = questions.0;
        let records = read_records(file, questions.1, "expected questions with question_id or uid, turns or prompt")?;
        let answers = read_answers(answers)?;
        let Some(anchors) = answers.get(anchor) else {
            let nearest = answers.keys().next().cloned();
            return Err(EvalError::Unknown { name: anchor.to_owned(), table: "the answers".to_owned(), nearest });
        };
        let models: Vec<_> = answers.iter().filter(|(model, _)| *model != anchor).collect();
        if models.is_empty() {
            return Err(EvalError::Empty {
                place: "the answers".to_owned(),
                expected: "expected a model beside the anchor",
            });
        }
        let mut sheet = Sheet::new(Form::Arena, Vec::new());
        for (model, own) in models {
            for (index, fields) in records.iter().enumerate() {
                let id = identifier(file, index, fields)?;
                let question = turns(fields).into_iter().next();
                let question = question.or_else(|| fields.get("prompt")?.as_str().map(str::to_owned));
                let question = question.ok_or_else(|| form(file, index, "neither turns nor a prompt"))?;
                let answer = |of: &BTreeMap<String, Vec<String>>, whose: &str| {
                    let found = of.get(&id).and_then(|turns| turns.last()).cloned();
                    found.ok_or_else(|| form(file, index, &format!("{whose} has no answer to question {id}")))
                };
                let [anchor_as_b, anchor_as_a] =
                    ask.both_orders(&question, &answer(own, model)?, &answer(anchors, anchor)?);
                let mut kept = Record::new();
                kept.insert("question_id".to_owned(), json!(id));
                if let Some(category) = fields.get("category").or_else(|| fields.get("cluster")) {
                    kept.insert("category".to_owned(), category.clone());
                }
                kept.insert("model".to_owned(), json!(model));
                let place = sheet.records.len();
                sheet.records.push(kept);
                let name = format!("{model} on {file}, question {id}");
                for (field, messages) in [("anchor_as_A", anchor_as_a), ("anchor_as_B", anchor_as_b)] {
                    sheet.ask(file, place, field, messages);
                    if let Some(question) = sheet.questions.last_mut() {
                        question.name = format!("{name}, {}", field.replace('_', " "));
                    }
                }
            }
        }
        Ok(sheet)
    }

    /// Of MT-Bench: questions of two turns and answer files of any number of models. Each turn is asked for a rating, the
    /// second with the first before it. There are no reference answers in it, which the public tool shows for mathematics
    /// and code.
    ///
    /// # Errors
    /// When a text has another form, or an answer to a question is missing.
    pub fn mt_bench(questions: Source, answers: &[Source], ask: &AskToRate) -> Result<Sheet, EvalError> {
        let file = questions.0;
        let records = read_records(file, questions.1, "expected questions with question_id, category, turns")?;
        let mut sheet = Sheet::new(Form::MtBench, Vec::new());
        for (model, own) in &read_answers(answers)? {
            for (index, fields) in records.iter().enumerate() {
                let id = identifier(file, index, fields)?;
                let questions = turns(fields);
                let [first, second] = questions.as_slice() else {
                    return Err(form(file, index, &format!("{} turns; expected two", questions.len())));
                };
                let Some([first_answer, second_answer]) = own.get(&id).map(Vec::as_slice) else {
                    return Err(form(file, index, &format!("{model} has no answer of two turns to question {id}")));
                };
                let asked = [
                    ask.first_turn(first, first_answer),
                    ask.second_turn((first, first_answer), (second, second_answer)),
                ];
                for (turn, messages) in (1..).zip(asked) {
                    let place = sheet.records.len();
                    let mut kept = Record::new();
                    kept.insert("question_id".to_owned(), fields.get("question_id").cloned().unwrap_or(json!(id)));
                    kept.insert("model".to_owned(), json!(model));
                    kept.insert("turn".to_owned(), json!(turn));
                    sheet.records.push(kept);
                    sheet.ask(file, place, "rating", messages);
                    if let Some(question) = sheet.questions.last_mut() {
                        question.name = format!("{model} on {file}, question {id}, turn {turn}");
                    }
                }
            }
        }
        Ok(sheet)
    }
}

fn form(file: &str, index: usize, message: &str) -> EvalError {
    EvalError::Form { place: record(file, index), message: message.to_owned() }
}

/// Questions are numbered or named, under one of two keys.
fn identifier(file: &str, index: usize, fields: &Record) -> Result<String, EvalError> {
    match fields.get("question_id").or_else(|| fields.get("uid")) {
        Some(Value::String(name)) => Ok(name.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(form(file, index, "neither question_id nor uid")),
    }
}

/// The texts under `turns`: texts, or objects with one under `content`.
fn turns(fields: &Record) -> Vec<String> {
    let turns = fields.get("turns").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let word = |turn: &Value| turn.as_str().or_else(|| turn.get("content")?.as_str()).map(str::to_owned);
    turns.iter().filter_map(word).collect()
}

/// The model's turns: under `choices`, or what the assistant says under `messages`.
fn said(fields: &Record) -> Vec<String> {
    if let Some(choice) = fields.get("choices").and_then(|choices| choices.get(0)?.as_object()) {
        return turns(choice);
    }
    let messages = fields.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let own = messages.iter().filter(|message| message.get("role").and_then(Value::as_str) == Some("assistant"));
    let word = |message: &Value| {
        let content = message.get("content")?;
        content.as_str().or_else(|| content.get("answer")?.as_str()).map(str::to_owned)
    };
    own.filter_map(word).collect()
}

fn read_answers(sources: &[Source]) -> Result<Answers, EvalError> {
    let mut answers = Answers::new();
    let mut seen = BTreeSet::new();
    for (file, json) in sources {
        for (index, fields) in
            read_records(file, json, "expected answers with question_id or uid, model")?.iter().enumerate()
        {
            let id = identifier(file, index, fields)?;
            let model = fields.get("model_id").or_else(|| fields.get("model")).and_then(Value::as_str);
            let model = model.ok_or_else(|| form(file, index, "neither model nor model_id"))?.to_owned();
            let said = said(fields);
            if said.is_empty() {
                return Err(form(file, index, "neither choices nor messages of the assistant"));
            }
            if !seen.insert((model.clone(), id.clone())) {
                return Err(form(file, index, &format!("{model} answered question {id} before")));
            }
            answers.entry(model).or_default().insert(id, said);
        }
    }
    Ok(answers)
}
