//! What the ranks say to each other. JSON, because the records have optional fields that a format without names would
//! not find again; numbers come back to the same bits.

use std::path::PathBuf;

use metareward_api::{EngineError, Occasion, Progress, TrainSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Exchange, RanksError};

/// What rank 0 wants of all.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Load a model folder into the generator.
    Load(PathBuf),
    /// Generate; each rank's requests follow.
    Generate(Guided),
    /// Measure log-probabilities; each rank's examples follow.
    Measure { folder: PathBuf, max_length: u32 },
    /// Train together.
    Train(Box<Job>),
    /// End, with this exit code.
    End(u8),
}

/// Which plugins guide the draws.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guided {
    pub occasion: Option<Occasion>,
    /// Whether a sampler reshapes.
    pub reshape: bool,
    /// Whether lines complete answers.
    pub complete: bool,
}

/// A training job without its examples and their order, which rank 0's trainer shares out itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    pub model: PathBuf,
    pub folder: PathBuf,
    pub fingerprint: String,
    pub iteration: u32,
    /// Preference pairs; else examples for supervised fine-tuning.
    pub preference: bool,
    pub settings: TrainSettings,
}

/// How a rank is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub progress: Progress,
    /// Its share is done or failed.
    pub finished: bool,
    /// What it failed of.
    pub failed: Option<EngineError>,
    /// It was asked to stop.
    pub stop: bool,
}

/// What rank 0 makes of all statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// All are to stop.
    pub stop: bool,
    /// This was the last round.
    pub over: bool,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, RanksError> {
    serde_json::to_vec(value).map_err(|error| RanksError::Unreadable(error.to_string()))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RanksError> {
    serde_json::from_slice(bytes).map_err(|error| RanksError::Unreadable(error.to_string()))
}

/// Rank 0's value at every rank; the others pass `None`.
pub(crate) fn broadcast<T: Serialize + DeserializeOwned>(
    exchange: &dyn Exchange,
    value: Option<&T>,
) -> Result<T, RanksError> {
    let bytes = value.map(encode).transpose()?.unwrap_or_default();
    decode(&exchange.broadcast(bytes)?)
}

/// Every rank's value at rank 0.
pub(crate) fn gather<T: Serialize + DeserializeOwned>(
    exchange: &dyn Exchange,
    value: &T,
) -> Result<Option<Vec<T>>, RanksError> {
    match exchange.gather(&encode(value)?)? {
        None => Ok(None),
        Some(all) => all.iter().map(|bytes| decode(bytes)).collect::<Result<_, _>>().map(Some),
    }
}

/// One of rank 0's values at each rank.
pub(crate) fn scatter<T: Serialize + DeserializeOwned>(exchange: &dyn Exchange, values: &[T]) -> Result<T, RanksError> {
    let messages = values.iter().map(encode).collect::<Result<_, _>>()?;
    decode(&exchange.scatter(messages)?)
}
