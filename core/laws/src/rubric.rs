//! Laws of rubrics.

use metareward_api::{Rubric, RubricItem, Unreadable};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    generators::{text, words},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near, only, pure_law},
    place::{break_out, conversation, inserted},
};

/// Checks all laws of rubrics.
pub fn check_rubric(rubric: &dyn Rubric, plan: Plan) -> Vec<LawOutcome> {
    let scale = match rubric.scale() {
        Ok(scale) => scale,
        Err(error) => return vec![law("the scale is a range", plan, Just(()), |()| Err(failed(error.clone())))],
    };
    let (min, max) = (scale.min, scale.max);
    // Ends, quarters and whole points of the scale.
    let score = || (0u32..=20).prop_map(move |part| min + (max - min) * f64::from(part) / 20.0);
    let off = || select(vec![min - 1.0, max + 1.0, max + 0.25, max * 100.0 + 1.0]);
    let has_closing = matches!(rubric.closing_line(max), Ok(Some(_)));
    let closing = |law_: &'static str, check: &dyn Fn(&'static str) -> LawOutcome| {
        if has_closing { check(law_) } else { LawOutcome::not_checked(law_, plan, "the rubric states no closing line") }
    };
    let line = |score: f64| -> Result<String, String> {
        rubric.closing_line(score).map_err(failed)?.ok_or("no closing line".to_owned())
    };
    vec![
        law("the scale is a range", plan, Just(()), |()| {
            ensure(min.is_finite() && max.is_finite() && min < max, || format!("{scale:?}"))
        }),
        law(
            "question and response are both in what the judge is asked, as they are",
            plan,
            (words(), words()),
            |(a, b)| {
                let (prompt, response) = (format!("first {a} end"), format!("second {b} end"));
                let asked = conversation(rubric.render(&[RubricItem { prompt: &prompt, response: &response }]))?;
                ensure(asked.contains(&prompt) && asked.contains(&response), || asked.clone())
            },
        ),
        law("a response cannot end its place in what the judge is asked", plan, (text(), text()), |(before, after)| {
            let render =
                |response: &str| conversation(rubric.render(&[RubricItem { prompt: "what is asked", response }]));
            inserted(&render, &break_out(&render, &before, &after)?)
        }),
        law("a question cannot end its place in what the judge is asked", plan, (text(), text()), |(before, after)| {
            let render =
                |prompt: &str| conversation(rubric.render(&[RubricItem { prompt, response: "what is answered" }]));
            inserted(&render, &break_out(&render, &before, &after)?)
        }),
        closing("a well-formed judgment parses back to its score", &|words_| {
            law(words_, plan, (words(), score()), |(reasons, score)| {
                let judgment = format!("{reasons}\n{}", line(score)?);
                let found = only(rubric.parse(&[&judgment]))?;
                let found = found.map_err(|why| format!("{why}: {judgment:?}"))?;
                near("score", found, score, 1e-9)
            })
        }),
        closing("a score off the scale is refused", &|words_| {
            law(words_, plan, (words(), off()), |(reasons, score)| {
                let judgment = format!("{reasons}\n{}", line(score)?);
                equal("score", &only(rubric.parse(&[&judgment]))?, &Err(Unreadable::OffScale))
            })
        }),
        law("a judgment without a closing line has no score", plan, words(), |judgment| {
            equal("score", &only(rubric.parse(&[&judgment]))?, &Err(Unreadable::Missing))
        }),
        closing("a score that the judgment quotes never replaces the judge's own", &|words_| {
            law(words_, plan, (words(), score(), score()), |(reasons, quoted, own)| {
                let judgment = format!("the response says \"{}\"\n{reasons}\n{}", line(quoted)?, line(own)?);
                match only(rubric.parse(&[&judgment]))? {
                    Ok(found) => near("score", found, own, 1e-9),
                    Err(_) => Ok(()),
                }
            })
        }),
        law("whatever a judge writes, a score is on the scale", plan, text(), |judgment| {
            let with_line = format!("{judgment}{}", line(max).unwrap_or_default());
            for judgment in [judgment, with_line] {
                if let Ok(score) = only(rubric.parse(&[&judgment]))? {
                    ensure(scale.contains(score), || format!("{score} from {judgment:?}"))?;
                }
            }
            Ok(())
        }),
        law("the reward lies between the least and the greatest score", plan, vec(score(), 0..12), |scores| {
            let reward = only(rubric.aggregate(std::slice::from_ref(&scores)))?;
            let Some(reward) = reward else { return Ok(()) };
            ensure(!scores.is_empty(), || format!("reward {reward} from no scores"))?;
            let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            ensure(reward >= least && reward <= greatest, || format!("reward {reward}"))
        }),
        law(
            "a higher score never lowers the reward",
            plan,
            (vec(score(), 1..12), any::<prop::sample::Index>()),
            |(scores, which)| {
                let mut raised = scores.clone();
                raised[which.index(scores.len())] = max;
                let before = only(rubric.aggregate(&[scores]))?;
                let after = only(rubric.aggregate(&[raised]))?;
                let fell = matches!((before, after), (Some(before), Some(after)) if after < before - 1e-12);
                ensure(!fell && before.is_some() == after.is_some(), || format!("{before:?} became {after:?}"))
            },
        ),
        pure_law(plan, vec((text(), text()), 0..4), |pairs| {
            let items: Vec<RubricItem<'_>> =
                pairs.iter().map(|(prompt, response)| RubricItem { prompt, response }).collect();
            let texts: Vec<&str> = pairs.iter().map(|(_, text)| text.as_str()).collect();
            Ok(rubric.render(&items)?.into_iter().zip(rubric.parse(&texts)?).collect::<Vec<_>>())
        }),
    ]
}
