//! Laws of rubrics.

use metareward_api::{Kind, PluginError, Rubric, RubricItem, Scale, Unreadable};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    all_kinds::{self, ABOUT, PURE, TRACELESS},
    generators::{text, words},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near, only},
    place::{break_out, conversation, inserted},
};

const RANGE: &str = "the scale is a range";
const SHOWN: &str = "question and response are both in what the judge is asked, as they are";
const OPPONENT: &str = "another answer is shown after the response where the rubric compares, and nowhere else";
const RESPONSE_PLACE: &str = "a response cannot end its place in what the judge is asked";
const OPPONENT_PLACE: &str = "another answer cannot end its place in what the judge is asked";
const QUESTION_PLACE: &str = "a question cannot end its place in what the judge is asked";
const BACK: &str = "a well-formed judgment parses back to its score";
const OFF_SCALE: &str = "a score off the scale is refused";
const MISSING: &str = "a judgment without a closing line has no score";
const QUOTED: &str = "a score that the judgment quotes never replaces the judge's own";
const ON_SCALE: &str = "whatever a judge writes, a score is on the scale";
const BETWEEN: &str = "the reward lies between the least and the greatest score";
const MONOTONE: &str = "a higher score never lowers the reward";

pub(crate) const LAWS: &[&str] = &[
    ABOUT,
    RANGE,
    SHOWN,
    OPPONENT,
    RESPONSE_PLACE,
    OPPONENT_PLACE,
    QUESTION_PLACE,
    BACK,
    OFF_SCALE,
    MISSING,
    QUOTED,
    ON_SCALE,
    BETWEEN,
    MONOTONE,
    PURE,
    TRACELESS,
];

/// Checks all laws of rubrics. Where a rubric compares ([`Rubric::compares`]), every item has an opponent.
pub fn check_rubric(rubric: &dyn Rubric, plan: Plan) -> Vec<LawOutcome> {
    let compares = rubric.compares().unwrap_or(false);
    let scale = rubric.scale().ok().filter(is_range);
    let Scale { min, max } = scale.unwrap_or(Scale { min: 0.0, max: 1.0 });
    let lines = ClosingLines::of(rubric, min, max);
    let item = Item { rubric, compares };
    // Ends, quarters and whole points of the scale.
    let score = || (0u32..=20).prop_map(move |part| at(min, max, part));
    let with_scale = |words: &'static str, check: &dyn Fn() -> LawOutcome| match scale {
        Some(_) => check(),
        None => LawOutcome::not_checked(words, plan, "the rubric has no scale"),
    };
    let no_line = "the rubric states no closing line";
    let with_lines = |words: &'static str, scores: &[f64], check: &dyn Fn(Vec<f64>) -> LawOutcome| {
        with_scale(words, &|| {
            if scores.is_empty() { LawOutcome::not_checked(words, plan, no_line) } else { check(scores.to_vec()) }
        })
    };
    vec![
        all_kinds::about(plan, Kind::Rubric, rubric, || {
            rubric.compares()?;
            rubric.criteria()?;
            rubric.closing_line(max)?;
            Ok(())
        }),
        law(RANGE, Plan { cases: 1, ..plan }, Just(()), |()| {
            let scale = rubric.scale().map_err(failed)?;
            ensure(is_range(&scale), || format!("{scale:?}"))
        }),
        law(SHOWN, plan, (words(), words()), |(a, b)| {
            let (prompt, response) = (format!("first {a} end"), format!("second {b} end"));
            let asked = item.ask(&prompt, &response, OTHER)?;
            ensure(asked.contains(&prompt) && asked.contains(&response), || asked.clone())
        }),
        law(OPPONENT, plan, (words(), words()), |(a, b)| {
            let (response, opponent) = (format!("one {a} end"), format!("two {b} end"));
            if !compares {
                let ask = |opponent| {
                    conversation(rubric.render(&[RubricItem { prompt: QUESTION, response: &response, opponent }]))
                };
                return equal("with another answer that was not asked for", &ask(Some(&opponent))?, &ask(None)?);
            }
            let asked = item.ask(QUESTION, &response, &opponent)?;
            let place = |text: &str| asked.find(text).ok_or(format!("{text:?} is missing in {asked:?}"));
            ensure(place(&response)? < place(&opponent)?, || "the other answer comes first".to_owned())
        }),
        place_law(RESPONSE_PLACE, plan, &lines, &|response| item.ask(QUESTION, response, OTHER)),
        if compares {
            place_law(OPPONENT_PLACE, plan, &lines, &|opponent| item.ask(QUESTION, ANSWER, opponent))
        } else {
            LawOutcome::not_checked(OPPONENT_PLACE, plan, "the rubric compares nothing")
        },
        place_law(QUESTION_PLACE, plan, &lines, &|prompt| item.ask(prompt, ANSWER, OTHER)),
        with_lines(BACK, &lines.on_scale, &|stated| {
            law(BACK, plan, (words(), select(stated)), |(reasons, score)| {
                let judgment = format!("{reasons}\n{}", line(rubric, score)?);
                let found = only(rubric.parse(&[&judgment]))?;
                near("score", found.map_err(|why| format!("{why}: {judgment:?}"))?, score, 1e-9)
            })
        }),
        with_lines(OFF_SCALE, &lines.off_scale, &|stated| {
            law(OFF_SCALE, plan, (words(), select(stated)), |(reasons, score)| {
                let judgment = format!("{reasons}\n{}", line(rubric, score)?);
                let found = only(rubric.parse(&[&judgment]))?;
                ensure(found.is_err(), || format!("{found:?} from {judgment:?}"))
            })
        }),
        law(MISSING, plan, words(), |judgment| {
            equal("score", &only(rubric.parse(&[&judgment]))?, &Err(Unreadable::Missing))
        }),
        with_lines(QUOTED, &lines.on_scale, &|stated| {
            law(QUOTED, plan, (words(), select(stated.clone()), select(stated)), |(reasons, quoted, own)| {
                let (quoted, last) = (line(rubric, quoted)?, line(rubric, own)?);
                let judgment = format!("the response says \"{quoted}\"\n{reasons}\n{last}");
                match only(rubric.parse(&[&judgment]))? {
                    Ok(found) => near("score", found, own, 1e-9),
                    Err(_) => Ok(()),
                }
            })
        }),
        with_scale(ON_SCALE, &|| {
            let endings = select(lines.written.clone());
            law(ON_SCALE, plan, (text(), endings, text()), |(judgment, ending, after)| {
                for judgment in
                    [judgment.clone(), format!("{judgment}{ending}"), format!("{judgment}\n{ending}{after}")]
                {
                    if let Ok(score) = only(rubric.parse(&[&judgment]))? {
                        ensure(score >= min && score <= max, || format!("{score} from {judgment:?}"))?;
                    }
                }
                Ok(())
            })
        }),
        with_scale(BETWEEN, &|| {
            law(BETWEEN, plan, vec(score(), 0..12), |scores| {
                let Some(reward) = only(rubric.aggregate(std::slice::from_ref(&scores)))? else { return Ok(()) };
                ensure(!scores.is_empty(), || format!("reward {reward} from no scores"))?;
                let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
                let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                ensure(reward >= least && reward <= greatest, || format!("reward {reward}"))
            })
        }),
        with_scale(MONOTONE, &|| {
            law(MONOTONE, plan, (vec(score(), 1..12), any::<prop::sample::Index>(), score()), |(scores, which, to)| {
                let mut raised = scores.clone();
                let place = which.index(scores.len());
                raised[place] = scores[place].max(to);
                let before = only(rubric.aggregate(&[scores]))?;
                let after = only(rubric.aggregate(&[raised]))?;
                let fell = matches!((before, after), (Some(before), Some(after)) if after < before - 1e-12);
                ensure(!fell && before.is_some() == after.is_some(), || format!("{before:?} became {after:?}"))
            })
        }),
        all_kinds::pure(plan, vec((text(), text(), vec(score(), 0..4)), 0..4), |items| item.all_calls(items)),
        all_kinds::traceless(
            plan,
            vec((text(), text(), vec(score(), 0..4)), 0..4),
            vec((text(), text(), vec(prop_oneof![score(), Just(f64::NAN)], 0..4)), 0..4),
            |items| item.all_calls(items),
        ),
    ]
}

const QUESTION: &str = "what is asked";
const ANSWER: &str = "what is answered";
const OTHER: &str = "what another answered";

/// A rubric and whether its items have an opponent.
#[derive(Clone, Copy)]
struct Item<'a> {
    rubric: &'a dyn Rubric,
    compares: bool,
}

impl Item<'_> {
    /// What the judge is asked.
    fn ask(self, prompt: &str, response: &str, opponent: &str) -> Result<String, String> {
        let opponent = self.compares.then_some(opponent);
        conversation(self.rubric.render(&[RubricItem { prompt, response, opponent }]))
    }

    /// What rendering, parsing and aggregating make of these texts and scores.
    fn all_calls(self, items: &[(String, String, Vec<f64>)]) -> Result<Vec<impl std::fmt::Debug + use<>>, PluginError> {
        let shown: Vec<RubricItem<'_>> = items
            .iter()
            .map(|(prompt, response, _)| RubricItem { prompt, response, opponent: self.compares.then_some(OTHER) })
            .collect();
        let texts: Vec<&str> = items.iter().map(|(_, text, _)| text.as_str()).collect();
        let scores: Vec<Vec<f64>> = items.iter().map(|(_, _, scores)| scores.clone()).collect();
        let answers = self.rubric.render(&shown)?.into_iter().zip(self.rubric.parse(&texts)?);
        Ok(answers.zip(self.rubric.aggregate(&scores)?).collect())
    }
}

/// Which scores the rubric has closing lines for.
struct ClosingLines {
    on_scale: Vec<f64>,
    off_scale: Vec<f64>,
    /// The lines themselves, and an empty text.
    written: Vec<String>,
}

impl ClosingLines {
    fn of(rubric: &dyn Rubric, min: f64, max: f64) -> Self {
        let stated = |scores: Vec<f64>| -> Vec<f64> {
            scores.into_iter().filter(|score| line(rubric, *score).is_ok()).collect()
        };
        let on_scale = stated((0..=20).map(|part| at(min, max, part)).collect());
        let off_scale = stated(vec![min - 1.0, max + 1.0, max + 0.25, max.abs() * 100.0 + 1.0]);
        let lines = on_scale.iter().chain(&off_scale).filter_map(|score| line(rubric, *score).ok());
        let written = std::iter::once(String::new()).chain(lines).collect();
        Self { on_scale, off_scale, written }
    }
}

/// One of twenty-one points of the scale, ends included.
fn at(min: f64, max: f64, part: u32) -> f64 {
    if part == 20 { max } else { min + (max - min) * f64::from(part) / 20.0 }
}

fn is_range(scale: &Scale) -> bool {
    scale.min.is_finite() && scale.max.is_finite() && scale.min < scale.max
}

fn line(rubric: &dyn Rubric, score: f64) -> Result<String, String> {
    rubric.closing_line(score).map_err(failed)?.ok_or("no closing line".to_owned())
}

/// A text that holds closing lines and what ends its own place still ends neither.
fn place_law(
    words: &'static str,
    plan: Plan,
    lines: &ClosingLines,
    ask: &dyn Fn(&str) -> Result<String, String>,
) -> LawOutcome {
    law(words, plan, (text(), text(), select(lines.written.clone())), |(before, after, line)| {
        inserted(ask, &break_out(ask, &format!("{before}\n{line}"), &format!("{line}\n{after}"))?)
    })
}
