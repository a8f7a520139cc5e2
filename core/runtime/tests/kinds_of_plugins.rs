//! What the loop does for plugins that ask for more: rubrics that compare, samplers that reshape.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use std::collections::{BTreeMap, BTreeSet};

use metareward_api::{Judgment, NoPair, Position, Response};
use metareward_runtime::{Place, RunReader, Stage, Statistics, Unpaired};
use scripted::Lab;

/// A lab whose rubric compares.
fn duel() -> Lab {
    let mut lab = Lab::new();
    let text = std::fs::read_to_string(lab.root.path().join("experiment.toml")).unwrap();
    let template = "options = { template = \"JUDGE {{prompt}} | {{response}}\" }";
    assert!(text.contains(template));
    lab.write("experiment.toml", &text.replace(template, "plugin = \"duel\""));
    lab.set = vec!["meta_judge.pairs=false".into(), "sft.enabled=false".into()];
    lab
}

#[test]
fn judgments_that_compare_meet_every_opponent_in_both_places() {
    let mut lab = duel();
    lab.set.push("judge.judgments=7".into());
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    let reader = RunReader::open(&lab.run_folder()).unwrap();
    let place = Place::Iteration(1);
    let responses: Vec<Response> = reader.responses(&place).unwrap().map(Result::unwrap).collect();
    let judgments: Vec<Judgment> = reader.judgments(&place).unwrap().map(Result::unwrap).collect();
    let mut distinct: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for response in responses.iter().filter(|response| response.duplicate_of.is_none()) {
        distinct.entry(&response.prompt).or_default().push(response.draw);
    }
    let (mut met_all, mut alone) = (0, 0);
    for (prompt, draws) in &distinct {
        let of_prompt = judgments.iter().filter(|judgment| judgment.prompt == **prompt);
        if draws.len() == 1 {
            assert_eq!(of_prompt.count(), 0, "a response without another one is not judged");
            alone += 1;
            continue;
        }
        for response in draws {
            let of: Vec<&Judgment> = of_prompt.clone().filter(|judgment| judgment.response == *response).collect();
            assert_eq!(of.len(), 7);
            let opponents: BTreeSet<u32> = of.iter().map(|judgment| judgment.opponent.unwrap()).collect();
            assert!(!opponents.contains(response) && opponents.iter().all(|opponent| draws.contains(opponent)));
            assert_eq!(opponents.len(), draws.len() - 1, "opponents come in turn");
            let seconds = of.iter().filter(|judgment| judgment.shown == Some(Position::Second)).count();
            assert!((3..=4).contains(&seconds), "{seconds} of 7");
            let meetings: BTreeSet<_> = of.iter().map(|judgment| (judgment.opponent, judgment.shown)).collect();
            assert_eq!(meetings.len(), (2 * opponents.len()).min(7));
            met_all += 1;
        }
    }
    assert!(met_all > 4);
    // The scripted judge's score is that of the answer shown first.
    for judgment in judgments.iter().filter(|judgment| judgment.score.is_some()) {
        let (_, said) = judgment.text.rsplit_once("Score: ").unwrap();
        let said: f64 = said.parse().unwrap();
        let own = if judgment.shown == Some(Position::First) { said } else { 5.0 - said };
        assert_eq!(judgment.score, Some(own));
    }
    let Statistics::Judgments(shown) = reader.stage(&place, Stage::Judgments).unwrap().unwrap().statistics else {
        panic!("judgments");
    };
    assert_eq!(shown.without_opponent, alone);
    assert!(counts["judgments"] > 0 && !counts.contains_key("verdicts"));
    assert!(reader.pairs(1).unwrap().map(Result::unwrap).count() > 0);
}

#[test]
fn a_prompt_with_one_response_has_no_judgments_and_is_accounted_for() {
    let mut lab = duel();
    lab.set.push("actor.responses=1".into());
    lab.set.push("evaluation.responses=1".into());
    let plan = lab.open().unwrap().plan(lab.open().unwrap().model_folder().as_deref(), None);
    assert!(plan.is_err(), "the scripted config.json has no shape");
    let (outcome, counts) = lab.run();
    assert!(outcome.unwrap_err().to_string().contains("fewer than two candidates"), "nothing to train on");
    assert!(!counts.contains_key("judgments"), "{counts:?}");
    let reader = RunReader::open(&lab.run_folder()).unwrap();
    let unpaired: Vec<Unpaired> =
        reader.records(&Place::Iteration(1), Stage::Unpaired).unwrap().map(Result::unwrap).collect();
    assert_eq!(unpaired.len(), 4);
    assert!(unpaired.iter().all(|unpaired| unpaired.reason == NoPair::TooFewCandidates));
}

#[test]
fn a_plan_counts_judgments_that_compare() {
    const SHAPE: &str = "model={ path = \"model\", shape = { parameters = 10, layers = 1, hidden = 1, \
                         cache_bytes_per_token = 1, context = 100, vocabulary = 10 } }";
    let judgments = |set: &[&str]| {
        let mut lab = duel();
        lab.set.push(SHAPE.into());
        lab.set.extend(set.iter().map(|set| (*set).to_owned()));
        let plan = lab.open().unwrap().plan(None, None).unwrap();
        let of = plan.stages.iter().filter(|cost| cost.stage == Stage::Judgments);
        of.map(|cost| cost.calls).collect::<Vec<_>>()
    };
    // Two iterations of 4 prompts, and 3 models on 2 prompts with 2 responses and 2 judgments each.
    assert_eq!(judgments(&[]), [4 * 4 * 4, 4 * 4 * 4, 3 * 2 * 2 * 2]);
    assert_eq!(judgments(&["actor.responses=[4, 1]", "evaluation.responses=1"]), [4 * 4 * 4, 0, 0]);
}

#[test]
fn judgments_of_two_questions_do_not_meet() {
    let mut lab = duel();
    lab.set[0] = "meta_judge.pairs=[false, true]".into();
    let error = lab.open().err().unwrap();
    insta::assert_snapshot!(error, @"--set meta_judge.pairs=[false, true]: `meta_judge.pairs` is true in iteration 2, but must be false with rubric `duel`, which judges a response beside another one: two judgments of a response do not answer the same question, so they cannot meet");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn judge_examples_show_one_response() {
    let mut lab = duel();
    lab.set[1] = "sft.enabled=true".into();
    let (outcome, counts) = lab.run();
    insta::assert_snapshot!(outcome.unwrap_err(), @"task files: rubric `duel` judges a response beside another one, and a judge example shows one response; draw none: sft.judge_examples = 0");
    assert!(counts.is_empty(), "{counts:?}");
}

#[test]
fn a_sampler_that_reshapes_reaches_the_engine_for_its_own_draws() {
    let mut lab = Lab::new();
    lab.run().0.unwrap();
    let texts = |lab: &Lab| -> Vec<String> {
        let reader = RunReader::open(&lab.run_folder()).unwrap();
        reader.responses(&Place::Iteration(1)).unwrap().map(|response| response.unwrap().text).collect()
    };
    let plain = texts(&lab);
    lab.remove_run();
    lab.set = vec!["sampler.actor.plugin=sharp".into()];
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert_eq!(counts["reshaped"], 2 * 4 * 4, "responses of the iterations alone");
    assert_ne!(texts(&lab), plain);
    // Which draw it is reaches the sampler also where a request asks for some of them only.
    let all = texts(&lab);
    lab.remove_run();
    lab.set.push("actor.responses=3".into());
    lab.run().0.unwrap();
    lab.set.pop();
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts["reshaped"] < 2 * 4 * 4, "{counts:?}");
    assert_eq!(texts(&lab), all);
}
