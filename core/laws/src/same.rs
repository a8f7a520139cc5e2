//! The same in every form: two plugins, built in, as a component or as a library, that must answer alike.

use std::fmt::Debug;

use metareward_api::{
    MetaJudge, MetaJudgeItem, NextTokens, PairLogProbs, Plugin, PositionWins, Prompt, RankingProblem, Rubric,
    RubricItem, Sampler, SamplerItem, Task, VerdictSet, Winner,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    AnyPlugin, LawOutcome, Plan,
    generators::{candidates, extreme_pair, pair, ranking_problem, text, unratable_problem, verdicts, words},
    meta_judge, optimizer,
    outcome::{law, same_text},
    sampler, selector, task,
};

const SAME: &str = "the same in every form: equal answers to the bit, errors included";

/// Checks that two plugins of one kind answer alike to everything: promises, answers to generated inputs, hard and
/// invalid ones included, and errors. Every call is made of both in the same order.
pub fn check_same(one: AnyPlugin<'_>, other: AnyPlugin<'_>, plan: Plan) -> LawOutcome {
    match (one, other) {
        (AnyPlugin::Sampler(a), AnyPlugin::Sampler(b)) => samplers(a, b, plan),
        (AnyPlugin::Rubric(a), AnyPlugin::Rubric(b)) => rubrics(a, b, plan),
        (AnyPlugin::MetaJudge(a), AnyPlugin::MetaJudge(b)) => meta_judges(a, b, plan),
        (AnyPlugin::Ranker(a), AnyPlugin::Ranker(b)) => {
            let problems = vec(prop_oneof![8 => ranking_problem(), 1 => unratable_problem()], 0..4);
            law(SAME, plan, problems, |problems: Vec<RankingProblem>| {
                same_info(a, b)?;
                same("promises", a.promises(), b.promises())?;
                same("rate", a.rate(&problems), b.rate(&problems))
            })
        }
        (AnyPlugin::Selector(a), AnyPlugin::Selector(b)) => {
            let groups = vec(prop_oneof![8 => candidates(), 1 => selector::spoiled()], 0..4);
            law(SAME, plan, groups, |groups| {
                same_info(a, b)?;
                same("promises", a.promises(), b.promises())?;
                same("length_unit", a.length_unit(), b.length_unit())?;
                same("select", a.select(&groups), b.select(&groups))
            })
        }
        (AnyPlugin::Optimizer(a), AnyPlugin::Optimizer(b)) => {
            let pairs = vec(prop_oneof![8 => pair(), 4 => extreme_pair(), 1 => optimizer::spoiled()], 0..4);
            law(SAME, plan, pairs, |pairs: Vec<PairLogProbs>| {
                same_info(a, b)?;
                same("promises", a.promises(), b.promises())?;
                same("needs_reference", a.needs_reference(), b.needs_reference())?;
                same("loss_at_start", a.loss_at_start(), b.loss_at_start())?;
                same("loss", a.loss(&pairs), b.loss(&pairs))
            })
        }
        (AnyPlugin::Task(a), AnyPlugin::Task(b)) => tasks(a, b, plan),
        _ => {
            law(SAME, Plan { cases: 1, ..plan }, Just(()), |()| Err(format!("a {} and a {}", one.kind(), other.kind())))
        }
    }
}

fn samplers(a: &dyn Sampler, b: &dyn Sampler, plan: Plan) -> LawOutcome {
    let most = a.reshapes().ok().flatten().unwrap_or(1) as usize;
    law(SAME, plan, sampler::calls(most), |(items, rows): (Vec<SamplerItem>, Vec<NextTokens>)| {
        same_info(a, b)?;
        same("plan", a.plan(&items), b.plan(&items))?;
        same("reshapes", a.reshapes(), b.reshapes())?;
        same("reshape", a.reshape(&rows), b.reshape(&rows))
    })
}

fn rubrics(a: &dyn Rubric, b: &dyn Rubric, plan: Plan) -> LawOutcome {
    let score = || prop_oneof![8 => (-4i32..48).prop_map(|quarters| f64::from(quarters) / 4.0), 1 => Just(f64::NAN)];
    let one = (text(), text(), text(), words(), vec(score(), 0..5), score());
    law(SAME, plan, vec(one, 0..4), |cases| {
        same_info(a, b)?;
        same("scale", a.scale(), b.scale())?;
        same("criteria", a.criteria(), b.criteria())?;
        same("compares", a.compares(), b.compares())?;
        let compares = a.compares().unwrap_or(false);
        let mut items = Vec::new();
        let mut judgments = Vec::new();
        for (prompt, response, other, reasons, _, score) in &cases {
            items.push(RubricItem { prompt, response, opponent: compares.then_some(other) });
            let line = a.closing_line(*score);
            same("closing_line", line.clone(), b.closing_line(*score))?;
            judgments.push(format!("{reasons}\n{}{response}", line.ok().flatten().unwrap_or_default()));
            judgments.push(response.clone());
        }
        let texts: Vec<&str> = judgments.iter().map(String::as_str).collect();
        let scores: Vec<Vec<f64>> = cases.iter().map(|(_, _, _, _, scores, _)| scores.clone()).collect();
        same("render", a.render(&items), b.render(&items))?;
        same("parse", a.parse(&texts), b.parse(&texts))?;
        same("aggregate", a.aggregate(&scores), b.aggregate(&scores))
    })
}

fn meta_judges(a: &dyn MetaJudge, b: &dyn MetaJudge, plan: Plan) -> LawOutcome {
    let sets = prop_oneof![8 => verdicts(), 1 => meta_judge::spoiled()];
    let winner = select(vec![Winner::First, Winner::Second, Winner::Tie]);
    let one = (sets, meta_judge::wins(), text(), text(), words(), winner);
    law(SAME, plan, vec(one, 0..4), |cases| {
        same_info(a, b)?;
        same("promises", a.promises(), b.promises())?;
        same("scope", a.scope(), b.scope())?;
        let (mut items, mut verdicts) = (Vec::new(), Vec::new());
        for (_, _, first, second, reasons, winner) in &cases {
            items.push(MetaJudgeItem { prompt: reasons, response: second, criteria: first, first, second });
            let line = a.closing_line(*winner);
            same("closing_line", line.clone(), b.closing_line(*winner))?;
            verdicts.push(format!("{reasons}\n{}{second}", line.ok().flatten().unwrap_or_default()));
            verdicts.push(first.clone());
        }
        let texts: Vec<&str> = verdicts.iter().map(String::as_str).collect();
        let sets: Vec<VerdictSet> = cases.iter().map(|(set, ..)| set.clone()).collect();
        let wins: Vec<PositionWins> = cases.iter().map(|(_, wins, ..)| *wins).collect();
        let players: Vec<u32> = sets.iter().map(|set| set.players).collect();
        same("schedule", a.schedule(&players), b.schedule(&players))?;
        same("render", a.render(&items), b.render(&items))?;
        same("parse", a.parse(&texts), b.parse(&texts))?;
        same("weigh", a.weigh(&sets, &wins), b.weigh(&sets, &wins))
    })
}

fn tasks(a: &dyn Task, b: &dyn Task, plan: Plan) -> LawOutcome {
    law(SAME, plan, (task::ask(), text()), |((seed, n), answer)| {
        same_info(a, b)?;
        same("oracle_scale", a.oracle_scale(), b.oracle_scale())?;
        let prompts = a.prompts(seed, n);
        same("prompts", prompts.clone(), b.prompts(seed, n))?;
        same("demonstrations", a.demonstrations(seed, n), b.demonstrations(seed, n))?;
        same("judge_examples", a.judge_examples(seed, n), b.judge_examples(seed, n))?;
        same("meta_examples", a.meta_examples(seed, n), b.meta_examples(seed, n))?;
        let prompts = prompts.unwrap_or_default();
        let asked: Vec<&Prompt> = prompts.iter().collect();
        let answers = a.perfect_answers(&asked);
        same("perfect_answers", answers.clone(), b.perfect_answers(&asked))?;
        let mut items: Vec<(&Prompt, &str)> = asked.iter().map(|prompt| (*prompt, answer.as_str())).collect();
        let answers = answers.ok().flatten().unwrap_or_default();
        items.extend(asked.iter().copied().zip(answers.iter().map(String::as_str)));
        same("oracle", a.oracle(&items), b.oracle(&items))
    })
}

fn same_info<P: Plugin + ?Sized>(a: &P, b: &P) -> Result<(), String> {
    same("info", a.info(), b.info())
}

/// Equal as written down: every bit of a number shows, and so does every word of an error.
fn same<T: Debug>(call: &str, a: T, b: T) -> Result<(), String> {
    same_text(call, &format!("{b:?}"), &format!("{a:?}"))
}
