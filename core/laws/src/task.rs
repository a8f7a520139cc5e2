//! Laws of tasks.

use std::collections::BTreeSet;

use metareward_api::{Kind, MetaJudge, PluginError, Prompt, PromptId, Rubric, Scale, Task};
use proptest::prelude::*;

use crate::{
    all_kinds::{self, ABOUT, TRACELESS},
    generators::text,
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near},
};

const DISTINCT: &str = "prompts are distinct, filled, and no more than asked for";
const BEGINS: &str = "the same seed gives the same, and a longer list begins with the shorter one";
const FILLED: &str = "examples are filled, and no more than asked for";
const ON_SCALE: &str = "the oracle stays on the scale, whatever the response";
const ALONE: &str = "the oracle says the same of every item alone";
const FULL: &str = "a perfect answer has full points";
const JUDGMENTS: &str = "judgments to learn from are read by the rubric";
const VERDICTS: &str = "verdicts to learn from are read by the meta-judge";

pub(crate) const LAWS: &[&str] = &[ABOUT, DISTINCT, BEGINS, FILLED, ON_SCALE, ALONE, FULL, TRACELESS];

/// Checks all laws of tasks.
pub fn check_task(task: &dyn Task, plan: Plan) -> Vec<LawOutcome> {
    let scale = task.oracle_scale().ok().flatten();
    let oracle = match task.prompts(0, 1).and_then(|prompts| task.oracle(&first_words(&prompts))) {
        Ok(points) => points.is_some(),
        // The laws below say what fails.
        Err(_) => true,
    };
    let perfect = match task.prompts(0, 1).and_then(|prompts| task.perfect_answers(&prompts.iter().collect::<Vec<_>>()))
    {
        Ok(answers) => answers.is_some(),
        Err(_) => true,
    };
    let with_oracle = |words: &'static str, needed: Option<&str>, check: &dyn Fn() -> LawOutcome| match needed {
        _ if !oracle => LawOutcome::not_checked(words, plan, "the task has no oracle"),
        Some(missing) => LawOutcome::not_checked(words, plan, missing),
        None => check(),
    };
    let no_scale = scale.is_none().then_some("the task does not say the oracle's scale");
    let no_perfect = (!perfect).then_some("the task makes no perfect answers");
    let Scale { min, max } = scale.unwrap_or(Scale { min: 0.0, max: 0.0 });
    vec![
        all_kinds::about(plan, Kind::Task, task, || {
            let scale = task.oracle_scale()?;
            let range = |scale: &Scale| scale.min.is_finite() && scale.max.is_finite() && scale.min < scale.max;
            Ok(ensure(scale.as_ref().is_none_or(range), || format!("{scale:?}"))?)
        }),
        law(DISTINCT, plan, ask(), |(seed, n)| {
            let prompts = task.prompts(seed, n).map_err(failed)?;
            ensure(prompts.len() <= n as usize, || format!("{} prompts for {n}", prompts.len()))?;
            let ids: BTreeSet<&PromptId> = prompts.iter().map(|prompt| &prompt.id).collect();
            let texts: BTreeSet<(&str, Option<&str>)> =
                prompts.iter().map(|prompt| (prompt.text.as_str(), prompt.system.as_deref())).collect();
            equal("distinct ids", &ids.len(), &prompts.len())?;
            equal("distinct prompts", &texts.len(), &prompts.len())?;
            ensure(prompts.iter().all(|prompt| filled(&[&prompt.id.0, &prompt.text])), || format!("{prompts:?}"))
        }),
        law(BEGINS, plan, ask(), |(seed, n)| {
            equal("prompts, asked for again", &task.prompts(seed, n), &task.prompts(seed, n))?;
            begins("prompts", &task.prompts(seed, n), &task.prompts(seed, n + 3))?;
            begins("demonstrations", &task.demonstrations(seed, n), &task.demonstrations(seed, n + 3))?;
            begins("judge examples", &task.judge_examples(seed, n), &task.judge_examples(seed, n + 3))?;
            begins("meta examples", &task.meta_examples(seed, n), &task.meta_examples(seed, n + 3))
        }),
        law(FILLED, plan, ask(), |(seed, n)| {
            let demonstrations = task.demonstrations(seed, n).map_err(failed)?;
            let judge = task.judge_examples(seed, n).map_err(failed)?;
            let meta = task.meta_examples(seed, n).map_err(failed)?;
            let most = [demonstrations.len(), judge.len(), meta.len()];
            ensure(most.iter().all(|count| *count <= n as usize), || format!("{most:?} examples for {n}"))?;
            let good = demonstrations.iter().all(|one| filled(&[&one.prompt.id.0, &one.prompt.text, &one.response]))
                && judge.iter().all(|one| filled(&[&one.prompt, &one.judgment]))
                && meta.iter().all(|one| filled(&[&one.prompt, &one.first, &one.second, &one.verdict]));
            ensure(good, || "an example with an empty text".to_owned())
        }),
        with_oracle(ON_SCALE, no_scale, &|| {
            law(ON_SCALE, plan, (any::<u64>(), text(), text()), |(seed, first, second)| {
                let prompts = task.prompts(seed, 2).map_err(failed)?;
                let items: Vec<(&Prompt, &str)> = prompts.iter().zip([first.as_str(), second.as_str()]).collect();
                let mut points = points(task, &items)?;
                // Answers that look like answers: those to learn from.
                for one in task.demonstrations(seed, 1).map_err(failed)? {
                    points.extend(self::points(task, &[(&one.prompt, &one.response)])?);
                }
                ensure(points.iter().all(|value| *value >= min && *value <= max), || format!("{points:?}"))
            })
        }),
        with_oracle(ALONE, None, &|| {
            law(ALONE, plan, (any::<u64>(), text(), text()), |(seed, first, second)| {
                let prompts = task.prompts(seed, 2).map_err(failed)?;
                let items: Vec<(&Prompt, &str)> = prompts.iter().zip([first.as_str(), second.as_str()]).collect();
                for (item, expected) in items.iter().zip(&points(task, &items)?) {
                    equal("points of one item alone", &points(task, &[*item])?, &vec![*expected])?;
                }
                Ok(())
            })
        }),
        with_oracle(FULL, no_perfect.or(no_scale), &|| {
            law(FULL, plan, any::<u64>(), |seed| {
                let prompts = task.prompts(seed, 3).map_err(failed)?;
                let asked: Vec<&Prompt> = prompts.iter().collect();
                let answers = task.perfect_answers(&asked).map_err(failed)?.ok_or("the perfect answers are gone")?;
                equal("number of perfect answers", &answers.len(), &prompts.len())?;
                for (prompt, answer) in prompts.iter().zip(&answers) {
                    for value in points(task, &[(prompt, answer)])? {
                        near(&format!("points of {answer:?} to {:?}", prompt.text), value, max, 1e-12)?;
                    }
                }
                Ok(())
            })
        }),
        all_kinds::traceless(plan, (ask(), text()), (ask(), text()), |((seed, n), answer)| {
            let prompts = task.prompts(*seed, *n)?;
            let items: Vec<(&Prompt, &str)> = prompts.iter().map(|prompt| (prompt, answer.as_str())).collect();
            let points = task.oracle(&items)?;
            let examples = (task.demonstrations(*seed, *n)?, task.judge_examples(*seed, *n)?);
            let answers = task.perfect_answers(&prompts.iter().collect::<Vec<_>>())?;
            Ok((prompts, points, examples, task.meta_examples(*seed, *n)?, answers))
        }),
    ]
}

/// Checks that what a task teaches the judge and the meta-judge is what this rubric and this meta-judge read: every
/// judgment to learn from has a score, and every verdict a winner.
pub fn check_task_readers(
    task: &dyn Task,
    rubric: &dyn Rubric,
    meta_judge: &dyn MetaJudge,
    plan: Plan,
) -> Vec<LawOutcome> {
    vec![
        law(JUDGMENTS, plan, ask(), |(seed, n)| {
            let examples = task.judge_examples(seed, n).map_err(failed)?;
            let texts: Vec<&str> = examples.iter().map(|one| one.judgment.as_str()).collect();
            let scores = rubric.parse(&texts).map_err(failed)?;
            let unread = scores.iter().zip(&texts).find(|(score, _)| score.is_err());
            ensure(unread.is_none(), || format!("{unread:?}"))
        }),
        law(VERDICTS, plan, ask(), |(seed, n)| {
            let examples = task.meta_examples(seed, n).map_err(failed)?;
            let texts: Vec<&str> = examples.iter().map(|one| one.verdict.as_str()).collect();
            let winners = meta_judge.parse(&texts).map_err(failed)?;
            let unread = winners.iter().zip(&texts).find(|(winner, _)| winner.is_err());
            ensure(unread.is_none(), || format!("{unread:?}"))
        }),
    ]
}

/// A seed and how many are asked for.
pub(crate) fn ask() -> impl Strategy<Value = (u64, u32)> {
    (any::<u64>(), 0u32..24)
}

fn first_words(prompts: &[Prompt]) -> Vec<(&Prompt, &str)> {
    prompts.iter().map(|prompt| (prompt, "")).collect()
}

fn points(task: &dyn Task, items: &[(&Prompt, &str)]) -> Result<Vec<f64>, String> {
    let points = task.oracle(items).map_err(failed)?.ok_or("the oracle is gone")?;
    equal("number of points", &points.len(), &items.len())?;
    Ok(points)
}

fn filled(texts: &[&str]) -> bool {
    texts.iter().all(|text| !text.trim().is_empty())
}

fn begins<T: PartialEq + std::fmt::Debug>(
    what: &str,
    short: &Result<Vec<T>, PluginError>,
    long: &Result<Vec<T>, PluginError>,
) -> Result<(), String> {
    let short = short.as_ref().map_err(|error| failed(error.clone()))?;
    let long = long.as_ref().map_err(|error| failed(error.clone()))?;
    ensure(long.starts_with(short), || format!("{what}: {short:?} does not begin {long:?}"))
}
