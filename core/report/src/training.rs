//! Learning curves and warnings, read from a run's events.

use std::{collections::BTreeMap, fs};

use metareward_api::StepMetrics;
use metareward_runtime::{Event, Place, RunReader, Stage};
use serde::{Deserialize, Serialize};

/// One training: what every step showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingFigures {
    /// The model that came out: `sft`, `M1` …
    pub name: String,
    /// The steps in order.
    pub steps: Vec<StepMetrics>,
}

/// What a run's events.jsonl says.
#[derive(Default)]
pub(crate) struct Log {
    pub trainings: Vec<TrainingFigures>,
    pub warnings: Vec<String>,
    /// Seconds and tokens of the process that last computed a stage.
    pub effort: BTreeMap<(Place, Stage), (f64, u64)>,
}

/// Reads the log. It is for looking at: where it is missing or cut, there is less to see and no error.
pub(crate) fn log(reader: &RunReader) -> Log {
    let text = fs::read_to_string(reader.folder().join("events.jsonl")).unwrap_or_default();
    let mut log = Log::default();
    let mut steps: BTreeMap<Place, Vec<StepMetrics>> = BTreeMap::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
        match event {
            Event::Step { place, metrics, .. } => {
                let of = steps.entry(place).or_default();
                // A training that went on after a stop, or began again, takes back what it repeats.
                of.retain(|earlier| earlier.step < metrics.step);
                of.push(metrics);
            }
            Event::Warning { place, message } => {
                let message = place.map_or(message.clone(), |place| format!("{place}: {message}"));
                if !log.warnings.contains(&message) {
                    log.warnings.push(message);
                }
            }
            // A stage that a later process found finished took no effort then.
            Event::StageFinished { place, stage, tokens, seconds, reused, shards, .. }
                if shards == 0 || reused < shards =>
            {
                log.effort.insert((place, stage), (seconds, tokens));
            }
            _ => {}
        }
    }
    for (place, steps) in steps {
        let name = match place {
            Place::Sft => "sft".to_owned(),
            Place::Iteration(iteration) => format!("M{iteration}"),
            Place::Evaluation(name) => name,
        };
        log.trainings.push(TrainingFigures { name, steps });
    }
    log
}
