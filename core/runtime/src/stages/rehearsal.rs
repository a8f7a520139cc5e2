//! The loop without computing: it goes through every stage, and a stage stands for itself by its fingerprint. Where two
//! runs rehearse the same fingerprint, the second will find its shards in the first.
//!
//! A fingerprint in a rehearsal is over what its stage was made from, not over what came out. So equal ones will be
//! equal in the runs, and different ones may still turn out equal.

use std::path::Path;

use metareward_api::{
    EngineError, Example, Generation, GenerationRequest, Generator, Guides, Message, ModelCard, SequenceLogProb,
    TrainJob, TrainReport, Trainer, Watch,
};
use serde_json::json;

use super::{Context, Work, train::Training};
use crate::{
    Fingerprint, RunError,
    statistics::Statistics,
    store::{FORMAT, Model, Place, ShardRecord, Stage, StageRecord},
};

/// What a run would compute.
#[derive(Default)]
pub(crate) struct Rehearsal {
    pub stages: Vec<Rehearsed>,
}

/// One stage of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rehearsed {
    pub place: Place,
    pub stage: Stage,
    /// One per shard; one for a training.
    pub fingerprints: Vec<Fingerprint>,
}

impl Rehearsal {
    /// Goes through a stage.
    pub fn stage<W: Work>(&mut self, cx: &Context<'_>, work: &W) -> Result<StageRecord, RunError> {
        let (place, stage) = (work.place().clone(), work.stage());
        let fingerprints =
            (0..work.shards()).map(|shard| cx.fingerprint(work, shard)).collect::<Result<Vec<_>, RunError>>()?;
        self.stages.push(Rehearsed { place: place.clone(), stage, fingerprints: fingerprints.clone() });
        let shards: Vec<ShardRecord> = fingerprints
            .into_iter()
            // What would be in the shard follows from what it is made from.
            .map(|fingerprint| ShardRecord {
                file: String::new(),
                blake3: fingerprint.clone(),
                fingerprint,
                records: 1,
            })
            .collect();
        Ok(StageRecord {
            format: FORMAT,
            place,
            stage,
            fingerprint: Fingerprint::of(&json!([FORMAT, stage, shards])),
            // One for each shard, so that no stage looks as if nothing came out.
            records: shards.len() as u64,
            shards,
            statistics: Statistics::Records,
        })
    }

    /// Goes through a training.
    pub fn train(&mut self, training: &Training<'_>, fingerprint: Fingerprint) -> Model {
        let place = training.place.clone();
        self.stages.push(Rehearsed { place, stage: Stage::Training, fingerprints: vec![fingerprint.clone()] });
        Model { name: training.name.clone(), folder: Default::default(), fingerprint }
    }
}

/// The engine of a rehearsal, which is never asked.
pub(crate) struct NoEngine;

fn asked<T>() -> Result<T, EngineError> {
    Err(EngineError::Machine("a rehearsal asked the engine".into()))
}

impl Generator for NoEngine {
    fn load(&mut self, _folder: &Path) -> Result<ModelCard, EngineError> {
        asked()
    }

    fn count_tokens(&mut self, _conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        asked()
    }

    fn generate(
        &mut self,
        _requests: &[GenerationRequest],
        _guides: &Guides<'_>,
        _watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        asked()
    }
}

impl Trainer for NoEngine {
    fn log_probabilities(
        &mut self,
        _folder: &Path,
        _examples: &[Example],
        _max_length: u32,
        _watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        asked()
    }

    fn train(&mut self, _job: &TrainJob<'_>, _watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        asked()
    }
}
