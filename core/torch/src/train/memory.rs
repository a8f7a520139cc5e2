//! How much memory training takes, before it starts.

use metareward_api::{GradientSum, OptimizerState, TrainSettings, WeightUpdates};

use crate::{Precision, config::ModelConfig};

use super::native;

/// Bytes per trained parameter: weights, what is kept beside them, gradient and two moments. `half` says that the model
/// computes in bf16.
pub fn bytes_each(settings: &TrainSettings, half: bool) -> f64 {
    let weights = match (half, settings.weights) {
        (false, _) | (true, WeightUpdates::Compensated) => 4.0,
        (true, WeightUpdates::Masters) => 6.0,
        (true, WeightUpdates::Stochastic | WeightUpdates::Nearest) => 2.0,
    };
    let gradient = match settings.gradients {
        GradientSum::F32 => 4.0,
        GradientSum::Bf16 => 2.0,
    };
    let moments = match settings.optimizer_state {
        OptimizerState::F32 => 8.0,
        OptimizerState::Bf16 => 4.0,
        // A scale of four bytes for every 256 codes.
        OptimizerState::EightBit => 2.0 * (1.0 + 4.0 / 256.0),
    };
    weights + gradient + moments
}

/// What, besides the model's shape, decides how much memory training takes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number format of the forward pass.
    pub precision: Precision,
    /// Whether our own kernels compute it: f32 on the CPU without adapters.
    pub native: bool,
    /// Tokens of an optimizer step, those that sequences begin with in common counted once.
    pub step_tokens: u64,
    /// Those of them that predict a completion's token.
    pub predicting: u64,
    /// `micro_batch_tokens` of the settings.
    pub micro_batch_tokens: u32,
    /// Threads that compute a micro-batch each.
    pub workers: u64,
    /// `activation_checkpointing` of the settings.
    pub checkpointing: bool,
}

/// Memory of training, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights, gradient and moments; what the weights are computed in, where that is not f32.
    pub state: u64,
    /// What is kept of the forward passes, and what passes on top.
    pub activations: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.state + self.activations
    }
}

/// The memory that training all weights of a model takes, on top of the process itself (libtorch's code and tables: some
/// 170 MB on a CPU, 500 MB on a GPU). With our own kernels the figure is within a tenth of what is measured; with
/// libtorch's it is an estimate from what autograd keeps of a block.
pub fn training_memory(config: &ModelConfig, load: &Load) -> Memory {
    let size = |n: i64| u64::try_from(n).unwrap_or(0);
    let parameters = config.card(load.precision).parameters;
    let (hidden, inner, layers) = (size(config.hidden), size(config.intermediate), size(config.layers));
    let (queries, keys) = (size(config.heads * config.head_dim), size(config.kv_heads * config.head_dim));
    let vocabulary = size(config.vocabulary);
    let (rows, active) = micro_batch(load);
    let state = parameters * if load.precision == Precision::F32 { 16 } else { 18 };
    let activations = if load.native {
        // Of every block: input, keys, values and, of the rows that ask, queries, attention, middle, gate and up.
        let asking = 2 * queries + hidden + 2 * inner + size(config.heads);
        let raw = if config.qk_norm { queries + keys } else { 0 };
        let block = rows * (hidden + 2 * keys + raw);
        let (kept, inside) = match load.checkpointing {
            true => (layers * rows * hidden, block + rows * asking),
            false => (layers * block + ((layers - 1) * rows + active) * asking, 0),
        };
        // On the way: norm and slopes of a block, and logits.
        let passing = rows * (2 * hidden + inner) + native::logits(active, vocabulary);
        let late = if config.tied { load.step_tokens * hidden } else { 0 };
        // Buffers are used again for what is a little smaller: a seventh on top, as measured.
        4 * (load.workers * (kept + inside + passing) * 8 / 7 + late)
    } else {
        let width = load.precision.bytes();
        // What autograd keeps of a block: inputs and outputs of norms, rotary positions, attention, and the products.
        let block = rows * (width * (6 * hidden + 4 * (queries + keys) + 5 * inner) + 8 * hidden);
        let kept = if load.checkpointing { layers * rows * hidden * width + block } else { layers * block };
        // Chunks of logits in f32, three at a time, and each worker's own gradient.
        let logits = 3 * 4 * (active * vocabulary).min(1 << 24);
        let gradients = if load.workers > 1 { 4 * parameters } else { 0 };
        load.workers * (kept + logits + gradients)
    };
    Memory { state, activations }
}

/// Tokens of the largest micro-batch, and those of them that predict.
fn micro_batch(load: &Load) -> (u64, u64) {
    let most = if load.native { native::LARGEST as u64 } else { u64::MAX };
    let limit = u64::from(load.micro_batch_tokens).clamp(1, most);
    let mut batches = load.step_tokens.div_ceil(limit).max(1);
    if load.native {
        batches = batches.max(native::wanted(load.step_tokens));
    }
    (load.step_tokens.div_ceil(batches), load.predicting.div_ceil(batches))
}
