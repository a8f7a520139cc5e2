//! What is measured of each model, and the table of it: the paper's Table 1 on a world with an oracle.

use metareward_api::PromptId;

use crate::agreement::{Ties, agreement, agreement_of};
use crate::bootstrap::{Bootstrap, Figure};
use crate::groups::Groups;
use crate::mean::{Spread, mean, mean_of, reaches, wins};
use crate::rank::{spearman_figure, spearman_of};
use crate::table::{Column, Intervals, Row, Table};

/// One model's measurements on held-out prompts.
#[derive(Clone, Debug, Default)]
pub struct ModelMeasurements {
    /// The model's name: `seed`, `sft`, `M1` …
    pub name: String,
    /// As an actor: the oracle's points of each of its answers.
    pub points: Groups<f64>,
    /// As an actor: the length of each of its answers, in [`Measurements::length_unit`].
    pub lengths: Groups<f64>,
    /// As a judge: each readable score that it gave to an answer of the base model.
    pub scores: Groups<f64>,
    /// As a judge: for each such answer the mean of its readable scores, and the oracle's points.
    pub judged: Groups<(f64, f64)>,
    /// As a judge: number of judgments that could not be read.
    pub unreadable: usize,
}

impl ModelMeasurements {
    /// Adds the judgments of one answer: the readable scores, and how many were unreadable. `points` are the oracle's.
    pub fn judge(&mut self, prompt: &PromptId, scores: &[f64], unreadable: usize, points: Option<f64>) {
        self.unreadable += unreadable;
        for score in scores {
            self.scores.push(prompt, *score);
        }
        if let (Some(mean), Some(points)) = (mean_of(&[scores]), points) {
            self.judged.push(prompt, (mean, points));
        }
    }
}

/// Measurements of all models of a run.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// The models, in the order in which they were made.
    pub models: Vec<ModelMeasurements>,
    /// Place of the model that the others are compared with: the one that the first iteration starts from.
    pub base: usize,
    /// The oracle's points of a perfect answer.
    pub full_points: f64,
    /// What lengths are counted in, as in `characters`.
    pub length_unit: String,
}

/// Keys of the columns of [`main_table`], in order.
pub const COLUMNS: [&str; 8] =
    ["points", "perfect", "win_rate", "length", "judge_score", "agreement", "agreement_without_ties", "spearman"];

/// The table of a run: how good the answers are, and how good the judgments. Each figure with its interval, and its change
/// from the base model on the same prompts. Win rates are against the first model, the seed where it was measured.
pub fn main_table(measurements: &Measurements, bootstrap: &Bootstrap) -> Table {
    let compared = measurements.models.get(measurements.base);
    let opponent = measurements.models.first();
    let rows = measurements.models.iter().enumerate().map(|(place, model)| {
        let base = compared.filter(|_| place != measurements.base);
        Row {
            name: model.name.clone(),
            cells: cells(model, opponent.filter(|_| place > 0), measurements.full_points, bootstrap),
            changes: base.map_or_else(
                || vec![None; COLUMNS.len()],
                |base| changes(model, base, opponent.unwrap_or(base), measurements.full_points, bootstrap),
            ),
        }
    });
    let name = compared.map_or("the base model", |model| model.name.as_str());
    let opponent_name = opponent.map_or("the first model", |model| model.name.as_str());
    Table {
        title: format!("Answers and judgments on held-out prompts, {} models", measurements.models.len()),
        level: bootstrap.level,
        base: measurements.base,
        intervals: Intervals::Prompts,
        columns: columns(opponent_name, measurements),
        rows: rows.collect(),
        notes: notes(name, opponent_name, measurements),
    }
}

fn columns(opponent: &str, measurements: &Measurements) -> Vec<Column> {
    let full = measurements.full_points;
    let headings = [
        ("oracle points".to_string(), format!("of {full}"), 1.0, 2),
        ("perfect answers".to_string(), "%".to_string(), 100.0, 1),
        (format!("win rate against {opponent}"), "%".to_string(), 100.0, 1),
        ("mean length".to_string(), measurements.length_unit.clone(), 1.0, 1),
        ("judge's mean score".to_string(), String::new(), 1.0, 2),
        ("judge agreement, ties half".to_string(), "%".to_string(), 100.0, 1),
        ("judge agreement, no ties".to_string(), "%".to_string(), 100.0, 1),
        ("judge Spearman".to_string(), String::new(), 1.0, 3),
    ];
    let columns = COLUMNS.iter().zip(headings).map(|(key, (heading, unit, scale, digits))| Column {
        key: (*key).to_string(),
        heading,
        unit,
        scale,
        digits,
    });
    columns.collect()
}

fn cells(
    model: &ModelMeasurements,
    opponent: Option<&ModelMeasurements>,
    full: f64,
    bootstrap: &Bootstrap,
) -> Vec<Option<Figure>> {
    vec![
        mean(&model.points, bootstrap),
        mean(&reaches(&model.points, full), bootstrap),
        opponent.and_then(|opponent| mean(&wins(&model.points, &opponent.points), bootstrap)),
        mean(&model.lengths, bootstrap),
        mean(&model.scores, bootstrap),
        agreement(&model.judged, Ties::Half, bootstrap),
        agreement(&model.judged, Ties::LeftOut, bootstrap),
        spearman_figure(&model.judged, bootstrap),
    ]
}

/// Differences from the base model. The win rate, against the opponent, is compared with the half that equal models have.
fn changes(
    model: &ModelMeasurements,
    base: &ModelMeasurements,
    opponent: &ModelMeasurements,
    full: f64,
    bootstrap: &Bootstrap,
) -> Vec<Option<Figure>> {
    let half_off = wins(&model.points, &opponent.points).map(|rate| rate - 0.5);
    let agreed = |ties| bootstrap.difference(&model.judged, &base.judged, &move |groups| agreement_of(groups, ties));
    vec![
        bootstrap.difference(&model.points, &base.points, &mean_of),
        bootstrap.difference(&reaches(&model.points, full), &reaches(&base.points, full), &mean_of),
        mean(&half_off, bootstrap),
        bootstrap.difference(&model.lengths, &base.lengths, &mean_of),
        bootstrap.difference(&model.scores, &base.scores, &mean_of),
        agreed(Ties::Half),
        agreed(Ties::LeftOut),
        bootstrap.difference(&model.judged, &base.judged, &spearman_of),
    ]
}

fn notes(base: &str, opponent: &str, measurements: &Measurements) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Win rate: answers compared with {opponent}'s to the same prompt by the oracle's points, a tie as half a win."
        ),
        format!(
            "Judge: every model scores the same answers, those of {base}; agreement is over pairs of answers to one prompt that \
             the oracle tells apart."
        ),
    ];
    for model in &measurements.models {
        let readable = model.scores.len();
        if model.unreadable > 0 {
            let all = readable + model.unreadable;
            let share = 100.0 * model.unreadable as f64 / all as f64;
            notes.push(format!(
                "{}: {} of {all} judgments ({share:.1} %) were unreadable and count nowhere.",
                model.name, model.unreadable
            ));
        }
        let spread = Spread::of(model.scores.values());
        if let Some((score, share)) = spread.mode().filter(|(_, share)| *share >= SATURATED) {
            notes.push(format!(
                "{}: its judge gives {score} in {:.1} % of its judgments (entropy {:.2} bits); a judge that says one thing tells \
                 answers apart badly.",
                model.name,
                100.0 * share,
                spread.entropy().unwrap_or(0.0)
            ));
        }
    }
    notes
}

/// From which share of one score on a judge is called saturated.
const SATURATED: f64 = 0.9;
