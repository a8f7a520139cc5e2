//! What is the same for all kinds: the list of laws, plugins that answer nothing, JSON.

use std::collections::BTreeSet;

use metareward_api::{
    Candidate, Demonstration, DrawPlan, JudgeExample, Kind, Match, Message, MetaExample, MetaJudge, MetaJudgeItem,
    MetaJudgePromises, NoPair, Optimizer, OptimizerPromises, PairLogProbs, Plugin, PluginError, PluginInfo,
    PositionWins, PreferenceLoss, Prompt, Ranker, RankerPromises, RankingProblem, Rating, Rubric, RubricItem, Sampler,
    SamplerItem, Scale, Selection, Selector, SelectorPromises, Task, Unreadable, VerdictSet, Weighed, WeightScope,
    Winner,
};
use metareward_laws::{AnyPlugin, Finding, LawOutcome, Plan, all_held, check, check_same, laws_of};
use metareward_plugin::FromOptions;
use serde_json::json;

type Answer<T> = Result<T, PluginError>;

/// Refuses every call, of whatever kind.
struct Refuses(Kind);

fn no<T>() -> Answer<T> {
    Err(PluginError::new("not today"))
}

impl Plugin for Refuses {
    fn info(&self) -> PluginInfo {
        PluginInfo { kind: self.0, name: "refuses".into(), version: "0.1.0".into(), summary: String::new() }
    }
}

impl Sampler for Refuses {
    fn plan(&self, _: &[SamplerItem]) -> Answer<Vec<Vec<DrawPlan>>> {
        no()
    }

    fn reshapes(&self) -> Answer<Option<u32>> {
        no()
    }
}

impl Rubric for Refuses {
    fn scale(&self) -> Answer<Scale> {
        no()
    }

    fn criteria(&self) -> Answer<String> {
        no()
    }

    fn compares(&self) -> Answer<bool> {
        no()
    }

    fn render(&self, _: &[RubricItem<'_>]) -> Answer<Vec<Vec<Message>>> {
        no()
    }

    fn parse(&self, _: &[&str]) -> Answer<Vec<Result<f64, Unreadable>>> {
        no()
    }

    fn aggregate(&self, _: &[Vec<f64>]) -> Answer<Vec<Option<f64>>> {
        no()
    }
}

impl MetaJudge for Refuses {
    fn promises(&self) -> Answer<MetaJudgePromises> {
        no()
    }

    fn scope(&self) -> Answer<WeightScope> {
        no()
    }

    fn schedule(&self, _: &[u32]) -> Answer<Vec<Vec<Match>>> {
        no()
    }

    fn render(&self, _: &[MetaJudgeItem<'_>]) -> Answer<Vec<Vec<Message>>> {
        no()
    }

    fn parse(&self, _: &[&str]) -> Answer<Vec<Result<Winner, Unreadable>>> {
        no()
    }

    fn weigh(&self, _: &[VerdictSet], _: &[PositionWins]) -> Answer<Vec<Weighed>> {
        no()
    }
}

impl Ranker for Refuses {
    fn promises(&self) -> Answer<RankerPromises> {
        no()
    }

    fn rate(&self, _: &[RankingProblem]) -> Answer<Vec<Rating>> {
        no()
    }
}

impl Selector for Refuses {
    fn promises(&self) -> Answer<SelectorPromises> {
        no()
    }

    fn length_unit(&self) -> Answer<String> {
        no()
    }

    fn select(&self, _: &[Vec<Candidate>]) -> Answer<Vec<Result<Selection, NoPair>>> {
        no()
    }
}

impl Optimizer for Refuses {
    fn promises(&self) -> Answer<OptimizerPromises> {
        no()
    }

    fn needs_reference(&self) -> Answer<bool> {
        no()
    }

    fn loss_at_start(&self) -> Answer<Option<f64>> {
        no()
    }

    fn loss(&self, _: &[PairLogProbs]) -> Answer<PreferenceLoss> {
        no()
    }
}

impl Task for Refuses {
    fn prompts(&self, _: u64, _: u32) -> Answer<Vec<Prompt>> {
        no()
    }

    fn demonstrations(&self, _: u64, _: u32) -> Answer<Vec<Demonstration>> {
        no()
    }

    fn judge_examples(&self, _: u64, _: u32) -> Answer<Vec<JudgeExample>> {
        no()
    }

    fn meta_examples(&self, _: u64, _: u32) -> Answer<Vec<MetaExample>> {
        no()
    }

    fn oracle(&self, _: &[(&Prompt, &str)]) -> Answer<Option<Vec<f64>>> {
        no()
    }

    fn oracle_scale(&self) -> Answer<Option<Scale>> {
        no()
    }

    fn perfect_answers(&self, _: &[&Prompt]) -> Answer<Option<Vec<String>>> {
        no()
    }
}

const KINDS: [Kind; 7] =
    [Kind::Sampler, Kind::Rubric, Kind::MetaJudge, Kind::Ranker, Kind::Selector, Kind::Optimizer, Kind::Task];

fn as_kind(plugin: &Refuses) -> AnyPlugin<'_> {
    match plugin.0 {
        Kind::Sampler => AnyPlugin::Sampler(plugin),
        Kind::Rubric => AnyPlugin::Rubric(plugin),
        Kind::MetaJudge => AnyPlugin::MetaJudge(plugin),
        Kind::Ranker => AnyPlugin::Ranker(plugin),
        Kind::Selector => AnyPlugin::Selector(plugin),
        Kind::Optimizer => AnyPlugin::Optimizer(plugin),
        Kind::Task => AnyPlugin::Task(plugin),
    }
}

fn names(outcomes: &[LawOutcome]) -> Vec<&'static str> {
    outcomes.iter().map(|outcome| outcome.law).collect()
}

#[test]
fn the_list_of_laws_is_what_check_returns() {
    for kind in KINDS {
        let distinct: BTreeSet<&&str> = laws_of(kind).iter().collect();
        assert_eq!(distinct.len(), laws_of(kind).len(), "{kind}");
        let plugin = Refuses(kind);
        assert_eq!(as_kind(&plugin).kind(), kind);
        let outcomes = check(as_kind(&plugin), Plan { cases: 4, seed: 1 });
        assert_eq!(names(&outcomes), laws_of(kind), "{kind}");
        // Nobody obeys by refusing to answer: what is held is a law about refusing, or that refusals are the same.
        for outcome in &outcomes {
            let about_refusing = outcome.law.contains("refused") || outcome.law.contains("leaves a trace");
            assert!(outcome.finding != Finding::Held || about_refusing, "{kind}: {outcome}");
        }
        assert!(all_held(&outcomes).unwrap_err().contains("the plugin says what it is"), "{kind}");
    }
}

#[test]
fn the_default_plugins_are_checked_by_the_same_list() {
    let plan = Plan { cases: 2, seed: 1 };
    let sampler = sampler_nucleus::Nucleus::from_options(Default::default()).unwrap();
    let rubric = rubric_additive::Additive::from_options(Default::default()).unwrap();
    let judge = meta_judge_pairwise::Pairwise::from_options(Default::default()).unwrap();
    let ranker = ranker_elo::Elo::from_options(Default::default()).unwrap();
    let selector = selector_length_control::LengthControl::from_options(Default::default()).unwrap();
    let optimizer = optimizer_dpo::Dpo::from_options(Default::default()).unwrap();
    let task = task_tiny_world::TinyWorld::new(Default::default()).unwrap();
    for plugin in [
        AnyPlugin::Sampler(&sampler),
        AnyPlugin::Rubric(&rubric),
        AnyPlugin::MetaJudge(&judge),
        AnyPlugin::Ranker(&ranker),
        AnyPlugin::Selector(&selector),
        AnyPlugin::Optimizer(&optimizer),
        AnyPlugin::Task(&task),
    ] {
        let outcomes = check(plugin, plan);
        assert_eq!(names(&outcomes), laws_of(plugin.kind()));
        all_held(&outcomes).unwrap();
    }
}

#[test]
fn outcomes_as_json() {
    let outcome = |finding| LawOutcome { law: "a law", finding, seed: 7 };
    let broken = Finding::Broken { reason: "why".into(), counterexample: "1".into() };
    for (finding, expected) in [
        (Finding::Held, json!({"result": "held"})),
        (broken, json!({"result": "broken", "detail": {"reason": "why", "counterexample": "1"}})),
        (Finding::NotChecked("no promise".into()), json!({"result": "not-checked", "detail": "no promise"})),
    ] {
        let written = serde_json::to_value(outcome(finding)).unwrap();
        assert_eq!(written, json!({"law": "a law", "finding": expected, "seed": 7}));
    }
}

#[test]
fn long_answers_are_shown_where_they_part() {
    let long = "word ".repeat(1000);
    let rubric = |criteria: String| {
        let options = rubric_additive::AdditiveOptions { criteria, ..Default::default() };
        rubric_additive::Additive::from_options(options).unwrap()
    };
    let (one, other) = (rubric(format!("{long}so")), rubric(format!("{long}thus")));
    let outcome = check_same(AnyPlugin::Rubric(&one), AnyPlugin::Rubric(&other), Plan::default());
    let Finding::Broken { reason, .. } = outcome.finding else { panic!("{outcome}") };
    let words = "word ".repeat(8);
    assert_eq!(reason, format!("criteria, from character 4964: found {words}thus\"), expected {words}so\")"));
}

#[test]
fn no_outcome_is_not_a_pass() {
    assert!(all_held(&[]).is_err());
}
