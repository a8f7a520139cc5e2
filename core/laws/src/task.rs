//! Laws of tasks.

use std::collections::BTreeSet;

use metareward_api::{Prompt, PromptId, Scale, Task};
use proptest::prelude::*;

use crate::{
    generators::text,
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near},
};

/// Makes a perfect answer to a prompt.
pub type PerfectAnswer<'a> = dyn Fn(&Prompt) -> Result<String, String> + 'a;

/// What not every honest task promises.
#[derive(Clone, Copy)]
pub struct TaskPromises<'a> {
    /// The scale of the oracle's points.
    pub scale: Scale,
    /// A perfect answer to a prompt, for tasks that can make one: the oracle gives it full points.
    pub perfect: Option<&'a PerfectAnswer<'a>>,
}

/// Checks all laws of tasks.
pub fn check_task(task: &dyn Task, promises: TaskPromises<'_>, plan: Plan) -> Vec<LawOutcome> {
    let Scale { min, max } = promises.scale;
    let ask = || (any::<u64>(), 0u32..24);
    let full = "a perfect answer has full points";
    let on_scale = "the oracle stays on the scale, whatever the response, and is the same item by item";
    let oracle = match task
        .prompts(0, 1)
        .and_then(|prompts| task.oracle(&prompts.iter().map(|prompt| (prompt, "")).collect::<Vec<_>>()))
    {
        Ok(points) => points.is_some(),
        // The laws below say what fails.
        Err(_) => true,
    };
    let skip = |words| LawOutcome::not_checked(words, plan, "the task has no oracle");
    vec![
        law("prompts are distinct, filled, and no more than asked for", plan, ask(), |(seed, n)| {
            let prompts = task.prompts(seed, n).map_err(failed)?;
            ensure(prompts.len() <= n as usize, || format!("{} prompts for {n}", prompts.len()))?;
            let ids: BTreeSet<&PromptId> = prompts.iter().map(|prompt| &prompt.id).collect();
            let texts: BTreeSet<(&str, Option<&str>)> =
                prompts.iter().map(|prompt| (prompt.text.as_str(), prompt.system.as_deref())).collect();
            equal("distinct ids", &ids.len(), &prompts.len())?;
            equal("distinct prompts", &texts.len(), &prompts.len())?;
            ensure(prompts.iter().all(|prompt| filled(&[&prompt.id.0, &prompt.text])), || format!("{prompts:?}"))
        }),
        law("the same seed gives the same, and a longer list begins with the shorter one", plan, ask(), |(seed, n)| {
            begins("prompts", &task.prompts(seed, n), &task.prompts(seed, n + 3))?;
            begins("demonstrations", &task.demonstrations(seed, n), &task.demonstrations(seed, n + 3))?;
            begins("judge examples", &task.judge_examples(seed, n), &task.judge_examples(seed, n + 3))?;
            begins("meta examples", &task.meta_examples(seed, n), &task.meta_examples(seed, n + 3))
        }),
        law("examples are filled, and no more than asked for", plan, ask(), |(seed, n)| {
            let demonstrations = task.demonstrations(seed, n).map_err(failed)?;
            let judge = task.judge_examples(seed, n).map_err(failed)?;
            let meta = task.meta_examples(seed, n).map_err(failed)?;
            let most = [demonstrations.len(), judge.len(), meta.len()];
            ensure(most.iter().all(|count| *count <= n as usize), || format!("{most:?} examples for {n}"))?;
            let good = demonstrations.iter().all(|one| filled(&[&one.prompt.text, &one.response]))
                && judge.iter().all(|one| filled(&[&one.prompt, &one.judgment]))
                && meta.iter().all(|one| filled(&[&one.prompt, &one.first, &one.second, &one.verdict]));
            ensure(good, || "an example with an empty text".to_owned())
        }),
        if oracle {
            law(on_scale, plan, (any::<u64>(), text(), text()), |(seed, first, second)| {
                let prompts = task.prompts(seed, 2).map_err(failed)?;
                let items: Vec<(&Prompt, &str)> = prompts.iter().zip([first.as_str(), second.as_str()]).collect();
                let points = points(task, &items)?;
                ensure(points.iter().all(|value| *value >= min && *value <= max), || format!("{points:?}"))?;
                for (item, expected) in items.iter().zip(&points) {
                    equal("points of one item alone", &self::points(task, &[*item])?, &vec![*expected])?;
                }
                Ok(())
            })
        } else {
            skip(on_scale)
        },
        match (oracle, promises.perfect) {
            (false, _) => skip(full),
            (true, None) => LawOutcome::not_checked(full, plan, "the task makes no perfect answers"),
            (true, Some(perfect)) => law(full, plan, any::<u64>(), |seed| {
                for prompt in task.prompts(seed, 3).map_err(failed)? {
                    let answer = perfect(&prompt)?;
                    for value in points(task, &[(&prompt, &answer)])? {
                        near(&format!("points of {answer:?} to {:?}", prompt.text), value, max, 1e-12)?;
                    }
                }
                Ok(())
            }),
        },
    ]
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
    short: &Result<Vec<T>, metareward_api::PluginError>,
    long: &Result<Vec<T>, metareward_api::PluginError>,
) -> Result<(), String> {
    let short = short.as_ref().map_err(|error| failed(error.clone()))?;
    let long = long.as_ref().map_err(|error| failed(error.clone()))?;
    ensure(long.starts_with(short), || format!("{what}: {short:?} does not begin {long:?}"))
}
