//! Memory of generation and, per rank, of training.

use serde::{Deserialize, Serialize};

use super::{Plan, StageCost};
use crate::{ModelShape, Stage, TrainSection, error::Bytes};

/// Bytes for keys and values on a CPU where nothing is stated: what the engine takes at most.
pub(super) const CPU_CACHE: u64 = 2 << 30;
/// What is counted where nothing is stated and the GPU is not known.
const UNKNOWN_CACHE: u64 = 20_000_000_000;
/// Bytes of a GPU that the engine leaves for activations where nothing is stated.
pub(super) const GPU_SPARE: u64 = 2 << 30;

/// Where generation computes, as far as it decides how much memory is taken where the config states none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// A GPU of which nothing is known, unless the config says `"cpu"`.
    #[default]
    Unknown,
    /// A CPU: what a call needs, at most 2 GiB.
    Cpu,
    /// A GPU with so much memory: nine tenths of what is free beside the weights and 2 GiB.
    Gpu(u64),
}

/// Bytes for keys and values, as the engine chooses them: what is stated, else by where it computes; on a CPU never more
/// than the largest call needs, `needed`.
pub(super) fn cache_bytes(stated: u64, room: Room, weights: u64, needed: u64) -> u64 {
    match (stated, room) {
        (0, Room::Gpu(memory)) => memory.saturating_sub(weights + GPU_SPARE) / 10 * 9,
        (0, Room::Cpu) => CPU_CACHE.min(needed),
        (0, Room::Unknown) => UNKNOWN_CACHE.min(needed),
        (stated, Room::Gpu(_) | Room::Unknown) => stated,
        (stated, Room::Cpu) => stated.min(needed),
    }
}

/// The sentence that says so.
pub(super) fn describe(stated: u64, room: Room, needed: u64) -> String {
    let needed = Bytes(needed);
    match (stated, room) {
        (0, Room::Cpu) => {
            format!("keys and values take what the largest call needs, {needed}, and at most 2 GiB on a CPU")
        }
        (0, Room::Gpu(_)) => format!(
            "keys and values take nine tenths of what weights and 2 GiB leave of the GPU; the largest call could use {needed}"
        ),
        (0, Room::Unknown) => format!(
            "keys and values are counted at up to 20 GB, as the GPU is not known: the engine takes nine tenths of what is free, \
             and the largest call could use {needed}"
        ),
        (_, _) => format!("keys and values take engine.cache_bytes; the largest call could use {needed}"),
    }
}

/// Tokens for which the largest call of a run would keep keys and values if it could.
pub(super) fn largest_call(stages: &[StageCost]) -> f64 {
    let of = |cost: &StageCost| cost.load.at_once as f64 * cost.load.most;
    stages.iter().map(of).fold(0.0, f64::max)
}

/// How training is spread over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharding {
    /// Every rank holds all.
    None,
    /// Each rank holds its part of the moments, and of what is kept in f32 beside bf16 weights (ZeRO 1).
    Optimizer,
    /// And of the gradients (ZeRO 2).
    Gradients,
    /// And of the weights, gathered layer by layer (ZeRO 3).
    Parameters,
}

impl Sharding {
    /// From the one that takes most memory to the one that takes least.
    pub const ALL: [Sharding; 4] = [Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Parameters];
}

/// Bytes per parameter that training holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateBytes {
    /// The weights that are computed with.
    pub weights: f64,
    /// The gradient.
    pub gradient: f64,
    /// The optimizer's moments, and weights in f32 beside those that are computed with.
    pub optimizer: f64,
}

impl StateBytes {
    /// Weights, gradients and two moments in f32 and, where the model computes in bf16, a copy of the weights in it.
    pub fn full(bf16: bool) -> Self {
        match bf16 {
            true => Self { weights: 2.0, gradient: 4.0, optimizer: 12.0 },
            false => Self { weights: 4.0, gradient: 4.0, optimizer: 8.0 },
        }
    }

    /// What a training section says.
    pub fn of(section: &TrainSection, bf16: bool) -> Self {
        let weights = if bf16 { 2.0 } else { 4.0 };
        Self {
            weights,
            gradient: section.gradients.bytes(),
            optimizer: section.weights.bytes(bf16) - weights + section.optimizer_state.bytes(),
        }
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.weights + self.gradient + self.optimizer
    }

    /// What one of `ranks` holds.
    pub fn per_rank(&self, sharding: Sharding, ranks: u32) -> f64 {
        let part = 1.0 / f64::from(ranks.max(1));
        let shared = |from: Sharding| if sharding as u8 >= from as u8 { part } else { 1.0 };
        self.weights * shared(Sharding::Parameters)
            + self.gradient * shared(Sharding::Gradients)
            + self.optimizer * shared(Sharding::Optimizer)
    }
}

/// What a rank of training takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankMemory {
    /// How training is spread.
    pub sharding: Sharding,
    /// State and activations of a rank, in bytes.
    pub bytes: u64,
    /// Whether that fits a card, where the card is known.
    pub fits: Option<bool>,
}

/// What a rank takes in every form of training that there is with so many. With sharded weights two gathered layers come on
/// top.
pub(super) fn per_rank(plan: &Plan, state: &StateBytes, ranks: u32, memory: Option<u64>) -> Vec<RankMemory> {
    let parameters = plan.parameters as f64;
    let layer = plan.model.layers.max(1);
    let activations = plan.activation_bytes as f64;
    let of = |sharding: Sharding| {
        let gathered = match sharding {
            Sharding::Parameters if ranks > 1 => 2.0 * state.weights * parameters / f64::from(layer),
            _ => 0.0,
        };
        let bytes = state.per_rank(sharding, ranks) * parameters + gathered + activations;
        // The process itself takes half a gigabyte of a GPU.
        RankMemory { sharding, bytes: bytes as u64, fits: memory.map(|memory| bytes + 0.5e9 <= memory as f64) }
    };
    // One rank has nobody to share with.
    Sharding::ALL.into_iter().filter(|sharding| ranks > 1 || *sharding == Sharding::None).map(of).collect()
}

/// An estimate of activations where the engine itself has not said: with checkpointing, the inputs of all layers and one
/// layer's insides for the tokens of a micro-batch.
pub(super) fn activations(
    model: &ModelShape,
    stages: &[StageCost],
    micro_batch_tokens: u32,
    checkpointing: bool,
    width: u64,
) -> u64 {
    let longest = stages.iter().filter(|cost| cost.stage == Stage::Training);
    let tokens = longest.map(|cost| cost.load.sequence).fold(f64::from(micro_batch_tokens), f64::max);
    let (hidden, layers) = (f64::from(model.hidden), f64::from(model.layers));
    // Of a block: six times the hidden state, queries, keys and values, and a feed-forward of three and a half times it.
    let block = tokens * hidden * (width as f64 * (6.0 + 6.0 + 5.0 * 3.5) + 8.0);
    let kept = if checkpointing { layers * tokens * hidden * width as f64 + block } else { layers * block };
    (kept + 3.0 * 4.0 * f64::from(1 << 24)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn more_sharding_and_more_ranks_never_take_more(bf16: bool, ranks in 1u32..64) {
            let state = StateBytes::full(bf16);
            let each: Vec<f64> = Sharding::ALL.iter().map(|sharding| state.per_rank(*sharding, ranks)).collect();
            prop_assert!(each.windows(2).all(|pair| pair[1] <= pair[0]));
            for sharding in Sharding::ALL {
                prop_assert!(state.per_rank(sharding, ranks + 1) <= state.per_rank(sharding, ranks));
            }
            prop_assert_eq!(each[0], state.total());
            // Three terms, each rounded once, and their sum.
            prop_assert!((each[3] * f64::from(ranks) - state.total()).abs() <= 8.0 * f64::EPSILON * state.total());
        }

        #[test]
        fn a_cpu_never_takes_more_than_is_needed(stated in 0u64..1 << 33, needed in 0u64..1 << 33) {
            let taken = cache_bytes(stated, Room::Cpu, 0, needed);
            let most = if stated == 0 { CPU_CACHE } else { stated };
            prop_assert!(taken <= needed && taken <= most);
        }
    }

    #[test]
    fn a_gpu_gives_nine_tenths_of_what_is_free() {
        let bytes = cache_bytes(0, Room::Gpu(80_000_000_000), 16_000_000_000, 0);
        assert_eq!(bytes, (80_000_000_000 - 16_000_000_000 - (2 << 30)) / 10 * 9);
        assert_eq!(cache_bytes(5, Room::Gpu(80_000_000_000), 0, 0), 5);
    }
}
