//! Length-controlled win rates: what the win rate would be if the model's outputs were as long as the baseline's
//! (Dubois et al. 2024, *Length-Controlled AlpacaEval*).
//!
//! A preference p between 0 and 1 is modelled as σ(a·tanh(Δ / s) + b·difficulty + c), where Δ is the number of
//! characters of the baseline's output minus the model's and s the standard deviation of Δ over the file. The
//! length-controlled win rate is the mean prediction at Δ = 0.

use metareward_api::PromptId;
use serde::{Deserialize, Serialize};

use super::annotations::Annotations;
use super::tables::{Anchors, Difficulties, GlmWeights};
use crate::error::EvalError;
use crate::logistic::{FitError, Observation, Penalty, choose_strength, default_strengths, fit, sigmoid};
use crate::{Bootstrap, Figure, Groups};

/// Total weight of the anchors, beside the annotations' weight of 1 per instruction (`regularize_to_baseline_lambda`).
pub const ANCHOR_WEIGHT: f64 = 0.2;
/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// How strongly a fit is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "strength", rename_all = "snake_case")]
pub enum Regularization {
    /// Not at all.
    None,
    /// L1 with the strength that predicts held-out instructions best, as AlpacaEval does.
    #[default]
    CrossValidated,
    /// L1 with a given strength, 1/C of scikit-learn.
    L1(f64),
    /// L2 with a given strength.
    L2(f64),
}

/// What a fit uses beside the annotations.
#[derive(Clone, Copy, Debug, Default)]
pub struct FitOptions<'a> {
    /// Difficulties of the instructions; without them the model has two weights, of length and of the model. That is
    /// what there is for one's own prompts.
    pub difficulties: Option<&'a Difficulties>,
    /// Judged answers of the baseline told to be brief or verbose, as AlpacaEval uses; they weigh [`ANCHOR_WEIGHT`].
    pub anchors: Option<&'a Anchors>,
    /// How strongly the weights are held back.
    pub regularization: Regularization,
}

/// Where a length-controlled win rate is from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Method {
    /// Predicted from given weights.
    Given,
    /// Fitted here.
    Fitted {
        /// How the weights were held back; a strength that was chosen by cross-validation is written here.
        penalty: Penalty,
        /// Whether the instructions' difficulties were used.
        difficulties: bool,
        /// Number of anchors.
        anchors: usize,
    },
    /// By definition, since the model is the baseline.
    Baseline,
}

/// A length-controlled win rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthControlled {
    /// Where it is from.
    pub method: Method,
    /// From 0 to 1. The interval is over instructions: with given weights it holds those fixed; otherwise every draw is
    /// fitted anew, with the same strength.
    pub win_rate: Figure,
    /// Standard error of the mean prediction, from 0 to 1, as on the leaderboard; it does not know that the weights are
    /// uncertain too. `None` where every prediction is the same, because there are no difficulties.
    pub standard_error: Option<f64>,
    /// The weights, less the baseline's.
    pub weights: GlmWeights,
    /// Share of comparisons in which the model's output is the shorter one, from 0 to 1; `None` where no lengths were
    /// seen. Near 0 or 1 the figure at equal lengths is guessed from few comparisons: see
    /// [`LengthControlled::one_sided`].
    pub shorter: Option<f64>,
}

impl LengthControlled {
    /// Whether in fewer than a twentieth of the comparisons one side's output is the shorter one. Then length and model
    /// can hardly be told apart: without difficulties and anchors, gpt-3.5-turbo-1106 (shorter in 97 %) comes out 18
    /// points too high.
    pub fn one_sided(&self) -> bool {
        self.shorter.is_some_and(|share| !(0.05..=0.95).contains(&share))
    }
}

/// What a comparison has to say of length: a preference from 0 to 1, where there is one, the length difference,
/// baseline minus model, and the difficulty of its instruction, where known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// From 0 (the baseline wins) to 1.
    pub preference: Option<f64>,
    /// Length of the baseline's output minus the model's, in any unit.
    pub shorter_by: f64,
    /// The instruction's difficulty; 0 where unknown.
    pub difficulty: f64,
}

/// The mean prediction at equal lengths, from given weights, over the instructions of a table of difficulties.
///
/// # Errors
/// When the table is empty.
pub fn predict(
    model: &GlmWeights,
    baseline: &GlmWeights,
    difficulties: &Difficulties,
    bootstrap: &Bootstrap,
) -> Result<LengthControlled, EvalError> {
    let weights = GlmWeights {
        length: model.length - baseline.length,
        difficulty: model.difficulty - baseline.difficulty,
        model: model.model - baseline.model,
    };
    let predictions: Groups<f64> = difficulties
        .values
        .iter()
        .enumerate()
        .map(|(index, difficulty)| (place(index), prediction(&weights, *difficulty)))
        .collect();
    let standard_error = Some(standard_error(&predictions));
    let win_rate = crate::mean(&predictions, bootstrap)
        .ok_or_else(|| EvalError::Empty { place: difficulties.file.clone(), expected: "expected difficulties" })?;
    Ok(LengthControlled { method: Method::Given, win_rate, standard_error, weights, shorter: None })
}

/// Fits the model to annotations.
///
/// # Errors
/// When the difficulties do not belong to these instructions, and when there is no fit ([`FitError`]).
pub fn fit_annotations(
    annotations: &Annotations,
    options: FitOptions,
    bootstrap: &Bootstrap,
) -> Result<LengthControlled, EvalError> {
    if let Some(table) = options.difficulties {
        match &table.instructions {
            Some(instructions) => {
                let instructions: Vec<&str> = instructions.iter().map(String::as_str).collect();
                annotations.check_instructions(&instructions, &table.file)?;
            }
            None if annotations.items.len() != table.values.len() => {
                return Err(annotations.count_error(table.values.len(), &table.file));
            }
            None => {}
        }
    }
    if annotations.model == annotations.baseline {
        return Ok(baseline_itself(annotations.items.len()));
    }
    let comparisons: Groups<Comparison> = annotations
        .items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let difficulty = options.difficulties.and_then(|table| table.values.get(index)).copied().unwrap_or(0.0);
            let shorter_by = item.baseline_length as f64 - item.length as f64;
            (place(index), Comparison { preference: item.preference, shorter_by, difficulty })
        })
        .collect();
    fit_comparisons(&comparisons, options, bootstrap)
}

/// Fits the model to any comparisons, grouped by prompt; of `options.difficulties` only whether they are there is used.
///
/// # Errors
/// When there is no fit ([`FitError`]).
pub fn fit_comparisons(
    comparisons: &Groups<Comparison>,
    options: FitOptions,
    bootstrap: &Bootstrap,
) -> Result<LengthControlled, EvalError> {
    let anchors: Vec<Observation<3>> = options.anchors.map(anchor_rows).unwrap_or_default();
    let groups: Vec<&[Comparison]> = comparisons.iter().map(|(_, group)| group).collect();
    let observations = observations(&groups, &anchors)?;
    let penalty = match options.regularization {
        Regularization::None => Penalty::None,
        Regularization::L1(strength) => Penalty::L1(checked(strength)?),
        Regularization::L2(strength) => Penalty::L2(checked(strength)?),
        Regularization::CrossValidated => Penalty::L1(choose_strength(&observations, &default_strengths(), FOLDS)?),
    };
    let weights = to_weights(fit(&observations, penalty)?);
    let judged = comparisons.iter().flat_map(|(prompt, group)| group.iter().map(move |seen| (prompt.clone(), *seen)));
    let judged: Groups<Comparison> = judged.filter(|(_, seen)| seen.preference.is_some()).collect();
    let statistic = |groups: &[&[Comparison]]| {
        let weights = to_weights(fit(&self::observations(groups, &anchors).ok()?, penalty).ok()?);
        let predictions =
            groups.iter().flat_map(|group| group.iter().map(|seen| prediction(&weights, seen.difficulty)));
        let (sum, count) = predictions.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
        (count > 0).then(|| sum / count as f64)
    };
    // The file's value is over all instructions, those without a preference included; draws are of the same.
    let figure = bootstrap.figure(comparisons, &statistic).ok_or(FitError::Nothing)?;
    let predictions = comparisons.map(|seen| prediction(&weights, seen.difficulty));
    let method = Method::Fitted { penalty, difficulties: options.difficulties.is_some(), anchors: anchors.len() };
    let win_rate = Figure { n: judged.len(), prompts: judged.prompts(), ..figure };
    let shorter = comparisons.values().filter(|seen| seen.shorter_by > 0.0).count() as f64 / comparisons.len() as f64;
    let standard_error = options.difficulties.map(|_| standard_error(&predictions));
    Ok(LengthControlled { method, win_rate, standard_error, weights, shorter: Some(shorter) })
}

/// A model against itself.
fn baseline_itself(n: usize) -> LengthControlled {
    let win_rate = Figure { value: 0.5, interval: None, n, prompts: n };
    let weights = GlmWeights::default();
    LengthControlled { method: Method::Baseline, win_rate, standard_error: None, weights, shorter: None }
}

/// Features of comparisons and of anchors.
fn observations(groups: &[&[Comparison]], anchors: &[Observation<3>]) -> Result<Vec<Observation<3>>, FitError> {
    let all = || groups.iter().flat_map(|group| group.iter());
    let n = all().count() as f64;
    let mean = all().map(|seen| seen.shorter_by).sum::<f64>() / n;
    let squares: f64 = all().map(|seen| (seen.shorter_by - mean) * (seen.shorter_by - mean)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    if n < 2.0 {
        return Err(FitError::Nothing);
    }
    if deviation <= 0.0 {
        return Err(FitError::SameLengths);
    }
    let mut observations = anchors.to_vec();
    observations.extend(all().filter_map(|seen| {
        let features = [libm::tanh(seen.shorter_by / deviation), seen.difficulty, 1.0];
        Some(Observation { features, label: seen.preference?, weight: 1.0 })
    }));
    if observations.len() == anchors.len() {
        return Err(FitError::Nothing);
    }
    Ok(observations)
}

fn anchor_rows(anchors: &Anchors) -> Vec<Observation<3>> {
    let weight = ANCHOR_WEIGHT / anchors.models.max(1) as f64;
    let row = |anchor: &super::tables::Anchor| Observation {
        features: [libm::tanh(anchor.length), anchor.difficulty, 0.0],
        label: anchor.preference,
        weight,
    };
    anchors.rows.iter().map(row).collect()
}

fn to_weights([length, difficulty, model]: [f64; 3]) -> GlmWeights {
    GlmWeights { length, difficulty, model }
}

/// The prediction at equal lengths.
fn prediction(weights: &GlmWeights, difficulty: f64) -> f64 {
    sigmoid(weights.difficulty * difficulty + weights.model)
}

fn checked(strength: f64) -> Result<f64, EvalError> {
    if strength.is_finite() && strength >= 0.0 {
        Ok(strength)
    } else {
        let message = format!("the strength is {strength}, but must be a number from 0");
        Err(EvalError::Option { option: "regularization", message })
    }
}

/// Standard error of a mean, with one degree of freedom gone; 0 of fewer than two.
pub(super) fn standard_error(values: &Groups<f64>) -> f64 {
    let n = values.len() as f64;
    if n < 2.0 {
        return 0.0;
    }
    let mean = values.values().sum::<f64>() / n;
    let squares: f64 = values.values().map(|value| (value - mean) * (value - mean)).sum();
    (squares / (n - 1.0) / n).sqrt()
}

/// The name of the instruction at a place, so that names are in the order of places.
pub(super) fn place(index: usize) -> PromptId {
    PromptId(format!("{index:08}"))
}
