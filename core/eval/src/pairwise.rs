//! Two models on one's own prompts, judged by anyone in both orders: win rate, and win rate at equal lengths.

use std::fmt;
use std::path::Path;

use metareward_api::PromptId;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::alpaca::{Comparison, FitOptions, LengthControlled, Regularization, fit_comparisons, one_sided};
use crate::choice::Choice;
use crate::error::{EvalError, read, record};
use crate::records::records;
use crate::show::{number, share};
use crate::{Bootstrap, Figure, Groups, mean};

/// An answer of each model to one prompt, and the judge's choice in both orders. A choice is by the place in which the
/// answers were shown; `None` is a judgment that could not be read, or was not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The prompt; several pairs may share one.
    pub prompt: PromptId,
    /// Length of the model's answer, in the comparison's unit.
    pub model_length: f64,
    /// Length of the baseline's answer.
    pub baseline_length: f64,
    /// With the model's answer shown first.
    pub model_first: Option<Choice>,
    /// With the baseline's answer shown first.
    pub baseline_first: Option<Choice>,
}

impl Pair {
    /// The model's points, from 0 to 1: the mean over the orders that were read. `None` where neither was.
    pub fn points(&self) -> Option<f64> {
        let both = [self.model_first.map(Choice::points), self.baseline_first.map(|choice| choice.turned().points())];
        let read: Vec<f64> = both.into_iter().flatten().collect();
        (!read.is_empty()).then(|| read.iter().sum::<f64>() / read.len() as f64)
    }

    /// The model's points if only a win in both orders counts as one, and everything else but a loss in both as a tie.
    /// `None` unless both were read.
    pub fn strict_points(&self) -> Option<f64> {
        let (first, second) = (self.model_first?, self.baseline_first?.turned());
        Some(if first == second { first.points() } else { 0.5 })
    }
}

/// Pairs of two models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// The model.
    pub model: String,
    /// What it is compared with.
    pub baseline: String,
    /// Who judged.
    pub judge: String,
    /// What lengths are counted in.
    pub length_unit: String,
    /// The pairs.
    pub items: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    prompt: String,
    model_output: String,
    baseline_output: String,
    #[serde(default)]
    model_first: Option<Choice>,
    #[serde(default)]
    baseline_first: Option<Choice>,
    /// What a live judge said, which is not needed.
    #[serde(default, rename = "judgments")]
    _judgments: IgnoredAny,
    #[serde(default, rename = "errors")]
    _errors: IgnoredAny,
}

impl Pairs {
    /// Reads JSON lines, or an array, of `{"prompt", "model_output", "baseline_output", "model_first",
    /// "baseline_first"}`; the last two are `"first"`, `"second"`, `"tie"` or null. Lengths are in characters.
    ///
    /// # Errors
    /// When the file cannot be read, a record has another form, or an output is empty.
    pub fn read(path: &Path, model: &str, baseline: &str, judge: &str) -> Result<Pairs, EvalError> {
        Pairs::from_json(&path.display().to_string(), &read(path)?, model, baseline, judge)
    }

    /// As [`Pairs::read`], from text; `file` names it in errors.
    ///
    /// # Errors
    /// As [`Pairs::read`].
    pub fn from_json(file: &str, text: &str, model: &str, baseline: &str, judge: &str) -> Result<Pairs, EvalError> {
        let raw: Vec<Raw> = records(file, text, "expected pairs with prompt, model_output, baseline_output")?;
        let mut items = Vec::with_capacity(raw.len());
        for (index, item) in raw.into_iter().enumerate() {
            for (whose, output) in [("the model's", &item.model_output), ("the baseline's", &item.baseline_output)] {
                if output.trim().is_empty() {
                    return Err(EvalError::EmptyOutput { place: record(file, index), whose });
                }
            }
            items.push(Pair {
                prompt: PromptId(item.prompt),
                model_length: item.model_output.chars().count() as f64,
                baseline_length: item.baseline_output.chars().count() as f64,
                model_first: item.model_first,
                baseline_first: item.baseline_first,
            });
        }
        Ok(Pairs {
            model: model.to_string(),
            baseline: baseline.to_string(),
            judge: judge.to_string(),
            length_unit: "characters".to_string(),
            items,
        })
    }
}

/// What pairs say of two models. Rates from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairwiseReport {
    /// The model.
    pub model: String,
    /// What it is compared with.
    pub baseline: String,
    /// Who judged.
    pub judge: String,
    /// Mean points over pairs, each the mean of its orders, a tie as half a win. `n` counts pairs with at least one
    /// order read.
    pub win_rate: Figure,
    /// The same where only a win in both orders counts as one and a disagreement as a tie. `None` where no pair was
    /// read in both.
    pub strict_win_rate: Option<Figure>,
    /// Pairs won, tied and lost by the strict rule.
    pub strict: [usize; 3],
    /// Pairs whose orders contradict each other, or of which one is a tie.
    pub inconsistent: usize,
    /// Share of decided judgments that chose the answer shown first.
    pub first_wins: Option<Figure>,
    /// Win rate at equal lengths.
    pub length_controlled: Option<LengthControlled>,
    /// Why there is none, where there is none.
    pub no_length_controlled: Option<String>,
    /// Mean length of the model's answers.
    pub length: Figure,
    /// Mean length of the baseline's.
    pub baseline_length: Figure,
    /// What lengths are counted in.
    pub length_unit: String,
    /// Judgments that could not be read, of two per pair.
    pub unread: usize,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

/// Measures pairs. The length-controlled win rate is fitted without difficulties, since prompts of one's own have none.
///
/// # Errors
/// When no pair has a readable judgment.
pub fn compare(
    pairs: &Pairs,
    regularization: Regularization,
    bootstrap: &Bootstrap,
) -> Result<PairwiseReport, EvalError> {
    let empty = || EvalError::Empty { place: "the pairs".to_string(), expected: "expected a judgment that was read" };
    let figure = |value: &dyn Fn(&Pair) -> Option<f64>| {
        let values = pairs.items.iter().filter_map(|pair| Some((pair.prompt.clone(), value(pair)?)));
        mean(&values.collect::<Groups<f64>>(), bootstrap)
    };
    let strict: Vec<f64> = pairs.items.iter().filter_map(Pair::strict_points).collect();
    let count = |points: f64| strict.iter().filter(|value| **value == points).count();
    let choices = || pairs.items.iter().flat_map(|pair| [(pair, pair.model_first), (pair, pair.baseline_first)]);
    let decided: Groups<f64> = choices()
        .filter_map(|(pair, choice)| Some((pair.prompt.clone(), choice.filter(|choice| choice.is_decided())?.points())))
        .collect();
    let comparisons: Groups<Comparison> = pairs
        .items
        .iter()
        .map(|pair| {
            let shorter_by = pair.baseline_length - pair.model_length;
            (pair.prompt.clone(), Comparison { preference: pair.points(), shorter_by, difficulty: 0.0 })
        })
        .collect();
    let options = FitOptions { regularization, ..FitOptions::default() };
    let fitted = fit_comparisons(&comparisons, options, bootstrap);
    Ok(PairwiseReport {
        model: pairs.model.clone(),
        baseline: pairs.baseline.clone(),
        judge: pairs.judge.clone(),
        win_rate: figure(&Pair::points).ok_or_else(empty)?,
        strict_win_rate: figure(&Pair::strict_points),
        strict: [count(1.0), count(0.5), count(0.0)],
        inconsistent: pairs
            .items
            .iter()
            .filter(|pair| matches!((pair.model_first, pair.baseline_first), (Some(a), Some(b)) if a != b.turned()))
            .count(),
        first_wins: mean(&decided, bootstrap),
        no_length_controlled: fitted.as_ref().err().map(EvalError::to_string),
        length_controlled: fitted.ok(),
        length: figure(&|pair| Some(pair.model_length)).ok_or_else(empty)?,
        baseline_length: figure(&|pair| Some(pair.baseline_length)).ok_or_else(empty)?,
        length_unit: pairs.length_unit.clone(),
        unread: choices().filter(|(_, choice)| choice.is_none()).count(),
        bootstrap: *bootstrap,
    })
}

impl fmt::Display for PairwiseReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let show = |figure: &Figure| share(figure, &self.bootstrap);
        writeln!(f, "{} against {}, judged by {} in both orders", self.model, self.baseline, self.judge)?;
        writeln!(f, "win rate, ties half: {}", show(&self.win_rate))?;
        if let Some(strict) = &self.strict_win_rate {
            let [won, tied, lost] = self.strict;
            writeln!(f, "win rate, a win only in both orders: {}; {won} won, {tied} tied, {lost} lost", show(strict))?;
        }
        writeln!(f, "pairs on which the orders disagree: {}", self.inconsistent)?;
        if let Some(found) = &self.length_controlled {
            writeln!(f, "win rate at equal lengths, {}: {}", found.method, show(&found.win_rate))?;
            one_sided(f, found)?;
        }
        if let Some(why) = &self.no_length_controlled {
            writeln!(f, "win rate at equal lengths: {why}")?;
        }
        if let Some(first) = &self.first_wins {
            writeln!(f, "the answer shown first is chosen: {}", show(first))?;
        }
        let unit = format!(" {}", self.length_unit);
        writeln!(f, "mean length: {}", number(&self.length, &self.bootstrap, 1, &unit))?;
        writeln!(f, "mean length of {}: {}", self.baseline, number(&self.baseline_length, &self.bootstrap, 1, &unit))?;
        if self.unread > 0 {
            writeln!(f, "unread: {} judgments, which count nowhere", self.unread)?;
        }
        Ok(())
    }
}
