//! Two forms of one plugin that answer alike, and two that do not.

use meta_judge_pairwise::{Pairwise, PairwiseOptions};
use metareward_laws::{AnyPlugin, Finding, check_same};
use metareward_plugin::FromOptions;
use optimizer_dpo::{Dpo, DpoOptions};
use ranker_elo::{Elo, EloOptions};
use rubric_additive::{Additive, AdditiveOptions};
use sampler_nucleus::{Nucleus, NucleusOptions};
use selector_length_control::{LengthControl, LengthControlOptions};
use task_tiny_world::{TinyWorld, TinyWorldOptions};

use crate::PLAN;

/// Checks that the first answers as a second one made the same way, and not as the third does in `call`.
#[track_caller]
fn tells_apart(call: &str, [one, again, other]: [AnyPlugin<'_>; 3]) {
    assert_eq!(check_same(one, again, PLAN).finding, Finding::Held);
    let outcome = check_same(one, other, PLAN);
    let Finding::Broken { reason, counterexample } = &outcome.finding else { panic!("{outcome}") };
    assert!(reason.starts_with(call) && reason.contains(": found ") && !counterexample.is_empty(), "{outcome}");
    assert_eq!(check_same(one, other, PLAN), outcome, "the seed does not repeat it");
}

#[test]
fn rankers() {
    let elo = |base| Elo::from_options(EloOptions { base, ..EloOptions::default() }).unwrap();
    let [one, again, other] = [elo(1000.0), elo(1000.0), elo(1000.0000000001)];
    tells_apart("rate", [AnyPlugin::Ranker(&one), AnyPlugin::Ranker(&again), AnyPlugin::Ranker(&other)]);
}

#[test]
fn selectors() {
    let with = |rho| LengthControl::from_options(LengthControlOptions { rho, ..Default::default() }).unwrap();
    let [one, again, other] = [with(0.2), with(0.2), with(0.3)];
    let plugins = [AnyPlugin::Selector(&one), AnyPlugin::Selector(&again), AnyPlugin::Selector(&other)];
    tells_apart("promises", plugins);
}

#[test]
fn optimizers() {
    let with = |beta| Dpo::from_options(DpoOptions { beta, ..DpoOptions::default() }).unwrap();
    let [one, again, other] = [with(0.1), with(0.1), with(0.1 + 1e-16)];
    tells_apart("loss", [AnyPlugin::Optimizer(&one), AnyPlugin::Optimizer(&again), AnyPlugin::Optimizer(&other)]);
}

#[test]
fn rubrics() {
    let with = |line: &str| {
        Additive::from_options(AdditiveOptions { score_line: line.to_owned(), ..Default::default() }).unwrap()
    };
    let [one, again, other] = ["Score: {{score}}", "Score: {{score}}", "Points: {{score}}"].map(with);
    tells_apart("closing_line", [AnyPlugin::Rubric(&one), AnyPlugin::Rubric(&again), AnyPlugin::Rubric(&other)]);
}

#[test]
fn meta_judges() {
    let with =
        |weigh| Pairwise::from_options(PairwiseOptions { position_weights: weigh, ..Default::default() }).unwrap();
    let [one, again, other] = [with(true), with(true), with(false)];
    let plugins = [AnyPlugin::MetaJudge(&one), AnyPlugin::MetaJudge(&again), AnyPlugin::MetaJudge(&other)];
    tells_apart("promises", plugins);
}

#[test]
fn samplers() {
    let with = |top_p| Nucleus::from_options(NucleusOptions { top_p, ..NucleusOptions::default() }).unwrap();
    let [one, again, other] = [with(0.9), with(0.9), with(0.95)];
    tells_apart("plan", [AnyPlugin::Sampler(&one), AnyPlugin::Sampler(&again), AnyPlugin::Sampler(&other)]);
}

#[test]
fn tasks() {
    let with = |phrasings| TinyWorld::new(TinyWorldOptions { phrasings, ..TinyWorldOptions::default() }).unwrap();
    let [one, again, other] = [with(1), with(1), with(3)];
    tells_apart("prompts", [AnyPlugin::Task(&one), AnyPlugin::Task(&again), AnyPlugin::Task(&other)]);
}

#[test]
fn two_kinds() {
    let elo = Elo::from_options(EloOptions::default()).unwrap();
    let dpo = Dpo::from_options(DpoOptions::default()).unwrap();
    let outcome = check_same(AnyPlugin::Ranker(&elo), AnyPlugin::Optimizer(&dpo), PLAN);
    assert!(outcome.to_string().contains("a ranker and a optimizer"), "{outcome}");
}
