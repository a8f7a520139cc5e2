//! Judgments that are made now: files in which they are missing become questions to a judge, and its answers complete
//! the files, in the form that the readers of this crate and the public tools read.
//!
//! A [`Sheet`] knows neither engine nor network: whoever has a judge takes its questions and brings back what it said.

mod benchmarks;
mod own;

use std::collections::BTreeMap;

use metareward_api::Message;
use serde_json::{Map, Value, json};

use crate::arena::read_label;
use crate::ask::read_choice;
use crate::bracketed::{Several, Unread};
use crate::choice::Choice;
use crate::error::{EvalError, record};
use crate::mt_bench::read_rating;
use crate::records::records;

/// What a judge said to a question, or why it said nothing.
pub type Said = Result<String, String>;

/// A record on its way.
pub(super) type Record = Map<String, Value>;

/// One question to a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where its answer goes, for people: file, record and what is asked.
    pub name: String,
    /// The conversation that the judge continues.
    pub messages: Vec<Message>,
    record: usize,
    /// The key under which the answer is kept.
    field: &'static str,
}

/// How answers complete a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `model_first` and `baseline_first` are choices.
    Pairwise,
    /// `judge` is the choice that both orders agree on, a tie where they do not.
    JudgePairs,
    /// `judge` is a rating.
    JudgeScores,
    /// `choice` is a choice.
    Verdicts,
    /// `score` is a rating.
    Scores,
    /// `preference` is AlpacaEval's, from both orders.
    Alpaca,
    /// `games` are Arena-Hard's.
    Arena,
    /// `score` is MT-Bench's.
    MtBench,
}

/// Records of which judgments are missing, and the questions that ask for them.
#[derive(Clone, Debug)]
pub struct Sheet {
    form: Form,
    records: Vec<Record>,
    questions: Vec<Question>,
}

/// A sheet with a judge's answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// All records, with the judge's words under `judgments` and what went wrong under `errors`.
    records: Vec<Record>,
    /// Whether each has what a reader insists on.
    whole: Vec<bool>,
    /// Answers that hold no verdict, by why.
    pub unread: BTreeMap<Unread, usize>,
}

impl Sheet {
    fn new(form: Form, records: Vec<Record>) -> Sheet {
        Sheet { form, records, questions: Vec::new() }
    }

    fn ask(&mut self, file: &str, record_index: usize, field: &'static str, messages: Vec<Message>) {
        let name = format!("{}, {}", record(file, record_index), field.replace('_', " "));
        self.questions.push(Question { name, messages, record: record_index, field });
    }

    /// The questions, in the order of the records.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Puts a judge's answers in, one per question in their order; `judge` is its name.
    ///
    /// # Errors
    /// When there are more or fewer answers than questions.
    pub fn fill(self, judge: &str, said: Vec<Said>) -> Result<Filled, EvalError> {
        let Sheet { form, mut records, questions } = self;
        if said.len() != questions.len() {
            let message = format!("{} answers to {} questions", said.len(), questions.len());
            return Err(EvalError::Option { option: "judge", message });
        }
        let mut answers: Vec<BTreeMap<&'static str, Said>> = vec![BTreeMap::new(); records.len()];
        for (question, said) in questions.iter().zip(said) {
            answers[question.record].insert(question.field, said);
        }
        let mut filled = Filled { records: Vec::new(), whole: Vec::new(), unread: BTreeMap::new() };
        for (record, answers) in records.iter_mut().zip(&answers) {
            keep(record, answers);
            let mut reader = Reader { answers, unread: &mut filled.unread };
            filled.whole.push(complete(form, record, judge, &mut reader));
        }
        filled.records = records;
        Ok(filled)
    }
}

impl Filled {
    /// All records as JSON lines.
    pub fn lines(&self) -> String {
        self.records.iter().map(|record| format!("{}\n", Value::Object(record.clone()))).collect()
    }

    /// Those that a reader takes, as JSON lines: where the judge's word is what a record is about, those that have it.
    pub fn judged_lines(&self) -> String {
        let whole = self.records.iter().zip(&self.whole).filter(|(_, whole)| **whole);
        whole.map(|(record, _)| format!("{}\n", Value::Object(record.clone()))).collect()
    }
}

/// Keeps the judge's words in the record.
fn keep(record: &mut Record, answers: &BTreeMap<&'static str, Said>) {
    for (name, keeps_words) in [("judgments", true), ("errors", false)] {
        let kept = answers.iter().filter(|(_, said)| said.is_ok() == keeps_words);
        let words = kept.map(|(field, said)| {
            let (Ok(text) | Err(text)) = said;
            ((*field).to_owned(), json!(text))
        });
        // What an earlier judging left stays, unless it was asked again.
        let mut all = match record.remove(name) {
            Some(Value::Object(earlier)) => earlier,
            _ => Map::new(),
        };
        all.retain(|field, _| !answers.contains_key(field.as_str()));
        all.extend(words);
        if !all.is_empty() {
            record.insert(name.to_owned(), Value::Object(all));
        }
    }
}

/// Reads verdicts from a record's answers, and counts what holds none.
struct Reader<'a> {
    answers: &'a BTreeMap<&'static str, Said>,
    unread: &'a mut BTreeMap<Unread, usize>,
}

impl Reader<'_> {
    fn read<T>(&mut self, field: &str, read: impl Fn(&str) -> Result<T, Unread>) -> Option<T> {
        match read(self.answers.get(field)?.as_ref().ok()?) {
            Ok(found) => Some(found),
            Err(why) => {
                *self.unread.entry(why).or_default() += 1;
                None
            }
        }
    }

    fn choice(&mut self, field: &str) -> Option<Choice> {
        self.read(field, |text| read_choice(text, Several::Last))
    }

    fn rating(&mut self, field: &str) -> Option<f64> {
        self.read(field, |text| read_rating(text, Several::Last))
    }

    fn words(&self, field: &str) -> Option<&str> {
        self.answers.get(field)?.as_deref().ok()
    }
}

/// Fills in what the record's form has for the judge; whether it has what a reader insists on.
fn complete(form: Form, record: &mut Record, judge: &str, reader: &mut Reader) -> bool {
    match form {
        Form::Pairwise => {
            for field in ["model_first", "baseline_first"] {
                if reader.answers.contains_key(field) {
                    record.insert(field.to_owned(), json!(reader.choice(field)));
                }
            }
        }
        Form::JudgePairs => {
            if !reader.answers.is_empty() {
                let (as_listed, turned) = (reader.choice("as_listed"), reader.choice("turned"));
                let both = as_listed.zip(turned.map(Choice::turned));
                let choice = both.map(|(one, other)| if one == other { one } else { Choice::Tie });
                record.insert("judge".to_owned(), json!(choice));
            }
            return record.get("judge").is_some_and(|judge| !judge.is_null());
        }
        Form::JudgeScores => {
            if !reader.answers.is_empty() {
                record.insert("judge".to_owned(), json!(reader.rating("judge")));
            }
            return record.get("judge").is_some_and(|judge| !judge.is_null());
        }
        Form::Verdicts => {
            if !reader.answers.is_empty() {
                record.insert("choice".to_owned(), json!(reader.choice("choice")));
            }
        }
        Form::Scores => {
            if !reader.answers.is_empty() {
                record.insert("score".to_owned(), json!(reader.rating("score")));
            }
        }
        Form::Alpaca => {
            let orders = [reader.choice("model_first"), reader.choice("baseline_first").map(Choice::turned)];
            let points: Vec<f64> = orders.into_iter().flatten().map(Choice::points).collect();
            let preference = (!points.is_empty()).then(|| 1.0 + points.iter().sum::<f64>() / points.len() as f64);
            record.insert("annotator".to_owned(), json!(judge));
            record.insert("preference".to_owned(), json!(preference));
        }
        Form::Arena => {
            let mut game = |field: &str| {
                let label = reader.read(field, |text| read_label(text, Several::Agreeing));
                json!({"score": label, "judgment": reader.words(field)})
            };
            let games = [game("anchor_as_A"), game("anchor_as_B")];
            record.insert("judge".to_owned(), json!(judge));
            record.insert("games".to_owned(), json!(games));
            record.remove("judgments");
        }
        Form::MtBench => {
            // The public tool's sign of failure.
            let rating = reader.rating("rating").unwrap_or(-1.0);
            record.insert("judge".to_owned(), json!(judge));
            record.insert("score".to_owned(), json!(rating));
            record.insert("judgment".to_owned(), json!(reader.words("rating")));
            record.remove("judgments");
        }
    }
    true
}

fn read_records(file: &str, text: &str, expected: &'static str) -> Result<Vec<Record>, EvalError> {
    records(file, text, expected)
}

/// A text of a record.
fn text<'a>(file: &str, index: usize, fields: &'a Record, name: &str) -> Result<&'a str, EvalError> {
    fields.get(name).and_then(Value::as_str).ok_or_else(|| EvalError::Form {
        place: record(file, index),
        message: format!("no text under `{name}`, which the judge must see"),
    })
}

/// Whether a judgment is missing.
fn is_missing(fields: &Record, name: &str) -> bool {
    fields.get(name).is_none_or(Value::is_null)
}
