//! A grid of settings, each with several seeds, as runs under one folder that share what they have in common.
//!
//! Every run is an ordinary run folder. What two runs would compute from the same inputs is computed by the first and
//! taken over by the others, by fingerprint ([`crate::RunRequest::share`]). A sweep that was stopped goes on: a run that
//! finished with the same settings is left as it is, and one that began goes on where it was.

mod folder;
mod grid;
mod plan;

use std::path::{Path, PathBuf};

use metareward_host::{HostError, Registry, Settings};

pub use folder::{CellRecord, SweepFolder, SweepRecord};
pub use grid::{Axis, Cell, Grid};
pub use plan::{PlannedRun, State, SweepPlan};

use crate::{Experiment, Layers, RunError, RunReader, fingerprint::model_fingerprint};

/// The key of a run's seed, in a config.
const SEED: &str = "seed";

/// A sweep whose every cell is checked.
pub struct Sweep {
    /// Name of the experiment.
    pub name: String,
    /// The cells, in order; the first is the one that the others are compared with. A `seed` among the axes is none of
    /// a cell's settings.
    pub cells: Vec<Cell>,
    /// The seeds of every cell.
    pub seeds: Vec<u64>,
    /// The runs: for each seed every cell.
    pub runs: Vec<SweepRun>,
    layers: Layers,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepRun {
    /// Index of its cell.
    pub cell: usize,
    /// Its seed.
    pub seed: u64,
    /// Name of its folder in the sweep's.
    pub folder: String,
}

/// Does one run of a sweep: given its experiment, which run it is, its folder, and the folders to share with.
pub type Work<'a> = dyn FnMut(&Experiment, &SweepRun, &Path, Vec<PathBuf>) -> Ended + 'a;

/// How a run of a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was finished before.
    Kept,
    /// It is finished now.
    Done,
    /// It failed, and the others went on.
    Failed(String),
    /// A stop was asked for. What it computed is kept, and the sweep goes on with it.
    Stopped,
    /// It was not begun, as a stop was asked for before.
    Waiting,
}

impl Sweep {
    /// Reads the config of every cell with every seed and makes its plugins, once, so that nothing is computed when one
    /// of them is wrong. Without `seeds` there is the config's own seed; with it that one and those that follow.
    ///
    /// # Errors
    /// As [`Grid::parse`] for a grid that cannot be, and as [`Experiment::open`] for what is wrong with a cell.
    pub fn open(
        layers: &Layers,
        grid: &Grid,
        seeds: Option<u32>,
        registry: fn(Settings) -> Result<Registry, HostError>,
    ) -> Result<Self, RunError> {
        let wrong =
            |place: &str, message: &str| RunError::ConfigSyntax { place: place.into(), message: message.into() };
        let (of_seeds, axes): (Vec<Axis>, Vec<Axis>) = grid.axes.iter().cloned().partition(|axis| axis.key == SEED);
        let cells = Grid { axes }.cells();
        // The experiment's name and seed, by way of a cell: a schedule may have the right length in the grid alone.
        let mut first = layers.clone();
        first.cell = cells.first().map(|cell| cell.settings.clone()).unwrap_or_default();
        let base = Experiment::open(&first, registry)?;
        let seeds: Vec<u64> = match (of_seeds.first(), seeds) {
            (Some(_), Some(_)) => return Err(wrong("--seeds", "the grid names seeds already; give one of both")),
            (None, Some(0)) => return Err(wrong("--seeds", "a sweep needs at least one seed")),
            (None, count) => {
                let first = base.config().seed;
                (0..u64::from(count.unwrap_or(1))).map(|offset| first.saturating_add(offset)).collect()
            }
            (Some(axis), None) => {
                let seed = |value: &String| {
                    let expected = "a whole number, 0 or more".to_owned();
                    let (place, key) = (format!("grid argument seed={}", axis.values.join(",")), SEED.to_owned());
                    value.parse().map_err(|_| RunError::BadValue { place, key, found: value.clone(), expected })
                };
                axis.values.iter().map(seed).collect::<Result<_, _>>()?
            }
        };
        let mut runs = Vec::new();
        for seed in &seeds {
            for (cell, of) in cells.iter().enumerate() {
                runs.push(SweepRun { cell, seed: *seed, folder: format!("{}_seed={seed}", of.name) });
            }
        }
        let sweep = Self { name: base.config().name.clone(), cells, seeds, runs, layers: layers.clone() };
        for run in &sweep.runs {
            sweep.experiment(run, registry)?.check_model_folder()?;
        }
        Ok(sweep)
    }

    /// The experiment of one run.
    ///
    /// # Errors
    /// As [`Experiment::open`].
    pub fn experiment(
        &self,
        run: &SweepRun,
        registry: fn(Settings) -> Result<Registry, HostError>,
    ) -> Result<Experiment, RunError> {
        let mut layers = self.layers.clone();
        let settings = self.cells.get(run.cell).map(|cell| cell.settings.clone()).unwrap_or_default();
        layers.cell = settings;
        layers.cell.push((SEED.to_owned(), run.seed.to_string()));
        Experiment::open(&layers, registry)
    }

    /// Runs every run that is not finished, one after the other. `work` does one: it is given the experiment, its
    /// folder and the folders to share with, and a failure of one keeps none of the others. A stop ends the sweep.
    /// `tell` is called before each run, with its place in [`Sweep::runs`].
    ///
    /// # Errors
    /// When a cell's config cannot be read any more, or the sweep's folder not be listed.
    pub fn run(
        &self,
        folder: &SweepFolder,
        registry: fn(Settings) -> Result<Registry, HostError>,
        tell: &mut dyn FnMut(usize),
        work: &mut Work<'_>,
    ) -> Result<Vec<Ended>, RunError> {
        let mut ended = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            if ended.contains(&Ended::Stopped) {
                ended.push(Ended::Waiting);
                continue;
            }
            let experiment = self.experiment(run, registry)?;
            let path = folder.run(run);
            if finished(&path, &experiment) {
                ended.push(Ended::Kept);
                continue;
            }
            tell(index);
            ended.push(work(&experiment, run, &path, folder.others(run)?));
        }
        Ok(ended)
    }
}

/// Whether a run folder holds a finished run of exactly this experiment: same settings, same plugins, same seed model.
pub(crate) fn finished(folder: &Path, experiment: &Experiment) -> bool {
    let Ok(reader) = RunReader::open(folder) else { return false };
    let record = reader.record();
    let same_model = match experiment.model_folder() {
        Some(model) => model_fingerprint(&model).is_ok_and(|fingerprint| fingerprint == record.model.fingerprint),
        // An id is fetched only when the run is; its revision is in the config.
        None => true,
    };
    reader.finished()
        && record.config == *experiment.config()
        && record.plugins == experiment.plugins()
        && record.version == env!("CARGO_PKG_VERSION")
        && same_model
}
