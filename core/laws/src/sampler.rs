//! Laws of samplers.
//!
//! A sampler with plans only is held to the exact distribution of its plans' parameters ([`crate::exact`]); one that
//! reshapes, to what it reshapes to.

use metareward_api::{DrawPlan, Kind, NextTokens, PluginError, Sampler, SamplerItem, Sampling};
use proptest::{collection::vec, prelude::*};

use crate::{
    all_kinds::{self, ABOUT, PURE, TRACELESS},
    exact,
    generators::{logits, next_tokens, permutation, sampler_item},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, only, same_text},
};

const ONE_PLAN: &str = "every draw has one plan";
const IN_RANGE: &str = "every parameter is in its range";
const SUM: &str = "probabilities are not negative and sum to 1, also of extreme logits";
const NUCLEUS: &str = "nothing outside the nucleus has a probability, and everything inside has one";
const GREEDY: &str = "towards temperature 0 the most probable token takes all";
const NAMES: &str = "renaming the tokens changes nothing but their names";
const PURE_RESHAPE: &str = "the same row is reshaped the same way, whatever else is in the batch";

pub(crate) const LAWS: &[&str] =
    &[ABOUT, ONE_PLAN, IN_RANGE, SUM, NUCLEUS, GREEDY, NAMES, PURE, PURE_RESHAPE, TRACELESS];

/// How far a sum of probabilities may be from 1.
const ROUNDING: f64 = 1e-9;

/// Checks all laws of samplers.
pub fn check_sampler(sampler: &dyn Sampler, plan: Plan) -> Vec<LawOutcome> {
    let shown = sampler.reshapes().ok().flatten().map(|most| most as usize);
    let most = shown.unwrap_or(1);
    let drawn = || (sampler_item(), any::<prop::sample::Index>(), logits());
    let row = || next_tokens(most);
    let reshapes = "the sampler reshapes for itself";
    vec![
        all_kinds::about(plan, Kind::Sampler, sampler, || {
            let most = sampler.reshapes()?;
            Ok(ensure(most != Some(0), || "it reshapes, but wants to see no token".to_owned())?)
        }),
        law(ONE_PLAN, plan, sampler_item(), |item| {
            equal("number of plans", &only(sampler.plan(std::slice::from_ref(&item)))?.len(), &(item.draws as usize))
        }),
        law(IN_RANGE, plan, sampler_item(), |item| only(sampler.plan(&[item]))?.iter().try_for_each(in_range)),
        if shown.is_some() {
            law(SUM, plan, row(), |row| adds_up(&reshape(sampler, &row)?))
        } else {
            law(SUM, plan, drawn(), |(item, which, logits)| {
                let Some(sampling) = one_draw(sampler, item, which)? else { return Ok(()) };
                adds_up(&exact::distribution(&sampling, &logits))
            })
        },
        if shown.is_some() {
            LawOutcome::not_checked(NUCLEUS, plan, reshapes)
        } else {
            law(NUCLEUS, plan, drawn(), |(item, which, logits)| {
                let Some(sampling) = one_draw(sampler, item, which)? else { return Ok(()) };
                nucleus(&sampling, &logits, &exact::distribution(&sampling, &logits))
            })
        },
        if shown.is_some() {
            law(GREEDY, plan, row(), |row| {
                let far = NextTokens { logits: far_apart(&row.logits), ..row };
                takes_all(&far.logits, &reshape(sampler, &far)?)
            })
        } else {
            law(GREEDY, plan, drawn(), |(item, which, logits)| {
                let Some(sampling) = one_draw(sampler, item, which)? else { return Ok(()) };
                takes_all(&logits, &exact::distribution(&Sampling { temperature: 0.0, ..sampling.clone() }, &logits))?;
                takes_all(&far_apart(&logits), &exact::distribution(&sampling, &far_apart(&logits)))
            })
        },
        if shown.is_some() {
            law(NAMES, plan, (row(), 1u32..5000), |(row, by)| {
                let tokens = row.tokens.iter().rev().map(|token| token + by).collect();
                let renamed = reshape(sampler, &NextTokens { tokens, ..row.clone() })?;
                close("probability", &renamed, &reshape(sampler, &row)?)
            })
        } else {
            let permuted = (sampler_item(), any::<prop::sample::Index>(), permuted_logits());
            law(NAMES, plan, permuted, |(item, which, (logits, order))| {
                let Some(sampling) = one_draw(sampler, item, which)? else { return Ok(()) };
                let renamed: Vec<f64> = order.iter().map(|index| logits[*index]).collect();
                let by_logit = |logits: &[f64]| {
                    let probabilities = exact::distribution(&sampling, logits);
                    let mut both: Vec<(f64, f64)> = logits.iter().copied().zip(probabilities).collect();
                    both.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
                    both.into_iter().map(|(_, probability)| probability).collect::<Vec<_>>()
                };
                close("probability", &by_logit(&renamed), &by_logit(&logits))
            })
        },
        all_kinds::pure(plan, vec(sampler_item(), 0..5), |items| sampler.plan(items)),
        if shown.is_some() {
            law(PURE_RESHAPE, plan, vec(row(), 0..4), |rows| {
                let all = sampler.reshape(&rows).map_err(failed)?;
                let again = sampler.reshape(&rows).map_err(failed)?;
                same_text("the second call", &format!("{again:?}"), &format!("{all:?}"))?;
                let alone = rows.iter().map(|row| reshape(sampler, row)).collect::<Result<Vec<_>, _>>()?;
                same_text("row by row", &format!("{alone:?}"), &format!("{all:?}"))
            })
        } else {
            LawOutcome::not_checked(PURE_RESHAPE, plan, "the sampler has plans only")
        },
        all_kinds::traceless(plan, calls(most), calls(most), |(items, rows)| {
            // A sampler without reshape says so, the same way every time.
            Ok::<_, PluginError>((sampler.plan(items)?, sampler.reshape(rows)))
        }),
    ]
}

/// What both calls of a sampler are asked.
pub(crate) fn calls(most: usize) -> impl Strategy<Value = (Vec<SamplerItem>, Vec<NextTokens>)> {
    (vec(sampler_item(), 0..4), vec(next_tokens(most), 0..4))
}

fn permuted_logits() -> impl Strategy<Value = (Vec<f64>, Vec<usize>)> {
    logits().prop_flat_map(|logits| {
        let order = permutation(logits.len());
        (Just(logits), order)
    })
}

fn in_range(plan: &DrawPlan) -> Result<(), String> {
    let sampling = &plan.sampling;
    let holds =
        exact::in_range(sampling) && sampling.max_tokens > 0 && sampling.stop.iter().all(|stop| !stop.is_empty());
    ensure(holds, || format!("{sampling:?}"))
}

/// The parameters of one of an item's draws.
fn one_draw(sampler: &dyn Sampler, item: SamplerItem, which: prop::sample::Index) -> Result<Option<Sampling>, String> {
    let plans = only(sampler.plan(&[item]))?;
    if plans.is_empty() {
        return Ok(None);
    }
    Ok(plans.get(which.index(plans.len())).map(|plan| plan.sampling.clone()))
}

fn reshape(sampler: &dyn Sampler, row: &NextTokens) -> Result<Vec<f64>, String> {
    let probabilities = only(sampler.reshape(std::slice::from_ref(row)))?;
    equal("number of probabilities", &probabilities.len(), &row.tokens.len())?;
    Ok(probabilities)
}

fn adds_up(probabilities: &[f64]) -> Result<(), String> {
    let good = probabilities.iter().all(|probability| probability.is_finite() && *probability >= 0.0);
    let sum: f64 = probabilities.iter().sum();
    ensure(good && (sum - 1.0).abs() <= ROUNDING, || format!("{probabilities:?} sum to {sum}"))
}

/// What top-k, top-p and min-p declare, read the other way round: from what was kept.
fn nucleus(sampling: &Sampling, logits: &[f64], probabilities: &[f64]) -> Result<(), String> {
    let all = Sampling { top_p: 1.0, top_k: None, min_p: 0.0, ..sampling.clone() };
    let whole = exact::distribution(&all, logits);
    let kept = |index: &usize| probabilities[*index] > 0.0;
    let (inside, outside): (Vec<usize>, Vec<usize>) = (0..logits.len()).partition(kept);
    let least = inside.iter().map(|index| logits[*index]).fold(f64::INFINITY, f64::min);
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let above = |logit: f64| logits.iter().filter(|other| **other > logit).count();
    ensure(inside.iter().any(|index| logits[*index] == greatest), || "the most probable token is out".to_owned())?;
    for index in &outside {
        ensure(logits[*index] <= least || whole[*index] == 0.0, || {
            format!("{} is out, {least} is in", logits[*index])
        })?;
    }
    let most = whole.iter().copied().fold(0.0, f64::max);
    let in_top_k = |index: &usize| sampling.top_k.is_none_or(|k| above(logits[*index]) < k as usize);
    let mass: f64 = whole.iter().enumerate().filter(|(index, _)| in_top_k(index)).map(|(_, p)| p).sum();
    for index in &inside {
        ensure(in_top_k(index), || format!("{} is in, over top-k", logits[*index]))?;
        ensure(whole[*index] >= sampling.min_p * most * (1.0 - ROUNDING), || {
            format!("{} is in, under min-p", logits[*index])
        })?;
        let heavier: f64 =
            (0..logits.len()).filter(|other| logits[*other] > logits[*index]).map(|other| whole[other]).sum();
        ensure(heavier <= sampling.top_p * mass + ROUNDING || heavier == 0.0, || {
            format!("{} is in, but those before it are {heavier} of {mass} already", logits[*index])
        })?;
    }
    for index in outside.iter().filter(|index| whole[**index] > 0.0 && sampling.temperature > 0.0) {
        // Those kept before it reach top-p, or top-k or min-p took it.
        let before: f64 =
            inside.iter().filter(|other| logits[**other] >= logits[*index]).map(|other| whole[*other]).sum();
        let by_top_p = before >= sampling.top_p * mass - ROUNDING;
        let by_min_p = whole[*index] <= sampling.min_p * most * (1.0 + ROUNDING);
        ensure(!in_top_k(index) || by_top_p || by_min_p, || format!("{} is out for no reason", logits[*index]))?;
    }
    Ok(())
}

/// The same order, but so far apart that any temperature is as good as 0: what a temperature near 0 makes of them.
fn far_apart(logits: &[f64]) -> Vec<f64> {
    let mut sorted = logits.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    let place = |logit: &f64| sorted.iter().position(|other| other == logit).unwrap_or(0);
    logits.iter().map(|logit| 1e30 * (place(logit) as f64 - sorted.len() as f64)).collect()
}

/// The tokens with the highest logit, together, have everything.
fn takes_all(logits: &[f64], probabilities: &[f64]) -> Result<(), String> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let share: f64 = logits.iter().zip(probabilities).filter(|(logit, _)| **logit == highest).map(|(_, p)| p).sum();
    ensure((share - 1.0).abs() <= ROUNDING, || format!("the most probable token has {share}: {probabilities:?}"))
}

fn close(what: &str, found: &[f64], expected: &[f64]) -> Result<(), String> {
    let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= ROUNDING);
    ensure(same, || format!("{what}: found {found:?}, expected {expected:?}"))
}
