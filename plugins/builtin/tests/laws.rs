//! The built-in plugins obey the laws of their kinds as the host hands them out: made by name, every answer checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::Kind;
use metareward_builtin::registry;
use metareward_host::{KINDS, Registry, Settings, Source};
use metareward_laws::{AnyPlugin, LawOutcome, Plan, all_held, check};
use serde_json::Value;

fn held(plugins: &Registry, kind: Kind, source: &Source, plan: Plan) -> Vec<LawOutcome> {
    let none = &Value::Null;
    match kind {
        Kind::Sampler => check(AnyPlugin::Sampler(&*plugins.sampler(source, none).unwrap()), plan),
        Kind::Rubric => check(AnyPlugin::Rubric(&*plugins.rubric(source, none).unwrap()), plan),
        Kind::MetaJudge => check(AnyPlugin::MetaJudge(&*plugins.meta_judge(source, none).unwrap()), plan),
        Kind::Ranker => check(AnyPlugin::Ranker(&*plugins.ranker(source, none).unwrap()), plan),
        Kind::Selector => check(AnyPlugin::Selector(&*plugins.selector(source, none).unwrap()), plan),
        Kind::Optimizer => check(AnyPlugin::Optimizer(&*plugins.optimizer(source, none).unwrap()), plan),
        Kind::Task => check(AnyPlugin::Task(&*plugins.task(source, none).unwrap()), plan),
    }
}

#[test]
fn what_the_host_hands_out_obeys_the_laws() {
    let plugins = registry(Settings::default()).unwrap();
    for kind in KINDS {
        for name in plugins.names(kind) {
            let outcomes = held(&plugins, kind, &Source::named(&name), Plan { cases: 24, seed: 3 });
            all_held(&outcomes).unwrap_or_else(|broken| panic!("{kind} {name}:\n{broken}"));
        }
    }
}
