//! The records of a run as flat tables, a row at a time.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use metareward_api::PromptId;
use metareward_runtime::{Place, RunReader, Stage};
use serde::Serialize;

use super::Exported;
use crate::{ReportError, pack::encode};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Text,
    Whole,
    Number,
    Truth,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    None,
    Text(String),
    Whole(i64),
    Number(f64),
    Truth(bool),
}

/// A table's name and columns.
pub(super) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, ColumnType)],
}

/// Takes a table's rows.
pub(super) trait Sink {
    fn row(&mut self, row: Vec<Cell>) -> Result<(), ReportError>;

    /// Ends the file; returns its path.
    fn finish(self: Box<Self>) -> Result<PathBuf, ReportError>;
}

/// Begins a file; the path has no ending yet.
pub(super) type Create<'a> = &'a dyn Fn(&Path, &Table) -> Result<Box<dyn Sink>, ReportError>;

use ColumnType::{Number, Text, Truth, Whole};

const PAIRS: Table = Table {
    name: "pairs",
    columns: &[
        ("iteration", Whole),
        ("kind", Text),
        ("prompt", Text),
        ("response", Whole),
        ("model", Text),
        ("messages", Text),
        ("chosen", Text),
        ("rejected", Text),
        ("chosen_draw", Whole),
        ("rejected_draw", Whole),
        ("chosen_score", Number),
        ("rejected_score", Number),
        ("chosen_length", Whole),
        ("rejected_length", Whole),
        ("weight", Number),
    ],
};

const RESPONSES: Table = Table {
    name: "responses",
    columns: &[
        ("part", Text),
        ("prompt", Text),
        ("instruction", Text),
        ("draw", Whole),
        ("model", Text),
        ("text", Text),
        ("tokens", Whole),
        ("finish", Text),
        ("duplicate_of", Whole),
        ("points", Number),
    ],
};

const JUDGMENTS: Table = Table {
    name: "judgments",
    columns: &[
        ("part", Text),
        ("prompt", Text),
        ("response", Whole),
        ("draw", Whole),
        ("opponent", Whole),
        ("shown", Text),
        ("model", Text),
        ("text", Text),
        ("tokens", Whole),
        ("finish", Text),
        ("score", Number),
        ("unreadable", Text),
    ],
};

const VERDICTS: Table = Table {
    name: "verdicts",
    columns: &[
        ("iteration", Whole),
        ("prompt", Text),
        ("response", Whole),
        ("first", Whole),
        ("second", Whole),
        ("model", Text),
        ("text", Text),
        ("tokens", Whole),
        ("finish", Text),
        ("winner", Text),
        ("unreadable", Text),
    ],
};

const RATINGS: Table = Table {
    name: "ratings",
    columns: &[
        ("iteration", Whole),
        ("prompt", Text),
        ("response", Whole),
        ("judgment", Whole),
        ("rating", Number),
        ("variance", Number),
        ("w1", Number),
        ("w2", Number),
        ("converged", Truth),
    ],
};

/// Writes the five tables of these iterations and, with `evaluation`, of the held-out prompts. A table without rows is
/// left out.
pub(super) fn export(
    run: &RunReader,
    to: &Path,
    iterations: &[u32],
    evaluation: bool,
    create: Create<'_>,
) -> Result<Exported, ReportError> {
    let mut places: Vec<Place> = iterations.iter().map(|iteration| Place::Iteration(*iteration)).collect();
    if evaluation {
        let mut names = vec!["seed".to_owned(), run.record().base_model.clone()];
        names.dedup();
        names.extend(iterations.iter().map(|iteration| format!("M{iteration}")));
        places.extend(names.into_iter().map(Place::Evaluation));
    }
    let mut exported = Exported::default();
    let mut table = |table: &Table, fill: Fill<'_>| -> Result<(), ReportError> {
        let mut rows = Rows { path: to.join(table.name), table, create, sink: None, count: 0 };
        fill(&mut rows)?;
        match rows.sink {
            Some(sink) => exported.files.push((sink.finish()?, rows.count)),
            None => exported.remarks.push(format!("no {}", table.name)),
        }
        Ok(())
    };
    table(&PAIRS, &|rows| pairs(run, iterations, rows))?;
    table(&RESPONSES, &|rows| responses(run, &places, rows))?;
    table(&JUDGMENTS, &|rows| judgments(run, &places, rows))?;
    table(&VERDICTS, &|rows| verdicts(run, iterations, rows))?;
    table(&RATINGS, &|rows| ratings(run, iterations, rows))?;
    Ok(exported)
}

/// Puts all rows of a table.
type Fill<'a> = &'a dyn Fn(&mut Rows<'_>) -> Result<(), ReportError>;

/// A table that is begun with its first row.
struct Rows<'a> {
    path: PathBuf,
    table: &'a Table,
    create: Create<'a>,
    sink: Option<Box<dyn Sink>>,
    count: u64,
}

impl Rows<'_> {
    fn put(&mut self, row: Vec<Cell>) -> Result<(), ReportError> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => none.insert((self.create)(&self.path, self.table)?),
        };
        self.count += 1;
        sink.row(row)
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn whole(number: u32) -> Cell {
    Cell::Whole(number.into())
}

fn maybe<T>(value: Option<T>, cell: impl Fn(T) -> Cell) -> Cell {
    value.map_or(Cell::None, cell)
}

/// The word that a value is in JSON.
fn word<T: Serialize>(value: &T) -> Result<Cell, ReportError> {
    match serde_json::to_value(value).map_err(|error| encode("a record", &error))? {
        serde_json::Value::Null => Ok(Cell::None),
        serde_json::Value::String(word) => Ok(Cell::Text(word)),
        other => Ok(Cell::Text(other.to_string())),
    }
}

fn part(place: &Place) -> Cell {
    Cell::Text(place.folder().display().to_string())
}

fn pairs(run: &RunReader, iterations: &[u32], rows: &mut Rows<'_>) -> Result<(), ReportError> {
    for iteration in iterations {
        for pair in run.pairs(*iteration)? {
            let pair = pair?;
            let messages = serde_json::to_string(&pair.messages).map_err(|error| encode("a conversation", &error))?;
            rows.put(vec![
                whole(*iteration),
                word(&pair.kind)?,
                text(pair.prompt.0),
                maybe(pair.response, whole),
                text(pair.model),
                text(messages),
                text(pair.chosen.text),
                text(pair.rejected.text),
                whole(pair.chosen.draw),
                whole(pair.rejected.draw),
                Cell::Number(pair.chosen.score),
                Cell::Number(pair.rejected.score),
                whole(pair.chosen.length),
                whole(pair.rejected.length),
                Cell::Number(pair.weight),
            ])?;
        }
    }
    Ok(())
}

fn responses(run: &RunReader, places: &[Place], rows: &mut Rows<'_>) -> Result<(), ReportError> {
    for place in places {
        // Every evaluated model answers the same prompts, which are kept once.
        let (asked, model) = match place {
            Place::Evaluation(model) => (Place::Evaluation("held-out".into()), Some(model)),
            other => (other.clone(), None),
        };
        if run.stage(place, Stage::Responses)?.is_none() {
            continue;
        }
        let mut instructions: BTreeMap<PromptId, String> = BTreeMap::new();
        for prompt in run.prompts(&asked)? {
            let prompt = prompt?;
            instructions.insert(prompt.id, prompt.text);
        }
        let mut points: BTreeMap<(PromptId, u32), f64> = BTreeMap::new();
        if let Some(model) = model {
            for scored in run.points(model)? {
                let scored = scored?;
                points.insert((scored.prompt, scored.response), scored.points);
            }
        }
        for response in run.responses(place)? {
            let response = response?;
            let points = points.get(&(response.prompt.clone(), response.draw)).copied();
            rows.put(vec![
                part(place),
                text(response.prompt.0.clone()),
                maybe(instructions.get(&response.prompt).cloned(), Cell::Text),
                whole(response.draw),
                text(response.model),
                text(response.text),
                whole(response.tokens),
                word(&response.finish)?,
                maybe(response.duplicate_of, whole),
                maybe(points, Cell::Number),
            ])?;
        }
    }
    Ok(())
}

fn judgments(run: &RunReader, places: &[Place], rows: &mut Rows<'_>) -> Result<(), ReportError> {
    for place in places {
        for judgment in run.judgments(place)? {
            let judgment = judgment?;
            rows.put(vec![
                part(place),
                text(judgment.prompt.0),
                whole(judgment.response),
                whole(judgment.draw),
                maybe(judgment.opponent, whole),
                word(&judgment.shown)?,
                text(judgment.model),
                text(judgment.text),
                whole(judgment.tokens),
                word(&judgment.finish)?,
                maybe(judgment.score, Cell::Number),
                word(&judgment.unreadable)?,
            ])?;
        }
    }
    Ok(())
}

fn verdicts(run: &RunReader, iterations: &[u32], rows: &mut Rows<'_>) -> Result<(), ReportError> {
    for iteration in iterations {
        for verdict in run.verdicts(*iteration)? {
            let verdict = verdict?;
            rows.put(vec![
                whole(*iteration),
                text(verdict.prompt.0),
                whole(verdict.response),
                whole(verdict.first),
                whole(verdict.second),
                text(verdict.model),
                text(verdict.text),
                whole(verdict.tokens),
                word(&verdict.finish)?,
                word(&verdict.winner)?,
                word(&verdict.unreadable)?,
            ])?;
        }
    }
    Ok(())
}

fn ratings(run: &RunReader, iterations: &[u32], rows: &mut Rows<'_>) -> Result<(), ReportError> {
    for iteration in iterations {
        for rated in run.ratings(*iteration)? {
            let rated = rated?;
            let [w1, w2] = rated.weights;
            for (judgment, rating) in rated.judgments.iter().zip(&rated.ratings) {
                rows.put(vec![
                    whole(*iteration),
                    text(rated.prompt.0.clone()),
                    whole(rated.response),
                    whole(*judgment),
                    Cell::Number(*rating),
                    Cell::Number(rated.variance),
                    Cell::Number(w1),
                    Cell::Number(w2),
                    Cell::Truth(rated.converged),
                ])?;
            }
        }
    }
    Ok(())
}
