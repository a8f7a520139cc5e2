//! The other processes of a training run: they do what process 0 says.

use metareward_api::{EngineError, Optimizer, TrainSettings};

use super::{
    lead::send_piece,
    orders::{Flaw, Order, Outcome, Plan, Short, Verdict, Work, packed, unpacked},
};
use crate::{
    Group,
    train::{
        fitted::{largest, split},
        learner::Learner,
        worker::{Failure, Objective},
    },
};

/// Tells process 0 what became of something that all processes did, and hears what it makes of it.
pub(crate) fn settle(group: &Group, own: Outcome) -> Result<Option<Plan>, Failure> {
    group.send_bytes(0, &packed(&own).map_err(Failure::Engine)?)?;
    match unpacked(&group.broadcast_bytes(0, Vec::new())?).map_err(Failure::Engine)? {
        Verdict::Go => Ok(None),
        Verdict::Again(plan) => Ok(Some(plan)),
        Verdict::Fail(flaw) => Err(flaw.into()),
    }
}

/// Does what process 0 says until the run is over.
///
/// # Errors
/// What went wrong here or, by its verdict, in any other process.
pub(crate) fn follow(
    learner: &mut Learner,
    group: &Group,
    settings: &TrainSettings,
    optimizer: Option<&dyn Optimizer>,
) -> Result<(), EngineError> {
    loop {
        match unpacked(&group.receive_bytes(0)?)? {
            Order::Work(work) => {
                let step = work.step;
                compute(learner, group, &work, settings, optimizer).map_err(|failure| failure.at(step.unwrap_or(0)))?;
            }
            Order::Save => {
                for (_, tensor) in learner.state()? {
                    send_piece(group, &tensor)?;
                }
            }
            Order::Publish => send_piece(group, &learner.own_weights()?)?,
            Order::End => return Ok(()),
        }
    }
}

fn compute(
    learner: &mut Learner,
    group: &Group,
    work: &Work,
    settings: &TrainSettings,
    optimizer: Option<&dyn Optimizer>,
) -> Result<(), Failure> {
    let mut plan = work.plan;
    while let Some(again) = settle(group, tried(learner, work, plan, optimizer))? {
        learner.team.release();
        plan = again;
    }
    let Some(step) = work.step else { return Ok(()) };
    let norm = learner.norm()?;
    if !norm.is_finite() {
        return Err(Failure::NotFinite {
            records: work.units.iter().map(|unit| unit.id.clone()).collect(),
            message: "the gradient is not finite".to_owned(),
        });
    }
    learner.update(step, norm, settings)?;
    Ok(())
}

/// Computes this process's share of some work once, and says what became of it.
pub(crate) fn tried(learner: &mut Learner, work: &Work, plan: Plan, optimizer: Option<&dyn Optimizer>) -> Outcome {
    let objective = match optimizer {
        None => Objective::Sft { tokens: work.whole },
        Some(optimizer) => Objective::Preference { pairs: work.whole, optimizer },
    };
    let batches = split(&work.units, plan.limit, learner.team.native());
    // A stop is process 0's to decide, between steps: then all are at the same place.
    let found = match work.step {
        Some(_) => learner.gradients(&work.units, &batches, plan.rounds, objective, &|| false),
        None => learner.evaluate(&work.units, &batches, plan.rounds, objective, &|| false),
    };
    match found {
        Ok(sums) => Outcome::Done(Box::new(sums)),
        Err(Failure::Memory(message)) => {
            learner.team.release();
            let (tokens, record) = largest(&work.units, &batches);
            let alone = batches.iter().all(|batch| batch.len() <= 1) || plan.limit <= 1;
            Outcome::Short(Short { message, largest: tokens, alone: alone.then_some(record) })
        }
        Err(failure) => Outcome::Failed(Flaw::from(failure)),
    }
}
