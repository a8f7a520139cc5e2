//! What happens when memory runs out: the same work in smaller micro-batches, then one sentence that says what to change.

use super::{
    batch::{Sequence, micro_batches},
    native,
    step::Team,
    worker::{Failure, Unit},
};
use crate::error::TorchError;

/// Indices of units in micro-batches of at most `limit` tokens: padded ones, or, for our own kernels, rows of the prefix
/// tree.
pub(crate) fn split(units: &[Unit], limit: u32, native: bool) -> Vec<Vec<usize>> {
    if native {
        let sequences: Vec<Vec<&Sequence>> = units.iter().map(|unit| unit.sequences.iter().collect()).collect();
        return native::micro_batches(&sequences, limit as usize);
    }
    let sizes: Vec<(usize, usize)> = units.iter().map(Unit::size).collect();
    micro_batches(&sizes, limit as usize)
}

/// Runs `compute` on `units` in micro-batches of at most `limit` tokens. Where there is no memory for them, `limit` is
/// halved, for good, and it is tried again, until every unit stands alone.
///
/// # Errors
/// Those of `compute`; when even one unit is too large, what it needed and what to change.
pub(crate) fn fitted<R>(
    team: &mut Team,
    units: &[Unit],
    limit: &mut u32,
    mut compute: impl FnMut(&mut Team, &[Vec<usize>]) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let tokens = |batch: &Vec<usize>| -> usize {
        batch.iter().flat_map(|&unit| &units[unit].sequences).map(|sequence| sequence.tokens.len()).sum()
    };
    loop {
        let batches = split(units, *limit, team.native());
        let message = match compute(team, &batches) {
            Err(Failure::Memory(message)) => message,
            other => return other,
        };
        team.release();
        let largest = batches.iter().map(tokens).max().unwrap_or(0);
        if batches.iter().all(|batch| batch.len() <= 1) || *limit <= 1 {
            let record = batches.iter().max_by_key(|batch| tokens(batch)).and_then(|batch| units.get(*batch.first()?));
            return Err(Failure::Memory(format!(
                "no memory for a micro-batch of one record, {} with {largest} tokens: {message}; lower max_length, set \
                 activation_checkpointing = true, train adapters (lora), or take a machine with more memory",
                record.map_or("", |unit| unit.id.as_str())
            )));
        }
        let tried = (*limit).min(u32::try_from(largest).unwrap_or(u32::MAX));
        *limit = (tried / 2).max(1);
        tracing::warn!(
            micro_batch_tokens = *limit,
            "no memory for a micro-batch of {largest} tokens ({message}): trying again with {} at most, from now on; set \
             micro_batch_tokens to that",
            *limit
        );
    }
}

/// An error on the way to a model's training state, with what that takes.
pub(crate) fn no_room(error: TorchError, parameters: u64, bytes_each: f64) -> TorchError {
    match error {
        TorchError::Memory(message) => TorchError::Memory(format!(
            "no memory to train {parameters} parameters, which takes {:.1} GB before any activations: {message}; set \
             train.weights, train.optimizer_state and train.gradients to smaller forms, train adapters (lora) or take a device \
             with more memory",
            parameters as f64 * bytes_each / 1e9
        )),
        other => other,
    }
}
