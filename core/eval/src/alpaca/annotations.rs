//! Annotation files of AlpacaEval: an instruction, two outputs and a preference per record.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{EvalError, beginning, read, record};
use crate::records::records;

/// One judged pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// What was asked.
    pub instruction: String,
    /// From 0 (the baseline wins) to 1 (the model wins); 0.5 is a draw. `None` where the annotator gave none.
    pub preference: Option<f64>,
    /// Characters of the model's output (Unicode scalar values).
    pub length: usize,
    /// Characters of the baseline's output.
    pub baseline_length: usize,
}

/// What is let through. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// Missing preferences: such records count in no win rate.
    pub missing_preferences: bool,
    /// Outputs without text: such records count as they were judged.
    pub empty_outputs: bool,
}

/// The judged pairs of one model against one baseline, in the order of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotations {
    /// Where they are from.
    pub file: String,
    /// The model's name (`generator_2`).
    pub model: String,
    /// The baseline's name (`generator_1`).
    pub baseline: String,
    /// The annotator's name, where given.
    pub annotator: Option<String>,
    /// The pairs.
    pub items: Vec<Annotation>,
}

/// A record as the public tool writes it; it has more fields, which are not needed.
#[derive(Deserialize)]
struct Raw {
    instruction: String,
    output_1: String,
    output_2: String,
    #[serde(default = "baseline_name")]
    generator_1: String,
    #[serde(default = "model_name")]
    generator_2: String,
    annotator: Option<String>,
    preference: Option<f64>,
}

fn baseline_name() -> String {
    "baseline".to_string()
}

fn model_name() -> String {
    "model".to_string()
}

impl Annotations {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`Annotations::from_json`], and when the file cannot be read.
    pub fn read(path: &Path, allow: Allow) -> Result<Annotations, EvalError> {
        Annotations::from_json(&path.display().to_string(), &read(path)?, allow)
    }

    /// Reads a JSON array or JSON lines of annotations; `file` names them in errors. Preferences are 1 … 2 as in
    /// AlpacaEval, and 0, its older form of a draw.
    ///
    /// # Errors
    /// When a record has another form; when it has a preference off the scale, none, or an output without text, and
    /// that is not allowed; when models, baselines or annotators are mixed; when there is no record, or none with a
    /// preference.
    pub fn from_json(file: &str, text: &str, allow: Allow) -> Result<Annotations, EvalError> {
        let raw: Vec<Raw> =
            records(file, text, "expected annotations with instruction, output_1, output_2, preference")?;
        let mut items = Vec::with_capacity(raw.len());
        for (index, item) in raw.iter().enumerate() {
            let place = || record(file, index);
            for (what, found, first) in [
                ("model (generator_2)", &item.generator_2, &raw[0].generator_2),
                ("baseline (generator_1)", &item.generator_1, &raw[0].generator_1),
            ] {
                if found != first {
                    return Err(EvalError::Mixed {
                        place: place(),
                        what,
                        found: found.clone(),
                        expected: first.clone(),
                    });
                }
            }
            if item.annotator != raw[0].annotator {
                let name = |annotator: &Option<String>| annotator.clone().unwrap_or_else(|| "none".to_string());
                return Err(EvalError::Mixed {
                    place: place(),
                    what: "annotator",
                    found: name(&item.annotator),
                    expected: name(&raw[0].annotator),
                });
            }
            for (whose, output) in [("the baseline's", &item.output_1), ("the model's", &item.output_2)] {
                if output.trim().is_empty() && !allow.empty_outputs {
                    return Err(EvalError::EmptyOutput { place: place(), whose });
                }
            }
            let preference = match item.preference {
                None if allow.missing_preferences => None,
                None => {
                    let instruction = beginning(&item.instruction);
                    return Err(EvalError::NoPreference { place: place(), instruction });
                }
                Some(0.0) => Some(0.5),
                Some(value) if (1.0..=2.0).contains(&value) => Some(value - 1.0),
                Some(value) => return Err(EvalError::OffScale { place: place(), value }),
            };
            items.push(Annotation {
                instruction: item.instruction.clone(),
                preference,
                length: item.output_2.chars().count(),
                baseline_length: item.output_1.chars().count(),
            });
        }
        if items.iter().all(|item| item.preference.is_none()) {
            return Err(EvalError::Empty { place: file.to_string(), expected: "expected at least one preference" });
        }
        let Raw { generator_1, generator_2, annotator, .. } = raw
            .into_iter()
            .next()
            .ok_or(EvalError::Empty { place: file.to_string(), expected: "expected annotations" })?;
        Ok(Annotations { file: file.to_string(), model: generator_2, baseline: generator_1, annotator, items })
    }

    /// Checks that both hold the same instructions in the same order: only then may they share a table of difficulties,
    /// or be compared prompt by prompt.
    ///
    /// # Errors
    /// Names the first instruction that differs, or the numbers of them.
    pub fn check_order(&self, other: &Annotations) -> Result<(), EvalError> {
        let instructions: Vec<&str> = other.items.iter().map(|item| item.instruction.as_str()).collect();
        self.check_instructions(&instructions, &other.file)
    }

    /// Checks the instructions against a list; `other` names it in the error.
    ///
    /// # Errors
    /// As [`Annotations::check_order`].
    pub fn check_instructions(&self, instructions: &[&str], other: &str) -> Result<(), EvalError> {
        if self.items.len() != instructions.len() {
            return Err(self.count_error(instructions.len(), other));
        }
        for (index, (item, expected)) in self.items.iter().zip(instructions).enumerate() {
            if item.instruction != *expected {
                return Err(EvalError::Misaligned {
                    place: record(&self.file, index),
                    other: other.to_string(),
                    found: beginning(&item.instruction),
                    expected: beginning(expected),
                });
            }
        }
        Ok(())
    }

    pub(super) fn count_error(&self, expected: usize, other: &str) -> EvalError {
        EvalError::Count { place: self.file.clone(), found: self.items.len(), other: other.to_string(), expected }
    }
}
