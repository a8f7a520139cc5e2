//! What a judge and a meta-judge write after the line that was asked for: an engine that ends the answer there loses
//! nothing, with every built-in rubric and meta-judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use metareward_api::{Kind, MetaJudge, Occasion, Part, Rubric, Winner};
use metareward_host::{Settings, Source};
use metareward_runtime::Experiment;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use scripted::Lab;
use serde_json::{Value, json};

/// What of an answer is kept by an engine that ends it with the line that completes it.
fn cut<'a>(experiment: &Experiment, part: Part, text: &'a str) -> &'a str {
    let guide = experiment.guide(Occasion { part, iteration: 1 }).unwrap();
    let complete = guide.guides().complete.unwrap();
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        let finished = line.strip_suffix('\n');
        end += finished.unwrap_or(line).len();
        if finished.is_some_and(|line| complete(line).unwrap()) {
            break;
        }
        end += usize::from(finished.is_some());
    }
    &text[..end]
}

/// An answer in the form that is asked for: `reasons`, `closing` dressed as models dress it, and what they add.
fn answer(closings: Vec<String>) -> impl Strategy<Value = (String, String)> {
    let mention = select(closings.clone()).prop_map(|closing| format!("One could say {closing}, but that is not so."));
    let line = prop_oneof![
        4 => "[a-z ,.'0-9*#-]{0,40}",
        1 => mention,
        1 => Just(String::new()),
        1 => Just("Score and winner are below.".to_owned()),
    ];
    let dress = select(vec![("", ""), ("**", "**"), ("- ", ""), ("## ", ""), ("", "."), ("  ", " "), ("> ", "!")]);
    let ending = select(vec!["\n", "\r\n", "\n\n"]);
    (vec(line.clone(), 0..5), select(closings), dress, vec(line, 0..4), ending, any::<bool>()).prop_map(
        |(reasons, closing, (before, after), more, ending, again)| {
            let mut text = reasons.iter().map(|line| format!("{line}{ending}")).collect::<String>();
            text += &format!("{before}{closing}{after}");
            let kept = text.clone();
            if !more.is_empty() {
                text += &format!("{ending}{}", more.join(ending));
            }
            if again {
                text += &format!("{ending}{closing}");
            }
            (kept, text)
        },
    )
}

/// Checks that answers with these closing lines are cut behind them and read as the whole ones are.
fn check<T: PartialEq + std::fmt::Debug>(
    what: &str,
    closings: Vec<String>,
    cut: impl Fn(&str) -> String,
    parse: impl Fn(&str) -> T,
) {
    assert!(closings.len() > 1, "{what}");
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&answer(closings), |(kept, whole)| {
        let found = cut(&whole);
        // A line break of two signs leaves the first one.
        prop_assert_eq!(found.trim_end_matches('\r'), kept.as_str(), "{} of {:?}", what, whole);
        prop_assert_eq!(parse(&found), parse(&whole), "{}: {:?}", what, whole);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// An experiment with this plugin of a kind.
fn with(kind: &str, name: &str, options: &Value) -> Experiment {
    let options = options.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {value}"));
    let options = options.collect::<Vec<_>>().join(", ");
    let mut lab = Lab::new();
    // With a rubric that compares there are none.
    lab.set = vec!["meta_judge.pairs=false".to_owned()];
    lab.write(
        "experiment.toml",
        &format!(
            "name = \"closing\"\nmodel.path = \"model\"\n\
             [task]\noptions = {{ prompts = \"prompts.jsonl\", judge_examples = \"judge.jsonl\" }}\n\
             [{kind}]\nplugin = \"{name}\"\noptions = {{ {options} }}\n"
        ),
    );
    lab.open().unwrap()
}

#[test]
fn scores() {
    let registry = metareward_builtin::registry(Settings::default()).unwrap();
    let names = registry.names(Kind::Rubric);
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let source = Source::named(&name);
        let line = if registry.default_options(Kind::Rubric, &source).unwrap().get("score_line").is_some() {
            json!({ "score_line": "Points earned: {{score}} in all" })
        } else {
            json!({ "winner_line": "I prefer [[{{winner}}]]" })
        };
        for options in [json!({}), line] {
            let experiment = with("rubric", &name, &options);
            let rubric: Box<dyn Rubric> = registry.rubric(&source, &options).unwrap();
            let scale = rubric.scale().unwrap();
            let marks = (0..=20).map(|part| scale.min + (scale.max - scale.min) * f64::from(part) / 20.0);
            let closings = marks.filter_map(|score| rubric.closing_line(score).unwrap()).collect();
            let cut = |text: &str| cut(&experiment, Part::Judge, text).to_owned();
            check(&name, closings, cut, |text| rubric.parse(&[text]).unwrap().remove(0));
        }
    }
}

#[test]
fn winners() {
    let registry = metareward_builtin::registry(Settings::default()).unwrap();
    for name in registry.names(Kind::MetaJudge) {
        let source = Source::named(&name);
        for options in [json!({}), json!({ "winner_line": "The better judgment is {{winner}}" })] {
            let experiment = with("meta_judge", &name, &options);
            let judge: Box<dyn MetaJudge> = registry.meta_judge(&source, &options).unwrap();
            let winners = [Winner::First, Winner::Second, Winner::Tie];
            let closings = winners.into_iter().filter_map(|winner| judge.closing_line(winner).unwrap()).collect();
            let cut = |text: &str| cut(&experiment, Part::MetaJudge, text).to_owned();
            check(&name, closings, cut, |text| judge.parse(&[text]).unwrap().remove(0));
        }
    }
}
