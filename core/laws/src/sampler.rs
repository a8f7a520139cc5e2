//! Laws of samplers.

use metareward_api::{DrawPlan, Sampler};
use proptest::collection::vec;

use crate::{
    generators::sampler_item,
    outcome::{LawOutcome, Plan, ensure, equal, law, only, pure_law},
};

/// Checks all laws of samplers.
pub fn check_sampler(sampler: &dyn Sampler, plan: Plan) -> Vec<LawOutcome> {
    vec![
        law("every draw has one plan", plan, sampler_item(), |item| {
            equal("number of plans", &only(sampler.plan(std::slice::from_ref(&item)))?.len(), &(item.draws as usize))
        }),
        law("every parameter is in its range", plan, sampler_item(), |item| {
            only(sampler.plan(&[item]))?.iter().try_for_each(in_range)
        }),
        pure_law(plan, vec(sampler_item(), 0..5), |items| sampler.plan(items)),
    ]
}

fn in_range(plan: &DrawPlan) -> Result<(), String> {
    let sampling = &plan.sampling;
    let holds = sampling.temperature.is_finite()
        && sampling.temperature >= 0.0
        && sampling.top_p > 0.0
        && sampling.top_p <= 1.0
        && sampling.top_k != Some(0)
        && (0.0..=1.0).contains(&sampling.min_p)
        && sampling.max_tokens > 0
        && sampling.stop.iter().all(|stop| !stop.is_empty());
    ensure(holds, || format!("{sampling:?}"))
}
