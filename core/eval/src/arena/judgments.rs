//! Judgment files of Arena-Hard: per question and model two games, with the anchor's answer as A and then as B.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bracketed::{Several, Unread, verdict};
use crate::error::{EvalError, read, record};
use crate::records::records;

/// A judge's verdict on two answers, A shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Label {
    /// A is much better.
    #[serde(rename = "A>>B")]
    FirstMuchBetter,
    /// A is better.
    #[serde(rename = "A>B")]
    FirstBetter,
    /// About equal.
    #[serde(rename = "A=B")]
    Equal,
    /// B is better.
    #[serde(rename = "B>A")]
    SecondBetter,
    /// B is much better.
    #[serde(rename = "B>>A")]
    SecondMuchBetter,
}

impl Label {
    /// Reads a label without brackets, also turned round: `A<B` is `B>A`. `None` for anything else.
    pub fn read(text: &str) -> Option<Label> {
        let letters: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        Some(match letters.as_str() {
            "A>>B" | "B<<A" => Label::FirstMuchBetter,
            "A>B" | "B<A" => Label::FirstBetter,
            "A=B" | "B=A" => Label::Equal,
            "B>A" | "A<B" => Label::SecondBetter,
            "B>>A" | "A<<B" => Label::SecondMuchBetter,
            _ => return None,
        })
    }

    /// The same verdict with the answers in the other order.
    pub fn turned(self) -> Label {
        match self {
            Label::FirstMuchBetter => Label::SecondMuchBetter,
            Label::FirstBetter => Label::SecondBetter,
            Label::Equal => Label::Equal,
            Label::SecondBetter => Label::FirstBetter,
            Label::SecondMuchBetter => Label::FirstMuchBetter,
        }
    }

    /// Share of a win for the answer shown first, and how many times it counts.
    pub fn points(self, strong_weight: u32) -> (f64, u32) {
        match self {
            Label::FirstMuchBetter => (1.0, strong_weight),
            Label::FirstBetter => (1.0, 1),
            Label::Equal => (0.5, 1),
            Label::SecondBetter => (0.0, 1),
            Label::SecondMuchBetter => (0.0, strong_weight),
        }
    }
}

/// Reads the label from a judge's text.
///
/// # Errors
/// When it holds none in double brackets, or several that differ and `several` asks for agreement.
pub fn read_label(text: &str, several: Several) -> Result<Label, Unread> {
    verdict(text, several, Label::read)
}

/// One call of the judge. The anchor's answer is A in the first game of a judgment and B in the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Game {
    /// The verdict, or why there is none.
    pub label: Result<Label, Unread>,
}

/// Both games on one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgment {
    /// The question's identifier.
    pub question: String,
    /// Its category, where given.
    pub category: Option<String>,
    /// The model whose answer was judged.
    pub model: String,
    /// Whose answer it was compared with; `None` means the anchor.
    pub opponent: Option<String>,
    /// The opponent's answer as A.
    pub first: Game,
    /// The opponent's answer as B.
    pub second: Game,
}

/// Judgments of any number of models by one judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgments {
    /// Who judged, where given.
    pub judge: Option<String>,
    /// The judgments, file by file.
    pub items: Vec<Judgment>,
}

/// A record as the public tool writes it: its first version with `question_id`, its second with `uid`.
#[derive(Deserialize)]
struct Raw {
    #[serde(alias = "uid")]
    question_id: Identifier,
    category: Option<String>,
    model: String,
    judge: Option<String>,
    #[serde(alias = "baseline")]
    opponent: Option<String>,
    games: Vec<Option<RawGame>>,
}

/// Questions are numbered or named.
pub(super) struct Identifier(pub(super) String);

impl<'de> Deserialize<'de> for Identifier {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Identifier(text)),
            serde_json::Value::Number(number) => Ok(Identifier(number.to_string())),
            _ => Err(serde::de::Error::custom("expected a question's number or name")),
        }
    }
}

#[derive(Deserialize)]
struct RawGame {
    score: Option<String>,
    /// A text, or an object with the text under `answer`.
    judgment: Option<serde_json::Value>,
}

impl RawGame {
    /// The label that the record gives or, where it gives none, the one in the judge's text.
    fn label(&self, several: Several) -> Result<Result<Label, Unread>, String> {
        if let Some(score) = &self.score {
            let bare = score.trim().trim_start_matches('[').trim_end_matches(']');
            let expected = "expected A>>B, A>B, A=B, B>A or B>>A";
            return Label::read(bare).map(Ok).ok_or_else(|| format!("the score is `{score}`; {expected}"));
        }
        let text = match &self.judgment {
            Some(serde_json::Value::String(text)) => text.as_str(),
            Some(serde_json::Value::Object(fields)) => {
                fields.get("answer").and_then(serde_json::Value::as_str).unwrap_or_default()
            }
            _ => return Ok(Err(Unread::NoJudgment)),
        };
        Ok(read_label(text, several))
    }
}

impl Judgments {
    /// Reads files, each with JSON lines or an array. Labels that a record already holds are taken as they are.
    ///
    /// # Errors
    /// As [`Judgments::from_json`], and when a file cannot be read.
    pub fn read(paths: &[&Path], several: Several) -> Result<Judgments, EvalError> {
        let mut all = Judgments::default();
        for path in paths {
            all.add(&path.display().to_string(), &read(path)?, several)?;
        }
        Ok(all)
    }

    /// Reads one text; `file` names it in errors.
    ///
    /// # Errors
    /// When a record has another form, a label is none of the five, judges are mixed, or a model was judged twice on a
    /// question.
    pub fn from_json(file: &str, text: &str, several: Several) -> Result<Judgments, EvalError> {
        let mut all = Judgments::default();
        all.add(file, text, several)?;
        Ok(all)
    }

    fn add(&mut self, file: &str, text: &str, several: Several) -> Result<(), EvalError> {
        let raw: Vec<Raw> = records(file, text, "expected judgments with question_id or uid, model, games")?;
        let mut seen: std::collections::BTreeSet<(String, String, Option<String>)> =
            self.items.iter().map(|item| (item.model.clone(), item.question.clone(), item.opponent.clone())).collect();
        for (index, item) in raw.into_iter().enumerate() {
            let form = |message: String| EvalError::Form { place: record(file, index), message };
            if self.judge.is_none() {
                self.judge.clone_from(&item.judge);
            } else if let (Some(found), Some(expected)) = (&item.judge, &self.judge)
                && found != expected
            {
                let (found, expected) = (found.clone(), expected.clone());
                return Err(EvalError::Mixed { place: record(file, index), what: "judge", found, expected });
            }
            if item.games.len() > 2 {
                return Err(form(format!("{} games; expected two, one in each order", item.games.len())));
            }
            let game = |place: usize| match item.games.get(place) {
                Some(Some(game)) => game.label(several).map(|label| Game { label }).map_err(form),
                _ => Ok(Game { label: Err(Unread::NoJudgment) }),
            };
            let (first, second) = (game(0)?, game(1)?);
            let Identifier(question) = item.question_id;
            if !seen.insert((item.model.clone(), question.clone(), item.opponent.clone())) {
                return Err(form(format!("{} was judged on question {question} before", item.model)));
            }
            let (category, model, opponent) = (item.category, item.model, item.opponent);
            self.items.push(Judgment { question, category, model, opponent, first, second });
        }
        Ok(())
    }
}
