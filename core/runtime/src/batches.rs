//! The order of training: epochs of optimizer steps of example indices, shuffled by seed.

use metareward_api::PairKind;

use crate::seeds::{Purpose, Seeds, shuffled};

/// What decides the order.
pub(crate) struct Order {
    pub seeds: Seeds,
    /// Iteration; 0 for SFT.
    pub iteration: u32,
    pub batch_size: u32,
    /// Epochs to lay out.
    pub epochs: u32,
    /// Largest share of judge pairs in a batch; 1 does not limit.
    pub judge_share: f64,
}

impl Order {
    /// The epochs over the examples in `indices`; `kinds` tells which are judge pairs (`None` for SFT).
    ///
    /// Without a limit every epoch sees every example once. With one, a batch takes at most that share of judge pairs,
    /// spread evenly over the epoch, and what does not fit sits out that epoch: which ones changes from epoch to epoch.
    /// Where there are no actor pairs at all the limit cannot be kept and does not apply.
    pub fn epochs(&self, indices: &[u32], kinds: &dyn Fn(u32) -> Option<PairKind>) -> Vec<Vec<Vec<u32>>> {
        (1..=self.epochs).map(|epoch| self.epoch(indices, kinds, epoch)).collect()
    }

    fn epoch(&self, indices: &[u32], kinds: &dyn Fn(u32) -> Option<PairKind>, epoch: u32) -> Vec<Vec<u32>> {
        let seed = self.seeds.stage(self.iteration, Purpose::TrainingOrder, &[epoch]);
        let count = u32::try_from(indices.len()).unwrap_or(u32::MAX);
        let order: Vec<u32> =
            shuffled(count, seed).into_iter().filter_map(|at| indices.get(at as usize).copied()).collect();
        let size = self.batch_size.max(1) as usize;
        let (judge, actor): (Vec<u32>, Vec<u32>) =
            order.iter().partition(|index| kinds(**index) == Some(PairKind::Judge));
        if self.judge_share >= 1.0 || actor.is_empty() {
            return order.chunks(size).map(<[u32]>::to_vec).collect();
        }
        let cap = (self.judge_share * size as f64).floor() as usize;
        // As many full batches as the actor pairs fill when each leaves `cap` places, the last one possibly smaller.
        let steps = actor.len().div_ceil(size - cap);
        let places = (steps * cap).min(judge.len());
        let (mut actor, mut judge) = (actor.into_iter(), judge.into_iter().take(places));
        let mut batches = Vec::new();
        let mut left = places;
        for step in 0..steps {
            let of_judge = left.div_ceil(steps - step);
            // A short last batch keeps the share too.
            let actors: Vec<u32> = actor.by_ref().take(size - cap).collect();
            let fitting = (self.judge_share * actors.len() as f64 / (1.0 - self.judge_share) + 1e-9).floor() as usize;
            let judges: Vec<u32> = judge.by_ref().take(of_judge.min(fitting).min(cap)).collect();
            left -= judges.len();
            batches.push(actors.into_iter().chain(judges).collect());
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(index: u32) -> Option<PairKind> {
        Some(if index.is_multiple_of(2) { PairKind::Actor } else { PairKind::Judge })
    }

    fn order(batch_size: u32, judge_share: f64, seed: u64) -> Order {
        Order { seeds: Seeds::new(seed), iteration: 1, batch_size, epochs: 3, judge_share }
    }

    proptest! {
        #[test]
        fn without_a_limit_every_epoch_sees_every_example_once(count in 0u32..80, batch in 1u32..40, seed: u64) {
            let indices: Vec<u32> = (0..count).collect();
            for epoch in order(batch, 1.0, seed).epochs(&indices, &kind) {
                let mut seen: Vec<u32> = epoch.iter().flatten().copied().collect();
                seen.sort_unstable();
                prop_assert_eq!(&seen, &indices);
                prop_assert!(epoch.iter().rev().skip(1).all(|step| step.len() == batch as usize));
                prop_assert!(epoch.iter().all(|step| !step.is_empty()));
            }
        }

        #[test]
        fn a_limit_is_kept_and_no_actor_pair_is_lost(
            count in 1u32..120, batch in 1u32..40, share in 0.01f64..0.99, seed: u64,
        ) {
            let indices: Vec<u32> = (0..count).collect();
            for epoch in order(batch, share, seed).epochs(&indices, &kind) {
                let mut actors = Vec::new();
                let mut judges = std::collections::BTreeSet::new();
                for step in &epoch {
                    let of_judge = step.iter().filter(|index| kind(**index) == Some(PairKind::Judge)).count();
                    prop_assert!(of_judge as f64 <= share * step.len() as f64 + 1e-6);
                    prop_assert!(step.len() <= batch as usize && !step.is_empty());
                    for index in step {
                        if kind(*index) == Some(PairKind::Actor) { actors.push(*index) } else {
                            prop_assert!(judges.insert(*index));
                        }
                    }
                }
                actors.sort_unstable();
                prop_assert_eq!(actors, indices.iter().copied().filter(|i| i % 2 == 0).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn epochs_differ_and_the_first_ones_do_not_depend_on_how_many_follow() {
        let indices: Vec<u32> = (0..50).collect();
        let three = order(8, 1.0, 1).epochs(&indices, &kind);
        assert_ne!(three[0], three[1]);
        let one = Order { epochs: 1, ..order(8, 1.0, 1) }.epochs(&indices, &kind);
        assert_eq!(one[0], three[0]);
    }
}
