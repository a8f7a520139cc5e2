//! Seeds of every random decision, derived from what the decision is about and from nothing else.
//!
//! A seed depends on the run's seed, the iteration, the purpose, the prompt and the indices of the draw. It does not
//! depend on the order in which decisions are made, on the batch or on a resume: the same draw has the same seed.

use metareward_api::PromptId;
use serde::{Deserialize, Serialize};

/// What a seed is used for. Different purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A response; index: its draw.
    Response,
    /// A judgment; indices: response, draw.
    Judgment,
    /// A verdict; indices: response, first, second.
    Verdict,
    /// The choice among responses with the same variance; index: response.
    WidestTie,
    /// The choice among responses with the same reward; index: response.
    ResponseTie,
    /// The choice among judgments with the same rating; indices: response, judgment.
    JudgmentTie,
    /// Which prompts and examples a task draws.
    Task,
    /// The order of training examples; index: epoch.
    TrainingOrder,
    /// Which examples are held out for validation; index: the example's.
    Validation,
}

/// Derives seeds from a run's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    run: u64,
}

impl Seeds {
    /// Seeds of the run with this seed.
    pub fn new(run: u64) -> Self {
        Self { run }
    }

    /// The seed of one decision about one prompt. Iteration 0 stands for what comes before the first: SFT and
    /// evaluation.
    pub fn prompt(&self, iteration: u32, purpose: Purpose, prompt: &PromptId, indices: &[u32]) -> u64 {
        self.derive(iteration, purpose, prompt.0.as_bytes(), indices)
    }

    /// The seed of a decision that is about no single prompt.
    pub fn stage(&self, iteration: u32, purpose: Purpose, indices: &[u32]) -> u64 {
        self.derive(iteration, purpose, &[], indices)
    }

    fn derive(&self, iteration: u32, purpose: Purpose, name: &[u8], indices: &[u32]) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("metareward 2026 seeds of draws");
        hasher.update(&self.run.to_le_bytes());
        hasher.update(&iteration.to_le_bytes());
        hasher.update(&[purpose as u8]);
        // The length before the name: no name can run into the indices.
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        for index in indices {
            hasher.update(&index.to_le_bytes());
        }
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// A permutation of `0..count`, the same for the same seed on every machine.
pub fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut hasher = blake3::Hasher::new_derive_key("metareward 2026 shuffle");
    hasher.update(&seed.to_le_bytes());
    let mut stream = hasher.finalize_xof();
    let mut order: Vec<u32> = (0..count).collect();
    // Fisher–Yates. Multiplying into the range instead of a remainder keeps the bias below 2^-32.
    for last in (1..order.len()).rev() {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        let wide = u128::from(u64::from_le_bytes(bytes)) * (last as u128 + 1);
        order.swap(last, (wide >> 64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seeds_of_a_large_run_do_not_collide() {
        let seeds = Seeds::new(1);
        let mut seen = BTreeSet::new();
        for prompt in 0..200 {
            let id = PromptId(format!("p{prompt}"));
            for response in 0..7 {
                assert!(seen.insert(seeds.prompt(1, Purpose::Response, &id, &[response])));
                for draw in 0..11 {
                    assert!(seen.insert(seeds.prompt(1, Purpose::Judgment, &id, &[response, draw])));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_changed_part_changes_the_seed(run: u64, iteration in 0u32..9, id in "[a-z]{0,6}", a in 0u32..9, b in 0u32..9) {
            let id = PromptId(id);
            let seed = Seeds::new(run).prompt(iteration, Purpose::Judgment, &id, &[a, b]);
            prop_assert_eq!(seed, Seeds::new(run).prompt(iteration, Purpose::Judgment, &id, &[a, b]));
            prop_assert_ne!(seed, Seeds::new(run ^ 1).prompt(iteration, Purpose::Judgment, &id, &[a, b]));
            prop_assert_ne!(seed, Seeds::new(run).prompt(iteration + 1, Purpose::Judgment, &id, &[a, b]));
            prop_assert_ne!(seed, Seeds::new(run).prompt(iteration, Purpose::Verdict, &id, &[a, b]));
            prop_assert_ne!(seed, Seeds::new(run).prompt(iteration, Purpose::Judgment, &PromptId(format!("{id}x")), &[a, b]));
            prop_assert_ne!(seed, Seeds::new(run).prompt(iteration, Purpose::Judgment, &id, &[a, b + 1]));
            prop_assert_ne!(seed, Seeds::new(run).prompt(iteration, Purpose::Judgment, &id, &[a, b, 0]));
        }

        #[test]
        fn a_shuffle_is_a_permutation(count in 0u32..200, seed: u64) {
            let mut order = shuffled(count, seed);
            prop_assert_eq!(&order, &shuffled(count, seed));
            order.sort_unstable();
            prop_assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }
}
