//! Which process computes which of a step's units.

use crate::train::{batch::Sequence, native, worker::Unit};

/// Indices of the units of every process: some for each as long as there are any. Their tokens are shared out as evenly as
/// it goes, and for our own kernels units that begin alike stay together.
pub(crate) fn deal(units: &[Unit], processes: usize, native: bool) -> Vec<Vec<usize>> {
    let tokens = |unit: &usize| -> usize {
        let sequences = units.get(*unit).map(|unit| &unit.sequences[..]).unwrap_or_default();
        sequences.iter().map(|sequence| sequence.tokens.len()).sum()
    };
    let mut shares = vec![Vec::new(); processes.max(1)];
    if native {
        // Neighbours in the prefix tree, cut where a share of the tokens is reached.
        let sequences: Vec<Vec<&Sequence>> = units.iter().map(|unit| unit.sequences.iter().collect()).collect();
        let order: Vec<usize> = native::micro_batches(&sequences, usize::MAX).concat();
        let total: usize = order.iter().map(tokens).sum();
        let mut before = 0;
        for unit in order {
            let middle = before + tokens(&unit) / 2;
            before += tokens(&unit);
            let process = (middle * shares.len()).checked_div(total).unwrap_or(0).min(shares.len() - 1);
            shares[process].push(unit);
        }
    } else {
        // The longest first, each to the process with the least to do.
        let mut order: Vec<usize> = (0..units.len()).collect();
        order.sort_by_key(|unit| (std::cmp::Reverse(tokens(unit)), *unit));
        let mut load = vec![0; shares.len()];
        for unit in order {
            let least = (0..shares.len()).min_by_key(|&process| (load[process], process)).unwrap_or(0);
            load[least] += tokens(&unit);
            shares[least].push(unit);
        }
    }
    // The order within a share is the step's, whatever the way of sharing out.
    shares.iter_mut().for_each(|share| share.sort_unstable());
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(lengths: &[usize]) -> Unit {
        let sequences = lengths.iter().map(|&length| {
            let tokens: Vec<i64> = (0..length as i64 + 1).collect();
            Sequence::new(&tokens[..1], &tokens[1..], length + 1, "unit").unwrap()
        });
        Unit { id: "unit".to_owned(), sequences: sequences.collect(), reference: [0.0; 2], weight: 1.0 }
    }

    proptest! {
        #[test]
        fn every_unit_has_one_process_and_none_has_much_more_than_its_share(
            lengths in prop::collection::vec(prop::collection::vec(1usize..50, 1..3), 0..30),
            processes in 1usize..6, native in any::<bool>(),
        ) {
            let units: Vec<Unit> = lengths.iter().map(|lengths| unit(lengths)).collect();
            let shares = deal(&units, processes, native);
            prop_assert_eq!(shares.len(), processes);
            let mut seen = shares.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..units.len()).collect::<Vec<_>>());
            let tokens = |share: &[usize]| -> usize {
                share.iter().flat_map(|&unit| &units[unit].sequences).map(|sequence| sequence.tokens.len()).sum()
            };
            let total: usize = shares.iter().map(|share| tokens(share)).sum();
            let largest = units.iter().map(|unit| unit.sequences.iter().map(|s| s.tokens.len()).sum::<usize>()).max();
            // Half a unit may hang over at each end of a cut; the least loaded gets at most one unit more than its share.
            for share in &shares {
                prop_assert!(tokens(share) <= total / processes + largest.unwrap_or(0) + 1);
            }
        }
    }
}
