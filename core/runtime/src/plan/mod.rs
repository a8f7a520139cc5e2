//! What a run will cost, before it starts: calls, tokens, disk and memory, each with what is assumed, and, for an engine
//! of a given size, time and price.

pub mod cards;
mod counts;
mod display;
mod figures;
mod lengths;
mod memory;
mod model;
mod time;

use metareward_api::{Generator, ModelCard};
use serde::{Deserialize, Serialize};

pub use figures::{Drawn, EngineFigures, FIGURES_FORMAT, Figure, Trained};
pub use lengths::AnswerLengths;
pub use memory::{RankMemory, Room, Sharding, StateBytes};
pub use model::model_shape;
pub use time::{Binds, Deployment, Form, HANDLING_SECONDS, PlaceTime, StageTime, TimePlan, predict};

use counts::Counted;

use crate::{Loaded, ModelShape, Place, RunError, Stage, error::Bytes, plugins::Plugins};

/// What a plan is made for.
#[derive(Default)]
pub struct PlanRequest<'a> {
    /// The model's shape; without it that of the config.
    pub model: Option<ModelShape>,
    /// Counts prompts in the model's tokens; has the model loaded.
    pub generator: Option<&'a mut dyn Generator>,
    /// How long answers are, where that was measured.
    pub answers: AnswerLengths,
    /// Where generation computes.
    pub room: Room,
}

/// The shape of a loaded model.
pub(crate) fn shape_of(card: &ModelCard) -> ModelShape {
    model::of_card(card)
}

/// The cost of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// Part of the run.
    pub place: Place,
    /// The stage.
    pub stage: Stage,
    /// Answers generated, or sequences trained on.
    pub calls: u64,
    /// Tokens read: prompts, each shared one counted once, and training sequences in every epoch.
    pub tokens_read: u64,
    /// Tokens generated.
    pub tokens_written: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// How the work is cut.
    pub load: Load,
}

/// How a stage's work is cut, as far as its time depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Answers asked for in one call of the engine; sequences of an optimizer step.
    pub at_once: u64,
    /// Tokens before an answer's token, in the mean.
    pub context: f64,
    /// Tokens whose keys and values are kept for an answer alone, in the mean.
    pub own: f64,
    /// The same at most, for the longest answer.
    pub most: f64,
    /// Mean tokens of a sequence that is trained on or measured.
    pub sequence: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// Epochs.
    pub epochs: u32,
}

/// The cost of a run. Figures are estimates: `assumptions` says from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Every stage that costs something, in order.
    pub stages: Vec<StageCost>,
    /// Answers in all.
    pub calls: u64,
    /// Tokens in all, read and written.
    pub tokens: u64,
    /// Bytes on disk at most: all stages, and what training takes while it goes on.
    pub disk_bytes: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// Its shape.
    pub model: ModelShape,
    /// Bytes of the weights as they are computed with in generation.
    pub weight_bytes: u64,
    /// Bytes of keys and values of a token as they are kept in generation.
    pub cache_bytes_per_token: u64,
    /// `engine.cache_bytes` of the config; 0 is automatic.
    pub stated_cache_bytes: u64,
    /// Memory for generating: weights, and keys and values.
    pub generation_bytes: u64,
    /// Memory for training: weights, gradients and optimizer state; activations come on top.
    pub training_bytes: u64,
    /// What training holds per parameter.
    pub state: StateBytes,
    /// An estimate of what a training step keeps of its forward passes, in bytes.
    pub activation_bytes: u64,
    /// Whether activations are computed again instead of kept.
    pub checkpointing: bool,
    /// Whether adapters are trained instead of all weights.
    pub adapters: bool,
    /// Tokens of a forward pass in training.
    pub micro_batch_tokens: u32,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

/// Estimates the cost of a run.
pub(crate) fn plan(
    loaded: &Loaded,
    plugins: &Plugins,
    model: &ModelShape,
    request: PlanRequest<'_>,
) -> Result<Plan, RunError> {
    let config = &loaded.config;
    let mut assumptions = Vec::new();
    let PlanRequest { generator, answers, room, .. } = request;
    let lengths = lengths::lengths(loaded, plugins, generator, &answers, &mut assumptions)?;
    let Counted { stages, passing } = counts::count(loaded, plugins, model, &lengths)?;
    if passing > 0.0 {
        let most = Bytes(passing as u64);
        assumptions.push(format!("while a model is trained, its other checkpoints and its state take {most} more"));
    }
    assumptions.push("every prompt gives a pair of each kind that its iteration makes: an upper bound".into());
    assumptions.push("what conversations begin with in common is read once".into());
    assumptions.push("training reads both sides of a pair, prompt included, in every epoch that is run".into());
    let room = match (room, config.engine.device.as_str()) {
        (Room::Unknown, "cpu") => Room::Cpu,
        (room, _) => room,
    };
    let half = match config.engine.dtype.as_str() {
        "f32" => false,
        "auto" => room != Room::Cpu,
        _ => true,
    };
    let width = if half { 2 } else { 4 };
    let parameters = model.parameters;
    let weight_bytes = width * parameters;
    // A shape counts two bytes a number.
    let cache_bytes_per_token = model.cache_bytes_per_token * width / 2;
    let needed = (memory::largest_call(&stages) * cache_bytes_per_token as f64) as u64;
    let cache = memory::cache_bytes(config.engine.cache_bytes, room, weight_bytes, needed);
    assumptions.push(memory::describe(config.engine.cache_bytes, room, needed));
    let adapters = config.train.lora.is_some();
    let state = if adapters {
        assumptions.push("adapters and their optimizer state are small beside the weights".into());
        StateBytes { weights: width as f64, gradient: 0.0, optimizer: 0.0 }
    } else {
        let state = StateBytes::of(&config.train, half);
        assumptions.push(format!(
            "training holds {} bytes a parameter: {} of weights, {} of gradient, {} of AdamW's moments and weights kept beside",
            state.total(),
            state.weights,
            state.gradient,
            state.optimizer
        ));
        state
    };
    let train = &config.train;
    let activation_bytes =
        memory::activations(model, &stages, train.micro_batch_tokens, train.activation_checkpointing, width);
    Ok(Plan {
        calls: stages.iter().filter(|cost| cost.tokens_written > 0).map(|cost| cost.calls).sum(),
        tokens: stages.iter().map(|cost| cost.tokens_read + cost.tokens_written).sum(),
        disk_bytes: stages.iter().map(|cost| cost.disk_bytes).sum::<u64>() + passing as u64,
        stages,
        parameters,
        model: model.clone(),
        weight_bytes,
        cache_bytes_per_token,
        stated_cache_bytes: config.engine.cache_bytes,
        generation_bytes: weight_bytes + cache,
        training_bytes: (state.total() * parameters as f64) as u64,
        state,
        activation_bytes,
        checkpointing: train.activation_checkpointing,
        adapters,
        micro_batch_tokens: train.micro_batch_tokens,
        assumptions,
    })
}
