//! Reading a run folder: for reports, evaluation and export. Nothing here writes or locks.

use std::{
    collections::VecDeque,
    fs,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use metareward_api::{Judgment, Pair, Prompt, RatedResponse, Response, Verdict};
use serde::de::DeserializeOwned;

use super::{Model, ModelNote, Place, ShardRecord, Stage, StageRecord, models, shard};
use crate::{Event, Points, RunError, RunRecord};

/// A run folder, open for reading. What it shows is what finished stages say, also while a run is going on.
#[derive(Clone, Debug)]
pub struct RunReader {
    folder: PathBuf,
    record: RunRecord,
}

impl RunReader {
    /// Opens a run folder.
    ///
    /// # Errors
    /// [`RunError::NotARun`] where there is no run.json that can be read.
    pub fn open(folder: &Path) -> Result<Self, RunError> {
        let not_a_run = |message: String| RunError::NotARun { folder: folder.to_owned(), message };
        let text =
            fs::read_to_string(folder.join("run.json")).map_err(|error| not_a_run(format!("run.json: {error}")))?;
        let record = serde_json::from_str(&text).map_err(|error| not_a_run(format!("run.json: {error}")))?;
        Ok(Self { folder: folder.to_owned(), record })
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What ran: run.json.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Whether the run was gone through to its end when it was last worked on: the last event says so.
    pub fn finished(&self) -> bool {
        let text = fs::read_to_string(self.folder.join("events.jsonl")).unwrap_or_default();
        let last = text.lines().next_back().map(serde_json::from_str::<Event>);
        matches!(last, Some(Ok(Event::RunFinished { .. })))
    }

    /// The finished stage, or `None` where it has not finished.
    ///
    /// # Errors
    /// When its stage.json cannot be read.
    pub fn stage(&self, place: &Place, stage: Stage) -> Result<Option<StageRecord>, RunError> {
        let path = self.folder.join(place.folder()).join(stage.name()).join("stage.json");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| RunError::Io { path, message: format!("cannot be read: {error}") })
    }

    /// The records of a finished stage, read shard by shard; none where it has not finished.
    ///
    /// # Errors
    /// When its stage.json cannot be read.
    pub fn records<T: DeserializeOwned>(&self, place: &Place, stage: Stage) -> Result<Records<T>, RunError> {
        let shards = self.stage(place, stage)?.map(|record| record.shards).unwrap_or_default();
        let folder = self.folder.join(place.folder()).join(stage.name());
        Ok(Records { folder, shards: shards.into(), current: VecDeque::new(), record: PhantomData })
    }

    /// The prompts of a place.
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn prompts(&self, place: &Place) -> Result<Records<Prompt>, RunError> {
        self.records(place, Stage::Prompts)
    }

    /// The responses of a place.
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn responses(&self, place: &Place) -> Result<Records<Response>, RunError> {
        self.records(place, Stage::Responses)
    }

    /// The judgments of a place. In an evaluation they are of the responses of [`RunRecord::base_model`].
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn judgments(&self, place: &Place) -> Result<Records<Judgment>, RunError> {
        self.records(place, Stage::Judgments)
    }

    /// The verdicts of an iteration.
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn verdicts(&self, iteration: u32) -> Result<Records<Verdict>, RunError> {
        self.records(&Place::Iteration(iteration), Stage::Verdicts)
    }

    /// The ratings of an iteration.
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn ratings(&self, iteration: u32) -> Result<Records<RatedResponse>, RunError> {
        self.records(&Place::Iteration(iteration), Stage::Ratings)
    }

    /// The preference pairs of an iteration.
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn pairs(&self, iteration: u32) -> Result<Records<Pair>, RunError> {
        self.records(&Place::Iteration(iteration), Stage::Pairs)
    }

    /// The oracle's points of a model's evaluated responses; none where the task has no oracle.
    ///
    /// # Errors
    /// As [`RunReader::records`].
    pub fn points(&self, model: &str) -> Result<Records<Points>, RunError> {
        self.records(&Place::Evaluation(model.to_owned()), Stage::Points)
    }

    /// The models that exist so far, in the order in which they were made: `seed`, `sft` where there is SFT, `M1` …
    ///
    /// # Errors
    /// When a model folder cannot be read.
    pub fn models(&self) -> Result<Vec<(Model, Option<ModelNote>)>, RunError> {
        let mut found = vec![(self.record.model.clone(), None)];
        let sft = self.record.config.sft.enabled.then(|| ("sft".to_owned(), Place::Sft));
        let made = (1..=self.record.config.iterations).map(|t| (format!("M{t}"), Place::Iteration(t)));
        for (name, place) in sft.into_iter().chain(made) {
            let folder = self.folder.join(place.folder()).join("model");
            if let Some(note) = models::note(&folder)? {
                found.push((Model { name, folder, fingerprint: note.model.clone() }, Some(note)));
            }
        }
        Ok(found)
    }
}

/// The records of a stage, one shard in memory at a time.
pub struct Records<T> {
    folder: PathBuf,
    shards: VecDeque<ShardRecord>,
    current: VecDeque<T>,
    record: PhantomData<T>,
}

impl<T: DeserializeOwned> Iterator for Records<T> {
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.current.pop_front() {
                return Some(Ok(record));
            }
            let next = self.shards.pop_front()?;
            match shard::read(&self.folder, &next) {
                Ok(records) => self.current = records.into(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
