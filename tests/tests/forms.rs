//! One source, three forms: built in, component and dynamic library answer with equal bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use metareward_api::Kind;
use metareward_builtin::registry;
use metareward_host::{Form, KINDS, Registry, Settings, Source, hash_file};
use metareward_laws::{AnyPlugin, LawOutcome, Plan, all_held, check_same};
use metareward_tests::{forms, root};
use serde_json::{Value, json};

fn plugins() -> Registry {
    let cache = Some(root().join("target/forms/cache"));
    registry(Settings { cache, ..Settings::default() }).unwrap()
}

/// A file with its hash, as a config would name it.
fn pinned(file: &Path) -> Source {
    Source { plugin: file.to_string_lossy().into_owned(), sha256: Some(hash_file(file).unwrap()) }
}

fn same(plugins: &Registry, kind: Kind, a: &Source, b: &Source, options: &Value, plan: Plan) -> LawOutcome {
    macro_rules! made {
        ($variant:ident, $make:ident) => {{
            let (a, b) = (plugins.$make(a, options).unwrap(), plugins.$make(b, options).unwrap());
            check_same(AnyPlugin::$variant(&*a), AnyPlugin::$variant(&*b), plan)
        }};
    }
    match kind {
        Kind::Sampler => made!(Sampler, sampler),
        Kind::Rubric => made!(Rubric, rubric),
        Kind::MetaJudge => made!(MetaJudge, meta_judge),
        Kind::Ranker => made!(Ranker, ranker),
        Kind::Selector => made!(Selector, selector),
        Kind::Optimizer => made!(Optimizer, optimizer),
        Kind::Task => made!(Task, task),
    }
}

/// Options that differ from the defaults, so that they must have arrived.
fn other_options(package: &str) -> Value {
    match package {
        "ranker-elo" => json!({"regularization": 0.5, "ties": "half", "base": 7}),
        "rubric-additive" => json!({"aggregate": "median"}),
        "selector-length-control" => json!({"rho": 0.3, "unit": "tokens"}),
        "optimizer-dpo" => json!({"beta": 0.7, "nll_weight": 0.25}),
        "meta-judge-pairwise" => json!({"scope": "run", "disagreement": "tie", "labels": ["X", "Y"]}),
        "sampler-nucleus" => json!({"temperature": 0.25}),
        "task-tiny-world" => json!({"min_words": 4, "max_words": 6}),
        _ => Value::Null,
    }
}

#[test]
fn every_plugin_answers_the_same_in_every_form() {
    let plugins = plugins();
    let plan = Plan { cases: 48, seed: 5 };
    let mut rows = Vec::new();
    for kind in KINDS {
        for name in plugins.names(kind) {
            let package = format!("{kind}-{name}");
            let forms = forms::by_package()[package.as_str()];
            let built_in = Source::named(&name);
            for (form, file) in [(Form::Component, &forms.component), (Form::Library, &forms.library)] {
                let source = pinned(file);
                let record = plugins.record(kind, &source, &Value::Null).unwrap();
                let expected = plugins.record(kind, &built_in, &Value::Null).unwrap();
                assert_eq!(record.info, expected.info, "{package} as {form}");
                assert_eq!(record.options, expected.options, "{package} as {form}");
                assert_eq!((record.form, &record.sha256), (form, &source.sha256));
                assert_eq!(
                    plugins.card(kind, &source).unwrap().options,
                    plugins.card(kind, &built_in).unwrap().options,
                    "schema of {package} as {form}"
                );
                for options in [Value::Null, other_options(&package)] {
                    let outcome = same(&plugins, kind, &built_in, &source, &options, plan);
                    all_held(&[outcome]).unwrap_or_else(|broken| panic!("{package} as {form}, {options}:\n{broken}"));
                }
                let refused = json!({"no_such_option": 1});
                let words = |source: &Source| match plugins.record(kind, source, &refused) {
                    Err(metareward_host::HostError::Options { error, .. }) => error.to_string(),
                    other => panic!("{package} as {form}: {other:?}"),
                };
                assert_eq!(words(&source), words(&built_in), "{package} as {form}");
            }
            rows.push(format!("| {kind} | {name} | equal | equal | equal |"));
        }
    }
    assert_eq!(rows.len(), forms::all().len(), "a plugin crate is not registered as built in");
    println!("| kind | plugin | built in | component | library |\n|---|---|---|---|---|\n{}", rows.join("\n"));
}
