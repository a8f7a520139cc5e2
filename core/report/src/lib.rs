//! A run, or several, as one HTML page that needs no network: the summary in words, the tables and figures of the paper
//! (Wu et al. 2024: tables 1, 3, 5 and 7, figures 4 and 5), learning curves, counts per stage, and every text that a
//! figure came from.
//!
//! [`report`] reads run folders and writes the page. The figures lie in it as one block of JSON ([`Figures`]). The
//! records lie in packs of a few prompts each ([`PromptRecords`], [`HeldOutRecords`]), compressed, and are unpacked when
//! a prompt is opened. Texts of models and people are only ever put into the page as text: blocks hold no `<`, and the
//! page's script makes text nodes and nothing else. A content security policy allows that script and no other.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod comparison;
mod error;
pub mod export;
mod figures;
mod iteration;
mod output;
mod pack;
mod page;
mod records;
mod sweep;
mod training;

use std::path::{Path, PathBuf};

use metareward_eval::{Bootstrap, LengthUnit};
use metareward_runtime::RunReader;

pub use comparison::{Against, Comparison, Setting};
pub use error::ReportError;
pub use figures::{Categories, CategoryRow, EvaluationFigures, Figures, PlaceIndex, RunFigures, StageFigures};
pub use iteration::{IterationFigures, LengthFigures, PositionBias, Quantiles, ScoreMatrix, ScoreRating};
pub use pack::Entry;
pub use records::{HeldOutRecords, ModelRecords, PromptRecords};
pub use sweep::{CellTable, SweepCell, SweepComparison, sweep};
pub use training::TrainingFigures;

/// How a report is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// Unit of answer lengths in the main table.
    pub length_unit: LengthUnit,
    /// The oracle's points of a perfect answer, for runs whose run.json does not hold the rubric's scale. Default 5, the
    /// paper's.
    pub full_points: f64,
    /// The most prompts of an iteration, and of the held-out ones, whose records go into the page; `None` for all. Figures
    /// are always of all records.
    pub prompts: Option<usize>,
    /// About how many bytes of the page may be records, shared evenly by iterations and held-out prompts; a browser has
    /// to hold the file. Where it is too little for all prompts, the page says how many it holds. Default 200 MiB.
    pub record_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bootstrap: Bootstrap::default(),
            length_unit: LengthUnit::Characters,
            full_points: 5.0,
            prompts: None,
            record_bytes: 200 << 20,
        }
    }
}

/// A page that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Prompts whose records are in it, over all runs and iterations.
    pub prompts: u64,
}

/// Writes a page about these runs, whole or not at all. With several runs it also compares them: the first is the one
/// that the others are compared with. A run that is still going on is shown as far as it has come.
///
/// # Errors
/// [`ReportError::NoRuns`] without a run, [`ReportError::Run`] when records cannot be read, and [`ReportError::Write`]
/// when the page cannot be written.
pub fn report(runs: &[RunReader], to: &Path, options: &Options) -> Result<Written, ReportError> {
    let page = page::page(runs, options)?;
    output::write(to, page.html.as_bytes())?;
    Ok(Written { path: to.to_owned(), bytes: page.html.len() as u64, prompts: page.prompts })
}

/// What the page of several runs compares, without the page: for a terminal or a program. `None` of fewer than two runs.
///
/// # Errors
/// [`ReportError::Run`] when records cannot be read.
pub fn compare(runs: &[RunReader], options: &Options) -> Result<Option<Comparison>, ReportError> {
    let measured = runs.iter().map(|run| figures::measurements(run, options)).collect::<Result<Vec<_>, _>>()?;
    comparison::compare(runs, &measured, options)
}

/// The page of [`report`] as a string.
///
/// # Errors
/// As [`report`], without writing.
pub fn html(runs: &[RunReader], options: &Options) -> Result<String, ReportError> {
    Ok(page::page(runs, options)?.html)
}
