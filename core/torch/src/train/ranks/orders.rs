//! What the processes of a training run tell each other.

use std::path::PathBuf;

use metareward_api::{EngineError, TrainSettings};
use serde::{Deserialize, Serialize};

use crate::{
    Precision,
    train::{
        Sharding,
        worker::{Failure, Sums, Unit},
    },
};

/// Begins a training run at a follower.
#[derive(Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Folder of the model to start from, which every process reads.
    pub model: PathBuf,
    /// The run's folder, of which followers read the saved state.
    pub folder: PathBuf,
    pub fingerprint: String,
    pub settings: TrainSettings,
    pub precision: Precision,
    pub sharding: Sharding,
    pub bucket_bytes: u64,
    pub kernels: bool,
    /// Whether there is a saved state, and the optimizer steps in it.
    pub saved: Option<u32>,
}

/// What the leader tells a follower.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Compute on these units.
    Work(Work),
    /// Give the leader this process's share of the training state.
    Save,
    /// Give it this process's share of the weights.
    Publish,
    /// The run is over, or it has stopped.
    End,
}

/// Units to compute, as part of a step or of an evaluation.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    /// The optimizer step to take with their gradient; `None` measures the loss alone.
    pub step: Option<u32>,
    /// This process's units.
    pub units: Vec<Unit>,
    /// Completion tokens, or pairs, of all processes.
    pub whole: usize,
    pub plan: Plan,
}

/// How units become micro-batches.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Tokens of a micro-batch.
    pub limit: u32,
    /// Micro-batches of the process that has the most.
    pub rounds: usize,
}

/// What the leader makes of the processes' outcomes.
#[derive(Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// All went well.
    Go,
    /// There was not enough memory somewhere: the same again.
    Again(Plan),
    /// It failed for all.
    Fail(Flaw),
}

/// What became of a process's work.
#[derive(Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// These sums.
    Done(Box<Sums>),
    /// There was no memory for a micro-batch.
    Short(Short),
    /// It failed.
    Failed(Flaw),
}

/// A micro-batch for which there was no memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Short {
    /// What the allocator said.
    pub message: String,
    /// Tokens of the largest micro-batch.
    pub largest: usize,
    /// The record in it, where it could not be smaller.
    pub alone: Option<String>,
}

/// A failure on its way between processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Flaw {
    Engine(#[serde(with = "EngineErrorFields")] EngineError),
    Memory(String),
    NotFinite { records: Vec<String>, message: String },
}

impl From<Failure> for Flaw {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Engine(error) => Flaw::Engine(error),
            Failure::Memory(message) => Flaw::Memory(message),
            Failure::NotFinite { records, message } => Flaw::NotFinite { records, message },
        }
    }
}

impl From<Flaw> for Failure {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Engine(error) => Failure::Engine(error),
            Flaw::Memory(message) => Failure::Memory(message),
            Flaw::NotFinite { records, message } => Failure::NotFinite { records, message },
        }
    }
}

/// The fields of [`EngineError`], for serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "EngineError")]
enum EngineErrorFields {
    Stopped,
    Model { folder: PathBuf, message: String },
    Input { record: String, message: String },
    NotFinite { step: u32, records: Vec<String>, message: String },
    Plugin { plugin: String, message: String },
    Io { path: PathBuf, message: String },
    Machine(String),
}

/// Bytes of a message.
pub(crate) fn packed<T: Serialize>(value: &T) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(value).map_err(|error| EngineError::Machine(format!("a message between processes: {error}")))
}

/// A message of another process.
pub(crate) fn unpacked<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, EngineError> {
    serde_json::from_slice(bytes).map_err(|error| {
        EngineError::Machine(format!("a message between processes ({error}): they do not run the same program"))
    })
}
