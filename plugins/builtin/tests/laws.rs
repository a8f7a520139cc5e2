//! The built-in plugins obey the laws of their kinds as the host hands them out: made by name, every answer checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::Scale;
use metareward_builtin::registry;
use metareward_laws::{
    MetaJudgePromises, OptimizerPromises, Plan, RankerPromises, SelectorPromises, TaskPromises, all_held,
    check_meta_judge, check_optimizer, check_ranker, check_rubric, check_sampler, check_selector, check_task,
};
use serde_json::Value;

#[test]
fn what_the_host_hands_out_obeys_the_laws() {
    let plugins = registry().unwrap();
    let plan = Plan { cases: 24, seed: 3 };
    let none = Value::Null;
    let promises = RankerPromises { mirrors_ratings: true, likelihood: None };
    all_held(&check_ranker(&*plugins.ranker("elo", &none).unwrap(), promises, plan)).unwrap();
    let promises = SelectorPromises { rho: Some(0.0), max_chosen_length: None, ignores_order: true };
    all_held(&check_selector(&*plugins.selector("length-control", &none).unwrap(), promises, plan)).unwrap();
    let promises = MetaJudgePromises { paper_weights: true, shows_judgments_whole: true };
    all_held(&check_meta_judge(&*plugins.meta_judge("pairwise", &none).unwrap(), promises, plan)).unwrap();
    let promises = OptimizerPromises { pulls_apart: true };
    all_held(&check_optimizer(&*plugins.optimizer("dpo", &none).unwrap(), promises, plan)).unwrap();
    all_held(&check_rubric(&*plugins.rubric("additive", &none).unwrap(), plan)).unwrap();
    all_held(&check_sampler(&*plugins.sampler("nucleus", &none).unwrap(), plan)).unwrap();
    let promises = TaskPromises { scale: Scale { min: 0.0, max: 5.0 }, perfect: None };
    all_held(&check_task(&*plugins.task("tiny-world", &none).unwrap(), promises, plan)).unwrap();
}
