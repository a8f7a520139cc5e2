//! Process 0 of a training run.

use std::io::Write;

use metareward_api::{EngineError, TrainData};
use tch::{Device, Tensor};

use super::{
    deal::deal,
    follow::tried,
    orders::{Begin, Flaw, Order, Outcome, Plan, Short, Verdict, Work, packed, unpacked},
};
use crate::{
    Group,
    error::TorchError,
    train::{
        fitted::{Fitting, split},
        learner::Learner,
        worker::{Failure, Sums, Unit},
    },
};

/// What commands that begin a training run are called.
pub(crate) const TRAIN: &str = "train";

/// What is computed on a step's units.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The gradient of this optimizer step.
    Step(u32),
    /// The loss alone.
    Loss,
}

/// Tells the others that a run begins. They build what they need; then all of them say whether they could, and so does
/// this process, by `own`.
pub(crate) fn begin<T>(
    group: &Group,
    begin: &Begin,
    own: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    group.command(TRAIN, &packed(begin)?)?;
    let built = own();
    let outcome = match &built {
        Ok(_) => Outcome::Done(Box::default()),
        Err(error) => Outcome::Failed(Flaw::Engine(error.clone())),
    };
    match settle(group, outcome, |_| Ok(None)) {
        Ok(_) => built,
        Err(failure) => Err(failure.at(0)),
    }
}

/// Gathers the processes' outcomes, and gives all of them the verdict. `again` is asked when there was not enough memory
/// somewhere: for a plan with smaller micro-batches, or for the error.
pub(crate) fn settle(
    group: &Group,
    own: Outcome,
    again: impl FnOnce(&Short) -> Result<Option<Plan>, Failure>,
) -> Result<Settled, Failure> {
    let mut outcomes = vec![own];
    for rank in 1..group.size() {
        outcomes.push(unpacked(&group.receive_bytes(rank)?).map_err(Failure::Engine)?);
    }
    let mut total = Sums::default();
    let mut short: Option<Short> = None;
    let mut flaw = None;
    for outcome in outcomes {
        match outcome {
            Outcome::Done(sums) => total.add(&sums),
            // One that could not be smaller decides; else the largest.
            Outcome::Short(found) => {
                let worse =
                    |other: &Short| (found.alone.is_some(), found.largest) > (other.alone.is_some(), other.largest);
                if short.as_ref().is_none_or(worse) {
                    short = Some(found);
                }
            }
            Outcome::Failed(found) => flaw = flaw.or(Some(found)),
        }
    }
    let plan = match (&flaw, &short) {
        (None, Some(short)) => again(short).unwrap_or_else(|failure| {
            flaw = Some(failure.into());
            None
        }),
        _ => None,
    };
    let verdict = match (&flaw, plan) {
        (Some(flaw), _) => Verdict::Fail(flaw.clone()),
        (None, Some(plan)) => Verdict::Again(plan),
        (None, None) => Verdict::Go,
    };
    group.broadcast_bytes(0, packed(&verdict).map_err(Failure::Engine)?)?;
    match (flaw, plan) {
        (Some(flaw), _) => Err(flaw.into()),
        (None, Some(plan)) => Ok(Settled::Again(plan)),
        (None, None) => Ok(Settled::Go(total)),
    }
}

/// What all processes came to.
pub(crate) enum Settled {
    /// These sums, over all of them.
    Go(Sums),
    /// The same once more.
    Again(Plan),
}

/// Has `units` computed by all processes, in micro-batches of at most `limit` tokens; where there is not enough memory for
/// these, the limit is halved for all of them.
pub(crate) fn compute(
    learner: &mut Learner,
    group: &Group,
    what: What,
    units: &[Unit],
    data: TrainData<'_>,
    limit: &mut u32,
) -> Result<Sums, Failure> {
    let native = learner.team.native();
    let shares = deal(units, group.size(), native);
    let whole = match data {
        TrainData::Sft(_) => units.iter().map(Unit::completion_tokens).sum(),
        TrainData::Preference { .. } => units.len(),
    };
    let optimizer = match data {
        TrainData::Sft(_) => None,
        TrainData::Preference { optimizer, .. } => Some(optimizer),
    };
    let chosen = |share: &Vec<usize>| -> Vec<Unit> { share.iter().map(|&unit| units[unit].clone()).collect() };
    let dealt: Vec<Vec<Unit>> = shares.iter().map(chosen).collect();
    let plan = |limit: u32| Plan {
        limit,
        rounds: dealt.iter().map(|units| split(units, limit, native).len()).max().unwrap_or(0),
    };
    let step = match what {
        What::Step(step) => Some(step),
        What::Loss => None,
    };
    let mut now = plan(*limit);
    for (rank, units) in dealt.iter().enumerate().skip(1) {
        let work = Work { step, units: units.clone(), whole, plan: now };
        group.send_bytes(rank, &packed(&Order::Work(work)).map_err(Failure::Engine)?)?;
    }
    let own = Work { step, units: dealt[0].clone(), whole, plan: now };
    loop {
        let outcome = tried(learner, &own, now, optimizer);
        let settled = settle(group, outcome, |short| {
            let mut fitting = Fitting { limit: now.limit };
            fitting.halve(short.largest, short.alone.as_deref(), &short.message)?;
            Ok(Some(plan(fitting.limit)))
        })?;
        match settled {
            Settled::Go(sums) => return Ok(sums),
            Settled::Again(plan) => {
                now = plan;
                *limit = plan.limit;
            }
        }
    }
}

/// Sends the same order to all followers.
pub(crate) fn order(group: &Group, order: &Order) -> Result<(), EngineError> {
    let bytes = packed(order)?;
    (1..group.size()).try_for_each(|rank| Ok(group.send_bytes(rank, &bytes)?))
}

/// Elements of a tensor that are sent at a time.
const BLOCK: i64 = 1 << 22;

/// Writes a tensor of which every process has a piece, in the order of their ranks. `own` is this process's.
pub(crate) fn write_pieces(
    group: &Group,
    own: &Tensor,
    write: &mut dyn Write,
) -> Result<std::io::Result<()>, EngineError> {
    let mut written = Ok(());
    send_blocks(own, &mut |bytes| {
        if written.is_ok() {
            written = write.write_all(bytes);
        }
        Ok(())
    })?;
    for rank in 1..group.size() {
        // The number of blocks, then each: received even when the disk is full, so that nobody waits.
        let count: usize = unpacked(&group.receive_bytes(rank)?)?;
        for _ in 0..count {
            let bytes = group.receive_bytes(rank)?;
            if written.is_ok() {
                written = write.write_all(&bytes);
            }
        }
    }
    Ok(written)
}

/// The other side of [`write_pieces`].
pub(crate) fn send_piece(group: &Group, own: &Tensor) -> Result<(), EngineError> {
    let count = (own.numel() as i64 + BLOCK - 1) / BLOCK;
    group.send_bytes(0, &packed(&count)?)?;
    send_blocks(own, &mut |bytes| Ok(group.send_bytes(0, bytes)?))
}

fn send_blocks(tensor: &Tensor, give: &mut dyn FnMut(&[u8]) -> Result<(), EngineError>) -> Result<(), EngineError> {
    let total = tensor.numel() as i64;
    let width = tensor.kind().elt_size_in_bytes();
    for start in (0..total).step_by(BLOCK as usize) {
        let length = BLOCK.min(total - start);
        let block = tensor.f_narrow(0, start, length).and_then(|block| block.f_to_device(Device::Cpu));
        let block = block.map_err(TorchError::from)?;
        let mut bytes = vec![0; width * length as usize];
        block.f_copy_data_u8(&mut bytes, length as usize).map_err(TorchError::from)?;
        give(&bytes)?;
    }
    Ok(())
}
