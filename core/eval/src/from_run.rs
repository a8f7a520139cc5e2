//! Reads what a run measured on held-out prompts.

use std::collections::BTreeMap;

use metareward_api::{PromptId, Response};
use metareward_runtime::{Place, RunError, RunReader, Stage};

use crate::models::{Measurements, ModelMeasurements};

/// What the length of an answer is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LengthUnit {
    /// Letters, blanks and signs (Unicode scalar values); the paper's unit.
    #[default]
    Characters,
    /// Words, separated by white space.
    Words,
    /// The model's own tokens.
    Tokens,
}

impl LengthUnit {
    /// The unit's name in a table.
    pub fn name(self) -> &'static str {
        match self {
            LengthUnit::Characters => "characters",
            LengthUnit::Words => "words",
            LengthUnit::Tokens => "tokens",
        }
    }

    /// Length of an answer.
    fn of(self, response: &Response) -> f64 {
        match self {
            LengthUnit::Characters => response.text.chars().count() as f64,
            LengthUnit::Words => response.text.split_whitespace().count() as f64,
            LengthUnit::Tokens => f64::from(response.tokens),
        }
    }
}

/// Reads the measurements of every model that a run has evaluated so far: the seed, the model after SFT, M1 … The model
/// that the first iteration starts from is the one that the others are compared with. `full_points` is the top of the
/// rubric's scale: 5 for the paper's.
///
/// # Errors
/// When a file of the run cannot be read.
pub fn measure(reader: &RunReader, unit: LengthUnit, full_points: f64) -> Result<Measurements, RunError> {
    let record = reader.record();
    let base_name = record.base_model.clone();
    let mut names = vec!["seed".to_string(), base_name.clone()];
    names.dedup();
    names.extend((1..=record.config.iterations).map(|iteration| format!("M{iteration}")));

    // The oracle's points of the answers that every model judges.
    let mut judged_points: BTreeMap<(PromptId, u32), f64> = BTreeMap::new();
    for points in reader.points(&base_name)? {
        let points = points?;
        judged_points.insert((points.prompt, points.response), points.points);
    }
    let mut models = Vec::new();
    for name in names {
        if reader.stage(&Place::Evaluation(name.clone()), Stage::Responses)?.is_some() {
            models.push(measure_model(reader, name, unit, &judged_points)?);
        }
    }
    let base = models.iter().position(|model| model.name == base_name).unwrap_or(0);
    Ok(Measurements { models, base, full_points, length_unit: unit.name().to_string() })
}

fn measure_model(
    reader: &RunReader,
    name: String,
    unit: LengthUnit,
    judged_points: &BTreeMap<(PromptId, u32), f64>,
) -> Result<ModelMeasurements, RunError> {
    let place = Place::Evaluation(name.clone());
    let mut model = ModelMeasurements { name, ..ModelMeasurements::default() };
    for response in reader.responses(&place)? {
        let response = response?;
        model.lengths.push(&response.prompt, unit.of(&response));
    }
    for points in reader.points(&model.name)? {
        let points = points?;
        model.points.push(&points.prompt, points.points);
    }
    // Readable scores of each answer, and the number of unreadable judgments.
    let mut judged: BTreeMap<(PromptId, u32), (Vec<f64>, usize)> = BTreeMap::new();
    for judgment in reader.judgments(&place)? {
        let judgment = judgment?;
        let (scores, unreadable) = judged.entry((judgment.prompt, judgment.response)).or_default();
        match judgment.score {
            Some(score) => scores.push(score),
            None => *unreadable += 1,
        }
    }
    for (answer, (scores, unreadable)) in judged {
        let points = judged_points.get(&answer).copied();
        model.judge(&answer.0, &scores, unreadable, points);
    }
    Ok(model)
}
