//! Laws of selectors.

use metareward_api::{Candidate, NoPair, PluginError, Selection, Selector};
use proptest::{collection::vec, prelude::*};

use crate::{
    generators::{candidates, permutation},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, only, pure_law},
};

/// What not every honest selector promises.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SelectorPromises {
    /// The tiers of the paper's section 2, step 4, with this rho: chosen is the shortest of the upper one, rejected
    /// the longest of the lower one.
    pub rho: Option<f64>,
    /// No chosen text is longer than this.
    pub max_chosen_length: Option<u32>,
    /// Permuting the candidates changes nothing but the index.
    pub ignores_order: bool,
}

/// Scores no further apart are equal.
const ROUNDING: f64 = 1e-9;

/// Checks all laws of selectors.
pub fn check_selector(selector: &dyn Selector, promises: SelectorPromises, plan: Plan) -> Vec<LawOutcome> {
    let tiers = "chosen is the shortest of the upper tier, rejected the longest of the lower one";
    let limit = "no chosen text is over the limit";
    let order = "permuting the candidates changes nothing but the index";
    vec![
        law("chosen and rejected are two candidates, and the chosen one scores higher", plan, candidates(), |group| {
            let Ok(selection) = select(selector, &group)? else { return Ok(()) };
            let (chosen, rejected) = sides(&group, &selection)?;
            ensure(selection.chosen != selection.rejected, || format!("{selection:?}"))?;
            ensure(chosen.score > rejected.score, || format!("{chosen:?} chosen over {rejected:?}"))
        }),
        law("lengths are those of the candidates, in the selector's unit", plan, candidates(), |group| {
            let Ok(selection) = select(selector, &group)? else { return Ok(()) };
            let (chosen, rejected) = sides(&group, &selection)?;
            equal("length of chosen", &selection.chosen_length, &length(selector, chosen)?)?;
            equal("length of rejected", &selection.rejected_length, &length(selector, rejected)?)
        }),
        law(
            "equal scores give no pair, nor do fewer than two candidates",
            plan,
            (candidates(), prop::sample::select(vec![0.0, 5.0, 1e3 / 3.0])),
            |(mut group, score)| {
                for candidate in &mut group {
                    candidate.score = score;
                }
                let expected = if group.len() < 2 { NoPair::TooFewCandidates } else { NoPair::EqualScores };
                equal("selection", &select(selector, &group)?, &Err(expected))
            },
        ),
        match promises.rho {
            Some(rho) => law(tiers, plan, candidates(), |group| in_tiers(selector, &group, rho)),
            None => LawOutcome::not_checked(tiers, plan, "the selector promises no rho"),
        },
        match promises.max_chosen_length {
            Some(limit_length) => law(limit, plan, candidates(), |group| match select(selector, &group)? {
                Ok(selection) => ensure(selection.chosen_length <= limit_length, || format!("{selection:?}")),
                Err(_) => Ok(()),
            }),
            None => LawOutcome::not_checked(limit, plan, "the selector promises no limit"),
        },
        if promises.ignores_order {
            let permuted = candidates().prop_flat_map(|group| (permutation(group.len()), Just(group)));
            law(order, plan, permuted, |(order, group)| permutes(selector, &group, &order))
        } else {
            LawOutcome::not_checked(order, plan, "the selector says that order matters")
        },
        law(
            "a score that is not finite is refused",
            plan,
            (candidates(), prop::sample::select(vec![f64::NAN, f64::INFINITY])),
            |(mut group, bad)| {
                let Some(last) = group.last_mut() else { return Ok(()) };
                last.score = bad;
                ensure(selector.select(&[group]).is_err(), || format!("{bad} was accepted"))
            },
        ),
        pure_law(plan, vec(candidates(), 0..4), |groups| selector.select(groups)),
    ]
}

/// Checks that a larger rho never lengthens the chosen text nor shortens the rejected one. `make` makes the
/// selector with a rho and without a length limit.
pub fn check_selector_family(
    make: &dyn Fn(f64) -> Result<Box<dyn Selector>, PluginError>,
    plan: Plan,
) -> Vec<LawOutcome> {
    let rho = || (0u32..=100).prop_map(|hundredths| f64::from(hundredths) / 100.0);
    let words = "a larger rho never lengthens the chosen text nor shortens the rejected one";
    vec![law(words, plan, (candidates(), rho(), rho()), |(group, a, b)| {
        let (smaller, larger) = (make(a.min(b)).map_err(failed)?, make(a.max(b)).map_err(failed)?);
        let (Ok(before), Ok(after)) = (select(&*smaller, &group)?, select(&*larger, &group)?) else { return Ok(()) };
        let holds = after.chosen_length <= before.chosen_length && after.rejected_length >= before.rejected_length;
        ensure(holds, || format!("{before:?} became {after:?}"))
    })]
}

fn select(selector: &dyn Selector, group: &Vec<Candidate>) -> Result<Result<Selection, NoPair>, String> {
    only(selector.select(std::slice::from_ref(group)))
}

fn sides<'a>(group: &'a [Candidate], selection: &Selection) -> Result<(&'a Candidate, &'a Candidate), String> {
    let side = |index: u32| group.get(index as usize).ok_or(format!("candidate {index} of {}", group.len()));
    Ok((side(selection.chosen)?, side(selection.rejected)?))
}

fn length(selector: &dyn Selector, candidate: &Candidate) -> Result<u32, String> {
    match selector.length_unit().map_err(failed)?.as_str() {
        "characters" => Ok(candidate.characters),
        "tokens" => Ok(candidate.tokens),
        other => Err(format!("unknown unit {other:?}")),
    }
}

fn in_tiers(selector: &dyn Selector, group: &Vec<Candidate>, rho: f64) -> Result<(), String> {
    let Ok(selection) = select(selector, group)? else { return Ok(()) };
    let (chosen, rejected) = sides(group, &selection)?;
    let best = group.iter().map(|candidate| candidate.score).fold(f64::NEG_INFINITY, f64::max);
    let worst = group.iter().map(|candidate| candidate.score).fold(f64::INFINITY, f64::min);
    let floor = (1.0 - rho) * best + rho * worst;
    let ceiling = (1.0 - rho) * worst + rho * best;
    ensure(chosen.score >= floor - ROUNDING, || format!("chosen scores {}, below {floor}", chosen.score))?;
    ensure(rejected.score <= ceiling + ROUNDING, || format!("rejected scores {}, above {ceiling}", rejected.score))?;
    for candidate in group {
        let candidate_length = length(selector, candidate)?;
        ensure(candidate.score < floor + ROUNDING || candidate_length >= selection.chosen_length, || {
            format!("{candidate:?} is in the upper tier and shorter than the chosen {chosen:?}")
        })?;
        ensure(candidate.score > ceiling - ROUNDING || candidate_length <= selection.rejected_length, || {
            format!("{candidate:?} is in the lower tier and longer than the rejected {rejected:?}")
        })?;
    }
    Ok(())
}

fn permutes(selector: &dyn Selector, group: &Vec<Candidate>, order: &[usize]) -> Result<(), String> {
    let permuted: Vec<Candidate> = order.iter().filter_map(|index| group.get(*index).cloned()).collect();
    let named = |group: &[Candidate], selection: Result<Selection, NoPair>| match selection {
        Ok(selection) => sides(group, &selection).map(|(chosen, rejected)| Ok((chosen.clone(), rejected.clone()))),
        Err(reason) => Ok(Err(reason)),
    };
    let before = named(group, select(selector, group)?)?;
    let after = named(&permuted, select(selector, &permuted)?)?;
    equal("selection of the permuted candidates", &after, &before)
}
