//! A run's records for other tools: preference pairs for TRL, model outputs for AlpacaEval, tables as Parquet and CSV.
//!
//! Texts are what the run holds, letter by letter. A file appears whole or not at all.

mod alpaca_eval;
mod csv;
mod file;
mod parquet;
mod tables;
mod trl;

use std::path::{Path, PathBuf};

use metareward_runtime::RunReader;

use crate::ReportError;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Preference pairs as JSONL that `datasets` loads and TRL's DPOTrainer takes, with a script that trains on them.
    Trl,
    /// The held-out prompts' answers of each model, as AlpacaEval reads model outputs.
    AlpacaEval,
    /// Pairs, responses, judgments, verdicts and ratings as one Parquet file each.
    Parquet,
    /// The same as CSV (RFC 4180). A missing value and an empty text look the same there.
    Csv,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Each file, with its number of records.
    pub files: Vec<(PathBuf, u64)>,
    /// What a reader should know: what there was none of, what the other tool cannot be told.
    pub remarks: Vec<String>,
}

/// Writes the finished stages of a run into a folder, which is made where it is not there. With `iteration`, of that
/// iteration alone.
///
/// # Errors
/// [`ReportError::NoIteration`] for an iteration that the run does not have, [`ReportError::NothingToExport`] when there
/// is nothing of the kind, [`ReportError::Run`] when records cannot be read, [`ReportError::Write`] when a file cannot be
/// written.
pub fn export(run: &RunReader, format: Format, to: &Path, iteration: Option<u32>) -> Result<Exported, ReportError> {
    let iterations = run.record().config.iterations;
    if let Some(wanted) = iteration.filter(|wanted| !(1..=iterations).contains(wanted)) {
        return Err(ReportError::NoIteration { wanted, iterations });
    }
    let wanted: Vec<u32> = iteration.map_or_else(|| (1..=iterations).collect(), |iteration| vec![iteration]);
    let exported = match format {
        Format::Trl => trl::export(run, to, &wanted)?,
        Format::AlpacaEval => alpaca_eval::export(run, to, iteration)?,
        Format::Parquet => tables::export(run, to, &wanted, iteration.is_none(), &|path, table| {
            Ok(Box::new(parquet::Writer::create(path, table)?))
        })?,
        Format::Csv => tables::export(run, to, &wanted, iteration.is_none(), &|path, table| {
            Ok(Box::new(csv::Writer::create(path, table)?))
        })?,
    };
    if exported.files.is_empty() {
        return Err(ReportError::NothingToExport { folder: run.folder().to_owned() });
    }
    Ok(exported)
}
