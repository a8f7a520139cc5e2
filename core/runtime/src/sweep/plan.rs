//! What a sweep would compute, and what its runs share.

use std::{collections::BTreeSet, fmt, path::Path};

use metareward_host::{HostError, Registry, Settings};
use serde::{Deserialize, Serialize};

use super::{Sweep, finished};
use crate::{EngineSection, Fingerprint, Place, RunError, RunReader, Stage};

/// What a sweep would compute. That two runs share a stage is told from what the stage is made from; what turns out equal
/// by chance is shared too, and not foreseen here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPlan {
    /// Name of the experiment.
    pub name: String,
    /// The runs in order.
    pub runs: Vec<PlannedRun>,
}

/// One run of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedRun {
    /// Name of its folder.
    pub folder: String,
    /// How far it is.
    pub state: State,
    /// Its stages in all, trainings included.
    pub stages: usize,
    /// Stages that no earlier run of the sweep has whole, in order.
    pub own: Vec<(Place, Stage)>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not begun.
    ToDo,
    /// Begun, and to be gone on with.
    Begun,
    /// Finished with the same settings: left as it is.
    Finished,
}

impl Sweep {
    /// Goes through every run without computing.
    ///
    /// # Errors
    /// What [`crate::Experiment::run`] would refuse before it computes: a task that cannot be made, too few prompts.
    pub fn plan(
        &self,
        folder: &Path,
        registry: fn(Settings) -> Result<Registry, HostError>,
    ) -> Result<SweepPlan, RunError> {
        // Runs share with those of the same engine alone.
        let mut known: Vec<(EngineSection, BTreeSet<Fingerprint>)> = Vec::new();
        let mut runs = Vec::new();
        for run in &self.runs {
            let experiment = self.experiment(run, registry)?;
            let path = folder.join(&run.folder);
            let state = if finished(&path, &experiment) {
                State::Finished
            } else if RunReader::open(&path).is_ok() {
                State::Begun
            } else {
                State::ToDo
            };
            let engine = &experiment.config().engine;
            let place = known.iter().position(|(of, _)| of == engine).unwrap_or_else(|| {
                known.push((engine.clone(), BTreeSet::new()));
                known.len() - 1
            });
            let rehearsed = experiment.rehearse()?;
            let mut own = Vec::new();
            if let Some((_, known)) = known.get_mut(place) {
                for stage in &rehearsed {
                    if stage.fingerprints.iter().any(|fingerprint| !known.contains(fingerprint)) {
                        own.push((stage.place.clone(), stage.stage));
                    }
                }
                known.extend(rehearsed.iter().flat_map(|stage| stage.fingerprints.iter().cloned()));
            }
            runs.push(PlannedRun { folder: run.folder.clone(), state, stages: rehearsed.len(), own });
        }
        Ok(SweepPlan { name: self.name.clone(), runs })
    }
}

impl fmt::Display for SweepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.runs.iter().map(|run| run.folder.chars().count()).max().unwrap_or(0).max(3);
        writeln!(f, "{:<width$}  {:<8}  {:>6}  {:>11}  first stage of its own", "run", "state", "stages", "shared")?;
        for run in &self.runs {
            let state = match run.state {
                State::ToDo => "to do",
                State::Begun => "begun",
                State::Finished => "finished",
            };
            let shared = format!("{} of {}", run.stages - run.own.len(), run.stages);
            let first = run.own.first().map_or_else(|| "none".to_owned(), |(place, stage)| format!("{place}: {stage}"));
            writeln!(f, "{:<width$}  {state:<8}  {:>6}  {shared:>11}  {first}", run.folder, run.stages)?;
        }
        let stages: usize = self.runs.iter().map(|run| run.stages).sum();
        let own: usize = self.runs.iter().map(|run| run.own.len()).sum();
        let trainings =
            self.runs.iter().flat_map(|run| &run.own).filter(|(_, stage)| *stage == Stage::Training).count();
        let finished = self.runs.iter().filter(|run| run.state == State::Finished).count();
        writeln!(
            f,
            "{} runs, {finished} of them finished. In all, {own} of {stages} stages are computed, {trainings} of them \
             trainings; the others are taken over from an earlier run.",
            self.runs.len(),
        )
    }
}
