//! What happens when memory runs out: the same work in smaller micro-batches, then one sentence that says what to change.

use super::{
    batch::{Sequence, micro_batches},
    learner::Learner,
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

/// Tokens of the largest micro-batch, and the first record in it.
pub(crate) fn largest(units: &[Unit], batches: &[Vec<usize>]) -> (usize, String) {
    let tokens = |batch: &Vec<usize>| -> usize {
        batch.iter().flat_map(|&unit| &units[unit].sequences).map(|sequence| sequence.tokens.len()).sum()
    };
    let Some(batch) = batches.iter().max_by_key(|batch| tokens(batch)) else { return (0, String::new()) };
    let record = batch.first().and_then(|&unit| units.get(unit)).map(|unit| unit.id.clone());
    (tokens(batch), record.unwrap_or_default())
}

/// How many tokens a micro-batch may have.
pub(crate) struct Fitting {
    /// Tokens at most.
    pub limit: u32,
}

impl Fitting {
    /// There was no memory for a micro-batch of `largest` tokens, as `message` says: half of it, from now on. `alone` names
    /// the record of a micro-batch that cannot be smaller.
    ///
    /// # Errors
    /// When it cannot be smaller: what it needed and what to change.
    pub fn halve(&mut self, largest: usize, alone: Option<&str>, message: &str) -> Result<(), Failure> {
        if let Some(record) = alone {
            return Err(Failure::Memory(format!(
                "no memory for a micro-batch of one record, {record} with {largest} tokens: {message}; lower max_length, set \
                 activation_checkpointing = true, train adapters (lora), or take a machine with more memory"
            )));
        }
        let tried = self.limit.min(u32::try_from(largest).unwrap_or(u32::MAX));
        self.limit = (tried / 2).max(1);
        tracing::warn!(
            micro_batch_tokens = self.limit,
            "no memory for a micro-batch of {largest} tokens ({message}): trying again with {} at most, from now on; set \
             micro_batch_tokens to that",
            self.limit
        );
        Ok(())
    }
}

/// Runs `compute` on `units` in micro-batches of at most `limit` tokens. Where there is no memory for them, `limit` is
/// halved, for good, and it is tried again, until every unit stands alone.
///
/// # Errors
/// Those of `compute`; when even one unit is too large, what it needed and what to change.
pub(crate) fn fitted<T: Computing + ?Sized, R>(
    team: &mut T,
    units: &[Unit],
    limit: &mut u32,
    mut compute: impl FnMut(&mut T, &[Vec<usize>]) -> Result<R, Failure>,
) -> Result<R, Failure> {
    loop {
        let batches = split(units, *limit, team.native());
        let message = match compute(team, &batches) {
            Err(Failure::Memory(message)) => message,
            other => return other,
        };
        team.release();
        let (largest, record) = largest(units, &batches);
        let alone = batches.iter().all(|batch| batch.len() <= 1) || *limit <= 1;
        let mut fitting = Fitting { limit: *limit };
        fitting.halve(largest, alone.then_some(record.as_str()), &message)?;
        *limit = fitting.limit;
    }
}

/// Something that computes micro-batches.
pub(crate) trait Computing {
    /// Whether with our own kernels.
    fn native(&self) -> bool;

    /// Gives back the memory that is held between micro-batches.
    fn release(&mut self);
}

impl Computing for Team {
    fn native(&self) -> bool {
        Team::native(self)
    }

    fn release(&mut self) {
        Team::release(self);
    }
}

impl Computing for Learner {
    fn native(&self) -> bool {
        self.team.native()
    }

    fn release(&mut self) {
        self.team.release();
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
