//! Laws of selectors.

use metareward_api::{Candidate, Kind, NoPair, PluginError, Selection, Selector, SelectorPromises};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    all_kinds::{self, ABOUT, PURE, TRACELESS},
    generators::{candidates, permutation},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, only},
};

const SIDES: &str = "chosen and rejected are two candidates, and the chosen one scores higher";
const LENGTHS: &str = "lengths are those of the candidates, in the selector's unit";
const EQUALS: &str = "equal scores give no pair, nor do fewer than two candidates";
const TIERS: &str = "chosen is the shortest of the upper tier, rejected the longest of the lower one";
const BEST_WORST: &str = "with rho 0 a best candidate meets a worst one";
const LIMIT: &str = "no chosen text is over the limit";
const ORDER: &str = "permuting the candidates changes nothing but the index";
const REFUSED: &str = "a score that is not finite is refused";
const LARGER_RHO: &str = "a larger rho never lengthens the chosen text nor shortens the rejected one";

pub(crate) const LAWS: &[&str] =
    &[ABOUT, SIDES, LENGTHS, EQUALS, TIERS, BEST_WORST, LIMIT, ORDER, REFUSED, PURE, TRACELESS];

/// Scores no further apart are equal.
const ROUNDING: f64 = 1e-9;

/// Checks all laws of selectors. What it promises ([`Selector::promises`]) is checked, and nothing else of that.
pub fn check_selector(selector: &dyn Selector, plan: Plan) -> Vec<LawOutcome> {
    let promises = selector.promises().unwrap_or_default();
    let no_rho = "the selector promises no rho";
    vec![
        all_kinds::about(plan, Kind::Selector, selector, || {
            unit(selector)?;
            Ok(sensible(selector.promises()?)?)
        }),
        law(SIDES, plan, candidates(), |group| {
            let Ok(selection) = pick(selector, &group)? else { return Ok(()) };
            let (chosen, rejected) = sides(&group, &selection)?;
            ensure(selection.chosen != selection.rejected, || format!("{selection:?}"))?;
            ensure(chosen.score > rejected.score, || format!("{chosen:?} chosen over {rejected:?}"))
        }),
        law(LENGTHS, plan, candidates(), |group| {
            let Ok(selection) = pick(selector, &group)? else { return Ok(()) };
            let (chosen, rejected) = sides(&group, &selection)?;
            equal("length of chosen", &selection.chosen_length, &length(selector, chosen)?)?;
            equal("length of rejected", &selection.rejected_length, &length(selector, rejected)?)
        }),
        law(EQUALS, plan, (candidates(), select(vec![0.0, 5.0, 1e3 / 3.0])), |(mut group, score)| {
            for candidate in &mut group {
                candidate.score = score;
            }
            let found = pick(selector, &group)?;
            ensure(found.is_err(), || format!("{found:?}"))?;
            group.truncate(1);
            equal("selection from one at most", &pick(selector, &group)?, &Err(NoPair::TooFewCandidates))
        }),
        match promises.rho {
            Some(rho) => law(TIERS, plan, candidates(), |group| in_tiers(selector, &group, rho)),
            None => LawOutcome::not_checked(TIERS, plan, no_rho),
        },
        match promises.rho {
            Some(0.0) => law(BEST_WORST, plan, candidates(), |group| best_against_worst(selector, &group)),
            Some(_) => LawOutcome::not_checked(BEST_WORST, plan, "the selector's rho is another one"),
            None => LawOutcome::not_checked(BEST_WORST, plan, no_rho),
        },
        match promises.max_chosen_length {
            Some(most) => law(LIMIT, plan, candidates(), |group| match pick(selector, &group)? {
                Ok(selection) => ensure(selection.chosen_length <= most, || format!("{selection:?}")),
                Err(_) => Ok(()),
            }),
            None => LawOutcome::not_checked(LIMIT, plan, "the selector promises no limit"),
        },
        if promises.ignores_order {
            let permuted = candidates().prop_flat_map(|group| (permutation(group.len()), Just(group)));
            law(ORDER, plan, permuted, |(order, group)| permutes(selector, &group, &order))
        } else {
            LawOutcome::not_checked(ORDER, plan, "the selector says that order matters")
        },
        law(REFUSED, plan, spoiled(), |group| {
            ensure(selector.select(&[group]).is_err(), || "it was accepted".to_owned())
        }),
        all_kinds::pure(plan, vec(candidates(), 0..4), |groups| selector.select(groups)),
        all_kinds::traceless(
            plan,
            vec(candidates(), 0..4),
            prop_oneof![candidates(), spoiled()].prop_map(|group| vec![group]),
            |groups| selector.select(groups),
        ),
    ]
}

/// Checks what ties selectors of different rho together: a larger rho never lengthens the chosen text, and rho 0 is best
/// against worst. `make` makes the selector with a rho and without a length limit.
pub fn check_selector_family(
    make: &dyn Fn(f64) -> Result<Box<dyn Selector>, PluginError>,
    plan: Plan,
) -> Vec<LawOutcome> {
    let rho = || (0u32..=100).prop_map(|hundredths| f64::from(hundredths) / 100.0);
    vec![
        law(LARGER_RHO, plan, (candidates(), rho(), rho()), |(group, a, b)| {
            let (smaller, larger) = (make(a.min(b)).map_err(failed)?, make(a.max(b)).map_err(failed)?);
            let (Ok(before), Ok(after)) = (pick(&*smaller, &group)?, pick(&*larger, &group)?) else { return Ok(()) };
            let holds = after.chosen_length <= before.chosen_length && after.rejected_length >= before.rejected_length;
            ensure(holds, || format!("{before:?} became {after:?}"))
        }),
        law(BEST_WORST, plan, candidates(), |group| best_against_worst(&*make(0.0).map_err(failed)?, &group)),
    ]
}

/// A group with one score that is not finite.
pub(crate) fn spoiled() -> impl Strategy<Value = Vec<Candidate>> {
    let bad = select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    (candidates(), any::<prop::sample::Index>(), bad).prop_map(|(mut group, place, score)| {
        group.insert(place.index(group.len() + 1), Candidate { score, characters: 1, tokens: 1, tie_break: 0 });
        group
    })
}

fn sensible(promises: SelectorPromises) -> Result<(), String> {
    ensure(promises.rho.is_none_or(|rho| (0.0..=1.0).contains(&rho)), || format!("{promises:?}"))
}

fn pick(selector: &dyn Selector, group: &Vec<Candidate>) -> Result<Result<Selection, NoPair>, String> {
    only(selector.select(std::slice::from_ref(group)))
}

fn sides<'a>(group: &'a [Candidate], selection: &Selection) -> Result<(&'a Candidate, &'a Candidate), String> {
    let side = |index: u32| group.get(index as usize).ok_or(format!("candidate {index} of {}", group.len()));
    Ok((side(selection.chosen)?, side(selection.rejected)?))
}

/// Whether lengths are in tokens.
fn unit(selector: &dyn Selector) -> Result<bool, String> {
    match selector.length_unit().map_err(failed)?.as_str() {
        "characters" => Ok(false),
        "tokens" => Ok(true),
        other => Err(format!("unknown unit {other:?}")),
    }
}

fn length(selector: &dyn Selector, candidate: &Candidate) -> Result<u32, String> {
    Ok(if unit(selector)? { candidate.tokens } else { candidate.characters })
}

/// Highest and lowest score.
fn ends(group: &[Candidate]) -> (f64, f64) {
    let scores = || group.iter().map(|candidate| candidate.score);
    (scores().fold(f64::NEG_INFINITY, f64::max), scores().fold(f64::INFINITY, f64::min))
}

fn best_against_worst(selector: &dyn Selector, group: &Vec<Candidate>) -> Result<(), String> {
    let Ok(selection) = pick(selector, group)? else { return Ok(()) };
    let (chosen, rejected) = sides(group, &selection)?;
    equal("scores of chosen and rejected", &(chosen.score, rejected.score), &ends(group))
}

fn in_tiers(selector: &dyn Selector, group: &Vec<Candidate>, rho: f64) -> Result<(), String> {
    let Ok(selection) = pick(selector, group)? else { return Ok(()) };
    let (chosen, rejected) = sides(group, &selection)?;
    let (best, worst) = ends(group);
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
    let before = named(group, pick(selector, group)?)?;
    let after = named(&permuted, pick(selector, &permuted)?)?;
    equal("selection of the permuted candidates", &after, &before)
}
