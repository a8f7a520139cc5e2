//! Laws of optimizers.

use metareward_api::{Optimizer, PairLogProbs, PreferenceLoss};
use proptest::{collection::vec, prelude::*};

use crate::{
    generators::{extreme_pair, pair},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near},
};

/// What not every honest loss promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptimizerPromises {
    /// The loss never rises with the chosen log-probability and never falls with the rejected one.
    pub pulls_apart: bool,
}

/// Checks all laws of optimizers.
pub fn check_optimizer(optimizer: &dyn Optimizer, promises: OptimizerPromises, plan: Plan) -> Vec<LawOutcome> {
    let start = "the loss at zero margin is the one that is promised";
    let signs = "the gradient raises chosen and lowers rejected";
    vec![
        law("every vector has one finite number per pair", plan, vec(pair(), 0..5), |pairs| {
            well_formed(&loss(optimizer, &pairs)?, pairs.len())
        }),
        law("extreme margins stay finite", plan, extreme_pair(), |pair| well_formed(&loss(optimizer, &[pair])?, 1)),
        law("the gradient equals finite differences", plan, pair(), |pair| finite_differences(optimizer, pair)),
        if promises.pulls_apart {
            law(signs, plan, prop_oneof![pair(), extreme_pair()], |pair| {
                let loss = loss(optimizer, &[pair])?;
                let (chosen, rejected) = (loss.chosen_gradient[0], loss.rejected_gradient[0]);
                ensure(chosen <= 0.0 && rejected >= 0.0, || format!("chosen {chosen}, rejected {rejected}"))
            })
        } else {
            LawOutcome::not_checked(signs, plan, "the loss does not promise it")
        },
        match optimizer.loss_at_start() {
            Ok(Some(expected)) => law(start, plan, pair(), |pair| {
                let pair = PairLogProbs {
                    reference_chosen: pair.policy_chosen,
                    reference_rejected: pair.policy_rejected,
                    weight: 1.0,
                    ..pair
                };
                near("loss", loss(optimizer, &[pair])?.losses[0], expected, 1e-12)
            }),
            Ok(None) => LawOutcome::not_checked(start, plan, "the loss promises none"),
            Err(error) => law(start, plan, Just(()), |()| Err(failed(error.clone()))),
        },
        law("the weight scales loss and gradient", plan, pair(), |pair| {
            let once = loss(optimizer, &[PairLogProbs { weight: 1.0, ..pair }])?;
            let thrice = loss(optimizer, &[PairLogProbs { weight: 3.0, ..pair }])?;
            near("loss", thrice.losses[0], 3.0 * once.losses[0], 1e-12)?;
            near("gradient of chosen", thrice.chosen_gradient[0], 3.0 * once.chosen_gradient[0], 1e-12)?;
            near("gradient of rejected", thrice.rejected_gradient[0], 3.0 * once.rejected_gradient[0], 1e-12)
        }),
        law("a log-probability that is not finite is refused", plan, pair(), |pair| {
            let bad = PairLogProbs { policy_chosen: f64::NEG_INFINITY, ..pair };
            ensure(optimizer.loss(&[bad]).is_err(), || "minus infinity was accepted".to_owned())
        }),
        law(
            "the same call gives the same answer, and no pair of a batch influences another",
            plan,
            vec(pair(), 0..5),
            |pairs| {
                let whole = loss(optimizer, &pairs)?;
                equal("the second call", &format!("{:?}", loss(optimizer, &pairs)?), &format!("{whole:?}"))?;
                for (index, pair) in pairs.iter().enumerate() {
                    let single = loss(optimizer, &[*pair])?;
                    equal("loss of one pair alone", &single.losses[0], &whole.losses[index])?;
                    equal("its gradient", &single.chosen_gradient[0], &whole.chosen_gradient[index])?;
                    equal("its other gradient", &single.rejected_gradient[0], &whole.rejected_gradient[index])?;
                }
                Ok(())
            },
        ),
    ]
}

fn loss(optimizer: &dyn Optimizer, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, String> {
    let loss = optimizer.loss(pairs).map_err(failed)?;
    let lengths = [&loss.losses, &loss.chosen_gradient, &loss.rejected_gradient].map(Vec::len);
    equal("numbers per pair", &lengths, &[pairs.len(); 3])?;
    Ok(loss)
}

fn well_formed(loss: &PreferenceLoss, pairs: usize) -> Result<(), String> {
    let rewards = [&loss.chosen_rewards, &loss.rejected_rewards];
    equal("rewards per pair", &rewards.map(Vec::len), &[pairs; 2])?;
    let vectors = [&loss.losses, &loss.chosen_gradient, &loss.rejected_gradient].into_iter().chain(rewards);
    let finite = vectors.flatten().chain(loss.metrics.values()).all(|value| value.is_finite());
    ensure(finite, || format!("{loss:?}"))
}

fn finite_differences(optimizer: &dyn Optimizer, pair: PairLogProbs) -> Result<(), String> {
    let step = 1e-5;
    let exact = loss(optimizer, &[pair])?;
    let slope = |change: &dyn Fn(f64) -> PairLogProbs| -> Result<f64, String> {
        let (up, down) = (loss(optimizer, &[change(step)])?, loss(optimizer, &[change(-step)])?);
        Ok((up.losses[0] - down.losses[0]) / (2.0 * step))
    };
    let chosen = slope(&|by| PairLogProbs { policy_chosen: pair.policy_chosen + by, ..pair })?;
    let rejected = slope(&|by| PairLogProbs { policy_rejected: pair.policy_rejected + by, ..pair })?;
    // Truncation and rounding of the difference, both far below any wrong factor or sign.
    near("gradient of chosen", exact.chosen_gradient[0], chosen, 1e-6)?;
    near("gradient of rejected", exact.rejected_gradient[0], rejected, 1e-6)
}
