//! Sequences, and how a step's sequences are put together into forward passes.

use metareward_api::EngineError;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::error::Result;

/// A rendered prompt and the completion after it, as token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// Prompt, then completion, then the end-of-turn token unless it was cut off.
    pub tokens: Vec<i64>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Whether the completion was cut to fit.
    pub truncated: bool,
}

impl Sequence {
    /// Joins prompt and completion (with its end token), cut at the end to `limit` tokens.
    ///
    /// # Errors
    /// When the prompt leaves no room for a completion; `record` is named.
    pub fn new(prompt: &[i64], completion: &[i64], limit: usize, record: &str) -> Result<Self, EngineError> {
        let input = |message| EngineError::Input { record: record.to_owned(), message };
        if prompt.len() >= limit {
            return Err(input(format!(
                "its prompt has {} tokens and leaves no room for a completion within {limit}; raise max_length, \
                 where the model's context allows it, or drop the record",
                prompt.len()
            )));
        }
        if prompt.is_empty() {
            return Err(input("its prompt has no tokens, so nothing predicts the completion's first".to_owned()));
        }
        let mut tokens = [prompt, completion].concat();
        let truncated = tokens.len() > limit;
        tokens.truncate(limit);
        Ok(Self { tokens, prompt: prompt.len(), truncated })
    }

    /// Tokens of the completion, end token included.
    pub fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.prompt
    }
}

/// Splits units (an example, or the two sequences of a pair) into micro-batches of at most `limit` padded tokens.
///
/// `units[i]` is the number of sequences of unit `i` and the length of its longest. Units are sorted by length, longest
/// first, so that little is padded; the number of micro-batches is the smallest that the limit allows, and they are made
/// as equal in padded tokens as that number allows, so that workers end together. A unit over the limit stands alone.
/// The result depends on nothing but the arguments.
pub(crate) fn micro_batches(units: &[(usize, usize)], limit: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|&unit| (std::cmp::Reverse(units[unit].1), unit));
    let fewest = fill(units, &order, limit).len();
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = low + (high - low) / 2;
        if fill(units, &order, middle).len() > fewest {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    fill(units, &order, high)
}

fn fill(units: &[(usize, usize)], order: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let (mut sequences, mut longest) = (0, 0);
    for &unit in order {
        let (count, length) = units[unit];
        match batches.last_mut() {
            Some(batch) if (sequences + count) * longest <= limit => batch.push(unit),
            _ => {
                batches.push(vec![unit]);
                (sequences, longest) = (0, length);
            }
        }
        sequences += count;
    }
    batches
}

/// Sequences as tensors, padded on the right.
///
/// No mask is needed: attention is causal, so no real token sees the padding after it, and no gradient comes from there.
pub(crate) struct Padded {
    /// Token ids, `[sequences, longest]`, i64.
    pub tokens: Tensor,
    /// Positions in the flattened batch whose next token is of a completion, `[N]`, i64.
    pub rows: Tensor,
    /// Those next tokens, `[N]`, i64.
    pub targets: Tensor,
    /// Completion tokens of each sequence; their sum is N.
    pub counts: Vec<usize>,
}

impl Padded {
    /// Puts the sequences on `device`.
    pub fn new(sequences: &[&Sequence], device: Device) -> Result<Self> {
        let longest = sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0);
        let mut tokens = Vec::with_capacity(sequences.len() * longest);
        let (mut rows, mut targets, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, sequence) in sequences.iter().enumerate() {
            tokens.extend_from_slice(&sequence.tokens);
            tokens.resize((row + 1) * longest, 0);
            for position in sequence.prompt..sequence.tokens.len() {
                rows.push((row * longest + position - 1) as i64);
                targets.push(sequence.tokens[position]);
            }
            counts.push(sequence.completion_tokens());
        }
        let place = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Self {
            tokens: place(&tokens)?.f_view([sequences.len() as i64, longest as i64])?,
            rows: place(&rows)?,
            targets: place(&targets)?,
            counts,
        })
    }

    /// Sums consecutive values, one sum per sequence, in f64.
    pub fn sums(&self, values: &[f32]) -> Vec<f64> {
        let mut start = 0;
        self.counts
            .iter()
            .map(|&count| {
                let sum = values[start..start + count].iter().map(|&value| f64::from(value)).sum();
                start += count;
                sum
            })
            .collect()
    }

    /// Repeats one value per sequence for each of its completion tokens.
    pub fn spread(&self, values: &[f64]) -> Vec<f32> {
        self.counts.iter().zip(values).flat_map(|(&count, &value)| std::iter::repeat_n(value as f32, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_unit_is_in_one_micro_batch_within_the_limit(
            units in prop::collection::vec((1usize..3, 1usize..60), 0..40), limit in 1usize..400,
        ) {
            let batches = micro_batches(&units, limit);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..units.len()).collect::<Vec<_>>());
            for batch in &batches {
                let sequences: usize = batch.iter().map(|&unit| units[unit].0).sum();
                let longest = batch.iter().map(|&unit| units[unit].1).max().unwrap();
                prop_assert!(batch.len() == 1 || sequences * longest <= limit);
            }
            let order: Vec<usize> = batches.concat();
            prop_assert!(order.windows(2).all(|two| units[two[0]].1 >= units[two[1]].1));
            prop_assert_eq!(batches.len(), fill(&units, &order, limit).len());
        }

        #[test]
        fn a_sequence_never_exceeds_the_limit(prompt in 1usize..20, completion in 1usize..20, limit in 1usize..30) {
            let sequence = Sequence::new(&vec![1; prompt], &vec![2; completion], limit, "p");
            if prompt >= limit {
                let refused = matches!(sequence, Err(EngineError::Input { record, .. }) if record == "p");
                prop_assert!(refused);
            } else {
                let sequence = sequence.unwrap();
                prop_assert_eq!(sequence.tokens.len(), limit.min(prompt + completion));
                prop_assert_eq!(sequence.truncated, prompt + completion > limit);
                prop_assert!(sequence.completion_tokens() >= 1);
            }
        }
    }

    #[test]
    fn rows_point_at_the_token_before_each_completion_token() {
        let long = Sequence::new(&[5, 6], &[7, 8, 9], 10, "a").unwrap();
        let short = Sequence::new(&[4], &[3], 10, "b").unwrap();
        let padded = Padded::new(&[&long, &short], Device::Cpu).unwrap();
        assert_eq!(padded.tokens.size(), [2, 5]);
        assert_eq!(Vec::<i64>::try_from(&padded.rows).unwrap(), [1, 2, 3, 5]);
        assert_eq!(Vec::<i64>::try_from(&padded.targets).unwrap(), [7, 8, 9, 3]);
        assert_eq!(padded.sums(&[1.0, 2.0, 3.0, 4.0]), [6.0, 4.0]);
        assert_eq!(padded.spread(&[0.5, 2.0]), [0.5, 0.5, 0.5, 2.0]);
    }
}
