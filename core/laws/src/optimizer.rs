//! Laws of optimizers.

use metareward_api::{Kind, Optimizer, PairLogProbs, PreferenceLoss};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    all_kinds::{self, ABOUT, PURE, TRACELESS},
    generators::{extreme_pair, pair},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near, same_text},
};

const FINITE: &str = "every vector has one finite number per pair";
const EXTREME: &str = "extreme margins stay finite";
const GRADIENT: &str = "the gradient equals finite differences";
const SIGNS: &str = "the gradient raises chosen and lowers rejected";
const START: &str = "the loss at zero margin is the one that is promised";
const REFERENCE: &str = "a loss that needs no reference does not read it";
const WEIGHT: &str = "the weight scales loss and gradient";
const REFUSED: &str = "a log-probability that is not finite is refused";

pub(crate) const LAWS: &[&str] =
    &[ABOUT, FINITE, EXTREME, GRADIENT, SIGNS, START, REFERENCE, WEIGHT, REFUSED, PURE, TRACELESS];

/// Checks all laws of optimizers. What it promises ([`Optimizer::promises`]) is checked, and nothing else of that.
pub fn check_optimizer(optimizer: &dyn Optimizer, plan: Plan) -> Vec<LawOutcome> {
    let promises = optimizer.promises().unwrap_or_default();
    vec![
        all_kinds::about(plan, Kind::Optimizer, optimizer, || {
            optimizer.promises()?;
            optimizer.needs_reference()?;
            let start = optimizer.loss_at_start()?;
            Ok(ensure(start.is_none_or(f64::is_finite), || format!("loss at the start {start:?}"))?)
        }),
        law(FINITE, plan, vec(pair(), 0..5), |pairs| well_formed(&loss(optimizer, &pairs)?, pairs.len())),
        law(EXTREME, plan, extreme_pair(), |pair| well_formed(&loss(optimizer, &[pair])?, 1)),
        law(GRADIENT, plan, pair(), |pair| finite_differences(optimizer, pair)),
        if promises.pulls_apart {
            law(SIGNS, plan, prop_oneof![pair(), extreme_pair()], |pair| {
                let loss = loss(optimizer, &[pair])?;
                let (chosen, rejected) = (loss.chosen_gradient[0], loss.rejected_gradient[0]);
                ensure(chosen <= 0.0 && rejected >= 0.0, || format!("chosen {chosen}, rejected {rejected}"))
            })
        } else {
            LawOutcome::not_checked(SIGNS, plan, "the loss does not promise it")
        },
        match optimizer.loss_at_start() {
            Ok(Some(expected)) => law(START, plan, pair(), |pair| {
                let pair = PairLogProbs {
                    reference_chosen: pair.policy_chosen,
                    reference_rejected: pair.policy_rejected,
                    weight: 1.0,
                    ..pair
                };
                near("loss", loss(optimizer, &[pair])?.losses[0], expected, 1e-12)
            }),
            Ok(None) => LawOutcome::not_checked(START, plan, "the loss promises none"),
            Err(error) => LawOutcome::not_checked(START, plan, &failed(error)),
        },
        match optimizer.needs_reference() {
            Ok(false) => law(REFERENCE, plan, pair(), |pair| {
                let without = PairLogProbs { reference_chosen: 0.0, reference_rejected: 0.0, ..pair };
                equal("loss without a reference", &loss(optimizer, &[without])?, &loss(optimizer, &[pair])?)
            }),
            Ok(true) => LawOutcome::not_checked(REFERENCE, plan, "the loss needs it"),
            Err(error) => LawOutcome::not_checked(REFERENCE, plan, &failed(error)),
        },
        law(WEIGHT, plan, pair(), |pair| {
            let once = loss(optimizer, &[PairLogProbs { weight: 1.0, ..pair }])?;
            let thrice = loss(optimizer, &[PairLogProbs { weight: 3.0, ..pair }])?;
            near("loss", thrice.losses[0], 3.0 * once.losses[0], 1e-12)?;
            near("gradient of chosen", thrice.chosen_gradient[0], 3.0 * once.chosen_gradient[0], 1e-12)?;
            near("gradient of rejected", thrice.rejected_gradient[0], 3.0 * once.rejected_gradient[0], 1e-12)
        }),
        law(REFUSED, plan, spoiled(), |pair| ensure(optimizer.loss(&[pair]).is_err(), || "it was accepted".to_owned())),
        law(PURE, plan, vec(pair(), 0..5), |pairs| {
            let whole = loss(optimizer, &pairs)?;
            same_text("the second call", &format!("{:?}", loss(optimizer, &pairs)?), &format!("{whole:?}"))?;
            for (index, pair) in pairs.iter().enumerate() {
                let single = loss(optimizer, &[*pair])?;
                let values = |loss: &PreferenceLoss, index: usize| {
                    let vectors = [&loss.losses, &loss.chosen_gradient, &loss.rejected_gradient];
                    let rewards = [&loss.chosen_rewards, &loss.rejected_rewards];
                    let all = vectors.into_iter().chain(rewards).map(|vector| vector.get(index).copied());
                    format!("{:?}", all.collect::<Vec<_>>())
                };
                equal("one pair alone", &values(&single, 0), &values(&whole, index))?;
            }
            Ok(())
        }),
        all_kinds::traceless(
            plan,
            vec(pair(), 0..5),
            prop_oneof![pair(), spoiled()].prop_map(|pair| vec![pair]),
            |pairs| optimizer.loss(pairs),
        ),
    ]
}

/// A pair with a log-probability that is not finite.
pub(crate) fn spoiled() -> impl Strategy<Value = PairLogProbs> {
    (pair(), select(vec![f64::NEG_INFINITY, f64::NAN]), any::<bool>()).prop_map(|(pair, bad, chosen)| {
        if chosen { PairLogProbs { policy_chosen: bad, ..pair } } else { PairLogProbs { policy_rejected: bad, ..pair } }
    })
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
    // A log-probability of 0 has no neighbour above it.
    let below = |log_prob: f64| log_prob.min(-0.05);
    let pair =
        PairLogProbs { policy_chosen: below(pair.policy_chosen), policy_rejected: below(pair.policy_rejected), ..pair };
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
