//! Training and log-probabilities.
//!
//! A training run is [`TorchTrainer::train`]. An optimizer step takes the records that the job names for it, splits them
//! into micro-batches of similar length, and adds up their gradients in f32:
//!
//! 1. the trunk runs to the hidden states after the final norm;
//! 2. the hidden states that predict completion tokens go through the output projection, some rows at a time, and come
//!    back as log-probabilities;
//! 3. the loss (cross-entropy, or the optimizer plugin's) says what each completion's log-probability weighs in the
//!    gradient, and the projection's gradient is made by hand, again some rows at a time;
//! 4. the gradient of the hidden states goes back through the trunk.
//!
//! Then the gradient is clipped and AdamW updates f32 masters of the weights. The same job gives the same bytes, on any
//! number of worker threads and however often it was stopped.

mod adamw;
mod batch;
mod encode;
mod head;
mod parameters;
mod run;
mod schedule;
mod state;
mod step;
mod trainable;
mod trunk;
mod worker;

use std::path::Path;

use metareward_api::{
    EngineError, Example, Progress, SequenceLogProb, TrainJob, TrainReport, TrainSettings, Trainer, Watch,
};
use serde::{Deserialize, Serialize};
use tch::Device;

use self::{
    adamw::AdamW,
    encode::Encoder,
    run::{Run, report, split},
    state::TrainingFolder,
    step::Team,
    trainable::Trainable,
    trunk::Trunk,
    worker::{Failure, Unit, Worker},
};
pub use self::schedule::learning_rate;
use crate::{
    DeviceChoice, Precision,
    chat::TemplateDate,
    error::TorchError,
    model::CausalLm,
    parameters_of_small_models,
    prompting::Prompting,
};
