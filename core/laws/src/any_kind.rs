//! One entry for all kinds.

use metareward_api::{Kind, MetaJudge, Optimizer, Ranker, Rubric, Sampler, Selector, Task};

use crate::{
    LawOutcome, Plan, check_meta_judge, check_optimizer, check_ranker, check_rubric, check_sampler, check_selector,
    check_task, meta_judge, optimizer, ranker, rubric, sampler, selector, task,
};

/// A plugin of any kind.
#[derive(Clone, Copy)]
pub enum AnyPlugin<'a> {
    /// A sampler.
    Sampler(&'a dyn Sampler),
    /// A rubric.
    Rubric(&'a dyn Rubric),
    /// A meta-judge.
    MetaJudge(&'a dyn MetaJudge),
    /// A ranker.
    Ranker(&'a dyn Ranker),
    /// A selector.
    Selector(&'a dyn Selector),
    /// An optimizer.
    Optimizer(&'a dyn Optimizer),
    /// A task.
    Task(&'a dyn Task),
}

impl AnyPlugin<'_> {
    /// Its kind.
    pub fn kind(self) -> Kind {
        match self {
            AnyPlugin::Sampler(_) => Kind::Sampler,
            AnyPlugin::Rubric(_) => Kind::Rubric,
            AnyPlugin::MetaJudge(_) => Kind::MetaJudge,
            AnyPlugin::Ranker(_) => Kind::Ranker,
            AnyPlugin::Selector(_) => Kind::Selector,
            AnyPlugin::Optimizer(_) => Kind::Optimizer,
            AnyPlugin::Task(_) => Kind::Task,
        }
    }
}

/// Checks all laws of the plugin's kind, in the order of [`laws_of`].
pub fn check(plugin: AnyPlugin<'_>, plan: Plan) -> Vec<LawOutcome> {
    match plugin {
        AnyPlugin::Sampler(sampler) => check_sampler(sampler, plan),
        AnyPlugin::Rubric(rubric) => check_rubric(rubric, plan),
        AnyPlugin::MetaJudge(judge) => check_meta_judge(judge, plan),
        AnyPlugin::Ranker(ranker) => check_ranker(ranker, plan),
        AnyPlugin::Selector(selector) => check_selector(selector, plan),
        AnyPlugin::Optimizer(optimizer) => check_optimizer(optimizer, plan),
        AnyPlugin::Task(task) => check_task(task, plan),
    }
}

/// The laws of a kind, each a sentence, in the order in which [`check`] reports them. Of a law about a promise that a plugin
/// does not make, `check` says that it was not checked.
pub fn laws_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Sampler => sampler::LAWS,
        Kind::Rubric => rubric::LAWS,
        Kind::MetaJudge => meta_judge::LAWS,
        Kind::Ranker => ranker::LAWS,
        Kind::Selector => selector::LAWS,
        Kind::Optimizer => optimizer::LAWS,
        Kind::Task => task::LAWS,
    }
}
