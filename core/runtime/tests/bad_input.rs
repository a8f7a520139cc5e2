//! Every bad input has its own message, refused before anything is computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use std::{io, sync::Arc};

use metareward_runtime::{Disk, Layers, Operation, RunError};
use scripted::{Judge, Lab, Recorder};

/// The error of a run, with the lab's folder taken out, and its exit code. Nothing may have been computed.
fn refused(lab: &Lab) -> String {
    let (outcome, counts) = lab.run();
    assert!(counts.is_empty(), "{counts:?}");
    said(lab, &outcome.unwrap_err())
}

fn said(lab: &Lab, error: &RunError) -> String {
    let root = lab.root.path().canonicalize().unwrap();
    let text = error.to_string().replace(&root.display().to_string(), "LAB");
    format!("{} [{}]", text.replace(&lab.root.path().display().to_string(), "LAB"), error.exit_code())
}

fn with(set: &str) -> String {
    let mut lab = Lab::new();
    lab.set = vec![set.into()];
    refused(&lab)
}

#[test]
fn unknown_keys() {
    insta::assert_snapshot!(with("judge.judgements=11"), @"");
    insta::assert_snapshot!(with("iteratons=3"), @"");
    insta::assert_snapshot!(with("zzz.qqq=3"), @"");
    insta::assert_snapshot!(with("selector.actor.options.roh=0.3"), @"");
    insta::assert_snapshot!(with("ranker.plugin=eló"), @"");
    let lab = Lab::new();
    lab.write("experiment.toml", "name = \"x\"\nmodel.path = \"model\"\n[actor]\nresponces = 3\n");
    insta::assert_snapshot!(refused(&lab), @"");
    lab.write("experiment.toml", "name = \n");
    insta::assert_snapshot!(refused(&lab), @"");
}

#[test]
fn values_of_the_wrong_type_or_out_of_range() {
    insta::assert_snapshot!(with("selector.actor.options.rho=1.4"), @"");
    insta::assert_snapshot!(with("actor.responses=0"), @"");
    insta::assert_snapshot!(with("actor.responses=seven"), @"");
    insta::assert_snapshot!(with("actor.responses=-1"), @"");
    insta::assert_snapshot!(with("judge.judgments=[3, 0]"), @"");
    insta::assert_snapshot!(with("train.keep=best"), @"");
    insta::assert_snapshot!(with("train.keep=7"), @"");
    insta::assert_snapshot!(with("train.lr_schedule=cosin"), @"");
    insta::assert_snapshot!(with("sft.enabled=maybe"), @"");
    insta::assert_snapshot!(with("engine.device=tpu"), @"");
    insta::assert_snapshot!(with("rubric.options.template={ file = \"absent.txt\" }"), @"");
}

#[test]
fn schedules_of_the_wrong_length() {
    insta::assert_snapshot!(with("actor.responses=[7, 7, 7]"), @"");
    insta::assert_snapshot!(with("selector.actor.options.rho=[0, 0.1, 0.2]"), @"");
}

#[test]
fn variables_are_a_layer_between_file_and_set() {
    let lab = Lab::new();
    let variables = vec![
        ("METAREWARD__ACTOR__RESPONSES".to_owned(), "5".to_owned()),
        ("METAREWARD__SEED".to_owned(), "9".to_owned()),
        ("PATH".to_owned(), "x".to_owned()),
    ];
    let layers = Layers { variables: variables.clone(), set: vec!["seed=11".into()], ..lab.layers() };
    let config = layers.load().unwrap().config;
    assert_eq!((config.seed, config.actor.responses.at(2)), (11, Some(&5)));
    let wrong = Layers { variables: vec![("METAREWARD__ACTOR__RESPONSES".into(), "0".into())], ..lab.layers() };
    insta::assert_snapshot!(said(&lab, &wrong.load().unwrap_err()), @"");
}

#[test]
fn prompt_files() {
    insta::assert_snapshot!(with("task.options.prompts=absent.jsonl"), @"");
    let lab = Lab::new();
    lab.write("prompts.jsonl", "");
    insta::assert_snapshot!(refused(&lab), @"");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n{\"id\": \"b\", \"prompt\"\n");
    insta::assert_snapshot!(refused(&lab), @"");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n\n{\"id\": \"a\", \"prompt\": \"y\"}\n");
    insta::assert_snapshot!(refused(&lab), @"");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"question\": \"x\"}\n");
    insta::assert_snapshot!(refused(&lab), @"");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n");
    insta::assert_snapshot!(refused(&lab), @"");
    insta::assert_snapshot!(with("task.options.judge_exampels=judge.jsonl"), @"");
}

#[test]
fn prompts_too_long_for_the_model() {
    let mut lab = Lab::new();
    lab.context = 3;
    insta::assert_snapshot!(refused(&lab), @"");
    lab.context = 5;
    insta::assert_snapshot!(refused(&lab), @"");
}

#[test]
fn templates_and_models() {
    insta::assert_snapshot!(with("rubric.options.template=JUDGE {{promt}} | {{response}}"), @"");
    insta::assert_snapshot!(with("model.path=absent"), @"");
    let lab = Lab::new();
    std::fs::remove_file(lab.root.path().join("model/model.safetensors")).unwrap();
    insta::assert_snapshot!(refused(&lab), @"");
}

#[test]
fn run_folders_of_others() {
    let mut lab = Lab::new();
    lab.run().0.unwrap();
    lab.set = vec!["name=other".into()];
    insta::assert_snapshot!(refused(&lab), @"");
    lab.set.clear();
    let lock = std::fs::File::open(lab.run_folder().join("lock")).unwrap();
    lock.lock().unwrap();
    insta::assert_snapshot!(refused(&lab), @"");
    let lab = Lab::new();
    lab.write("run/letters.txt", "mine");
    insta::assert_snapshot!(refused(&lab), @"");
}

#[test]
fn a_full_disk_loses_nothing() {
    let lab = Lab::new();
    let disk = Disk::with_fault(Arc::new(|operation, path| {
        if operation == Operation::Write && path.display().to_string().contains("iteration-1/verdicts") {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }));
    let (outcome, _) = lab.run_with(&Recorder::default(), disk);
    let text = said(&lab, &outcome.unwrap_err());
    assert!(text.starts_with("no space left on the disk while writing LAB/run/iteration-1/verdicts/00000-"), "{text}");
    assert!(text.ends_with("[4]"), "{text}");
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert_eq!(counts["judgments"] % 2, 0);
    assert!(!std::fs::read_dir(lab.run_folder().join("iteration-1/verdicts")).unwrap().any(|entry| {
        entry.unwrap().file_name().to_string_lossy().ends_with(".partial")
    }));
}

#[test]
fn a_judge_that_cannot_be_read_is_a_clear_end() {
    let mut lab = Lab::new();
    lab.judge = Judge::Mute;
    lab.set = vec!["sft.enabled=false".into()];
    let (outcome, counts) = lab.run();
    insta::assert_snapshot!(said(&lab, &outcome.unwrap_err()), @"");
    assert!(counts["judgments"] > 0);
    assert!(lab.run_folder().join("iteration-1/pairs/stage.json").exists());
}

#[test]
fn a_saturated_judge_is_said_in_plain_words() {
    let mut lab = Lab::new();
    lab.judge = Judge::Saturated;
    let recorder = Recorder::default();
    let (outcome, _) = lab.run_with(&recorder, Disk::default());
    // Judge pairs are still there: their ratings differ though their scores do not.
    outcome.unwrap();
    assert!(recorder.warnings().iter().any(|warning| warning.contains("100 % of its")), "{:?}", recorder.warnings());
}
