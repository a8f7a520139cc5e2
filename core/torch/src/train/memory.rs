//! How much memory training takes, before it starts.

use metareward_api::{GradientSum, OptimizerState, TrainSettings, WeightUpdates};

use crate::{Precision, config::ModelConfig};

use super::{SMALL_MODEL, native};

/// In which number formats training keeps what it keeps of every parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// Weights, and what is kept beside bf16 ones.
    pub weights: WeightUpdates,
    /// The two moments.
    pub optimizer_state: OptimizerState,
    /// The gradient.
    pub gradients: GradientSum,
}

impl Forms {
    /// Those of `settings`.
    pub fn of(settings: &TrainSettings) -> Self {
        let TrainSettings { weights, optimizer_state, gradients, .. } = *settings;
        Self { weights, optimizer_state, gradients }
    }

    /// Bytes per trained parameter: weights, what is kept beside them, gradient and two moments. `half` says that the model
    /// computes in bf16.
    pub fn bytes(self, half: bool) -> f64 {
        self.weights.bytes(half) + self.optimizer_state.bytes() + self.gradients.bytes()
    }
}

/// [`Forms::bytes`] of `settings`.
pub(crate) fn bytes_each(settings: &TrainSettings, half: bool) -> f64 {
    Forms::of(settings).bytes(half)
}

/// Gives freed memory of the heap back to the system, where its allocator keeps it: after a model was read, that is its
/// size in the number format that it is computed in.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(keep: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc's own function, which may be called at any time and from any thread.
        unsafe { malloc_trim(0) };
    }
}

/// What, besides the model's shape, decides how much memory training takes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number format of the forward pass.
    pub precision: Precision,
    /// Number formats of what is kept.
    pub forms: Forms,
    /// Whether our own kernels compute it: f32 on the CPU without adapters.
    pub native: bool,
    /// Whether a GPU computes it.
    pub gpu: bool,
    /// Tokens of an optimizer step, those that sequences begin with in common counted once.
    pub step_tokens: u64,
    /// Those of them that predict a completion's token.
    pub predicting: u64,
    /// `micro_batch_tokens` of the settings.
    pub micro_batch_tokens: u32,
    /// Threads of a CPU that may compute a micro-batch each; 1 on a GPU.
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
/// 170 MB on a CPU, 500 MB on a GPU). Within a tenth of what is measured on a CPU, with our own kernels and with libtorch's;
/// libtorch's on several threads with checkpointing vary by a tenth themselves.
pub fn training_memory(config: &ModelConfig, load: &Load) -> Memory {
    let size = |n: i64| u64::try_from(n).unwrap_or(0);
    let parameters = config.card(load.precision).parameters;
    let (hidden, inner, layers) = (size(config.hidden), size(config.intermediate), size(config.layers));
    let (queries, keys) = (size(config.heads * config.head_dim), size(config.kv_heads * config.head_dim));
    let vocabulary = size(config.vocabulary);
    let (rows, active) = micro_batch(load);
    let state = (parameters as f64 * load.forms.bytes(load.precision == Precision::Bf16)) as u64;
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
        let matrix = vocabulary * hidden;
        // The gradient of the output matrix is f32, and in bf16 a chunk's share passes beside it. Tied, it stays until the
        // embeddings' own is there.
        let head = 4 * matrix + if width < 4 { width * matrix } else { 0 } + 3 * 4 * (active * vocabulary).min(1 << 24);
        let tied = if config.tied { 4 * matrix } else { 0 };
        // Gradients of a segment's weights come together; of several workers each keeps all of its own until its turn.
        let of_block = parameters.saturating_sub(matrix * if config.tied { 1 } else { 2 }) / layers.max(1);
        let (kept, inside, slopes) = match load.checkpointing {
            true => (layers * rows * hidden * width, block, width * of_block.max(matrix)),
            false => (layers * block, 0, width * parameters),
        };
        let workers = if parameters > SMALL_MODEL { 1 } else { load.workers };
        let slopes = if workers > 1 { width * parameters } else { slopes };
        let passing = workers * (kept + head.max(inside + tied + slopes));
        // A heap on the CPU does not use freed pieces again as a whole. With every block's tensors made and freed twice, and
        // the gradients kept between them, that doubles what passes, as measured.
        match (load.gpu, load.checkpointing) {
            (true, _) => passing,
            (false, true) => passing * 2,
            (false, false) => passing * 17 / 16,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Llama 3 8B, as its `config.json` says.
    fn llama_8b() -> ModelConfig {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128_256, "hidden_size": 4096,
            "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "hidden_act": "silu",
            "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 128_000, "eos_token_id": 128_009
        });
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        ModelConfig::read(folder.path()).unwrap()
    }

    /// Full fine-tuning of 8B on one card of 80 GB: 8 bytes a parameter leave room for micro-batches of 8192 tokens. In f32
    /// state it needs two cards.
    #[test]
    fn eight_billion_parameters_fit_one_card() {
        let config = llama_8b();
        let load = |forms| Load {
            precision: Precision::Bf16,
            forms,
            native: false,
            gpu: true,
            step_tokens: 64 * 1024,
            predicting: 32 * 1024,
            micro_batch_tokens: 8192,
            workers: 1,
            checkpointing: true,
        };
        let memory = |weights, optimizer_state| {
            let found =
                training_memory(&config, &load(Forms { weights, optimizer_state, gradients: GradientSum::Bf16 }));
            println!(
                "{weights:?} {optimizer_state:?}: {:.1} + {:.1} GB",
                found.state as f64 / 1e9,
                found.activations as f64 / 1e9
            );
            found
        };
        let compensated = memory(WeightUpdates::Compensated, OptimizerState::EightBit);
        assert_eq!(compensated.state, (8_030_261_248f64 * 8.031_25) as u64);
        assert!(compensated.total() < 75_000_000_000, "{compensated:?}");
        assert!(memory(WeightUpdates::Stochastic, OptimizerState::EightBit).total() < 60_000_000_000);
        assert!(memory(WeightUpdates::Stochastic, OptimizerState::Bf16).total() < 75_000_000_000);
        assert!(memory(WeightUpdates::Compensated, OptimizerState::Bf16).total() > 80_000_000_000);
        assert!(training_memory(&config, &load(Forms::default())).total() > 140_000_000_000);
    }
}
