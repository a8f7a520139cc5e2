//! The runs of a sweep as one comparison: cells beside each other, each over its seeds.

use std::collections::BTreeSet;

use metareward_eval::{Bootstrap, Measurements, Table, in_words, main_table, over_seeds};
use metareward_runtime::RunReader;
use serde::{Deserialize, Serialize};

use crate::{Against, Options, ReportError, Setting, comparison, figures};

/// A cell of a sweep with those of its runs that are finished.
#[derive(Clone, Debug)]
pub struct SweepCell {
    /// Its name.
    pub name: String,
    /// Its runs; each has a seed of its own.
    pub runs: Vec<RunReader>,
}

/// How the cells of a sweep differ. The first cell that has a run is the one that the others are compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepComparison {
    /// The seeds of that cell.
    pub seeds: Vec<u64>,
    /// The last model of each cell; changes are from the first cell's, taken within each seed. The win rate is against
    /// the first cell's last model of the same seed.
    pub last: Table,
    /// Each other cell against the first, in words.
    pub against: Vec<Against>,
    /// Each cell's own table: its models, with changes from its base model.
    pub cells: Vec<CellTable>,
    /// Settings that are not the same in all cells.
    pub settings: Vec<Setting>,
}

/// The table of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellTable {
    /// The cell's name.
    pub name: String,
    /// The seeds whose runs are in it.
    pub seeds: Vec<u64>,
    /// As `metareward table` shows one run, over the seeds.
    pub table: Table,
}

/// Puts the runs of a sweep together. With several seeds, figures are means over seeds with Student's t intervals; with
/// one, they are that run's with intervals over prompts. `None` where no run has measured a model.
///
/// # Errors
/// [`ReportError::Run`] when records cannot be read.
pub fn sweep(cells: &[SweepCell], options: &Options) -> Result<Option<SweepComparison>, ReportError> {
    let several = cells.iter().any(|cell| cell.runs.len() > 1);
    // Over seeds, what a run's prompts show by chance is in the spread of the seeds already.
    let draws = if several { 0 } else { options.bootstrap.draws };
    let options = &Options { bootstrap: Bootstrap { draws, ..options.bootstrap }, ..options.clone() };
    let mut measured: Vec<(&SweepCell, Vec<(&RunReader, Measurements)>)> = Vec::new();
    for cell in cells {
        let mut runs = Vec::new();
        for run in &cell.runs {
            let measurements = figures::measurements(run, options)?;
            if !measurements.models.is_empty() {
                runs.push((run, measurements));
            }
        }
        if !runs.is_empty() {
            measured.push((cell, runs));
        }
    }
    let Some((_, first)) = measured.first() else { return Ok(None) };
    let seeds: Vec<u64> = first.iter().map(|(run, _)| run.record().seed).collect();
    let (mut tables, mut settings, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for seed in &seeds {
        let of_seed: Vec<(&str, &(&RunReader, Measurements))> = measured
            .iter()
            .filter_map(|(cell, runs)| {
                Some((cell.name.as_str(), runs.iter().find(|(run, _)| run.record().seed == *seed)?))
            })
            .collect();
        let names = of_seed.iter().map(|(name, _)| (*name).to_owned()).collect();
        let runs: Vec<RunReader> = of_seed.iter().map(|(_, (run, _))| (*run).clone()).collect();
        let measurements: Vec<Measurements> = of_seed.iter().map(|(_, (_, measured))| measured.clone()).collect();
        let comparison = comparison::compare_as(names, &runs, &measurements, options)?;
        // Each seed knows the settings of the cells that it has; all are in the first where nothing failed.
        if settings.is_empty() {
            settings = comparison.settings;
        }
        shared.extend(comparison.against.into_iter().map(|against| (against.name, against.shared_prompts)));
        tables.push(comparison.table);
    }
    let Some(mut last) = over_seeds(&tables) else { return Ok(None) };
    last.title = match seeds.len() {
        1 => "The last model of each cell".into(),
        count => format!("The last model of each cell, mean over {count} seeds"),
    };
    let mut own = Vec::new();
    for (cell, runs) in &measured {
        let tables: Vec<Table> =
            runs.iter().map(|(_, measurements)| main_table(measurements, &options.bootstrap)).collect();
        if let Some(table) = over_seeds(&tables) {
            let seeds = runs.iter().map(|(run, _)| run.record().seed).collect();
            own.push(CellTable { name: cell.name.clone(), seeds, table });
        }
    }
    let mut names = BTreeSet::new();
    let against = shared
        .iter()
        .filter(|(name, _)| names.insert(name.clone()))
        .map(|(name, _)| Against {
            name: name.clone(),
            shared_prompts: shared.iter().filter(|(other, _)| other == name).map(|(_, prompts)| prompts).sum(),
            words: words(&last, name),
        })
        .collect();
    Ok(Some(SweepComparison { seeds, last, against, cells: own, settings }))
}

/// What a table says of one cell against the first.
fn words(table: &Table, name: &str) -> Vec<String> {
    let row = table.rows.iter().find(|row| row.name.starts_with(&format!("{name}: ")));
    let (Some(base), Some(row)) = (table.rows.get(table.base), row) else {
        return vec!["One of the two has measured no model yet.".into()];
    };
    let two = Table { rows: vec![base.clone(), row.clone()], base: 0, ..table.clone() };
    in_words(&two).lines().map(str::to_owned).collect()
}
