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
    insta::assert_snapshot!(with("judge.judgements=11"), @"--set judge.judgements=11: unknown key `judge.judgements`; did you mean `judge.judgments`? [2]");
    insta::assert_snapshot!(with("iteratons=3"), @"--set iteratons=3: unknown key `iteratons`; did you mean `iterations`? [2]");
    insta::assert_snapshot!(with("zzz.qqq=3"), @"--set zzz.qqq=3: unknown key `zzz` [2]");
    insta::assert_snapshot!(with("selector.actor.options.roh=0.3"), @"--set selector.actor.options.roh=0.3: unknown key `selector.actor.options.roh`; did you mean `selector.actor.options.rho`? [2]");
    insta::assert_snapshot!(with("ranker.plugin=eló"), @"--set ranker.plugin=eló: `ranker`: unknown ranker `eló`; did you mean `elo`? known: `bradley-terry`, `copeland`, `elo`, `elo-online`, `newman`, `win-rate`; a plugin of one's own is named by its file, ending in .wasm or .so [2]");
    let lab = Lab::new();
    lab.write("experiment.toml", "name = \"x\"\nmodel.path = \"model\"\n[actor]\nresponces = 3\n");
    insta::assert_snapshot!(refused(&lab), @"LAB/experiment.toml: unknown key `actor.responces`; did you mean `actor.responses`? [2]");
    lab.write("experiment.toml", "name = \n");
    insta::assert_snapshot!(refused(&lab), @r#"
    LAB/experiment.toml: TOML parse error at line 1, column 8
      |
    1 | name = 
      |        ^
    string values must be quoted, expected literal string [2]
    "#);
}

#[test]
fn values_of_the_wrong_type_or_out_of_range() {
    insta::assert_snapshot!(with("selector.actor.options.rho=1.4"), @"--set selector.actor.options.rho=1.4: `selector.actor.options.rho`: expected a number from 0 to 1, found 1.4 [2]");
    insta::assert_snapshot!(with("actor.responses=0"), @"--set actor.responses=0: `actor.responses` is 0, but must be at least 1; the paper has 7 [2]");
    insta::assert_snapshot!(with("actor.responses=seven"), @r#"--set actor.responses=seven: `actor.responses` is "seven", but must be a whole number, 0 or more [2]"#);
    insta::assert_snapshot!(with("actor.responses=-1"), @"--set actor.responses=-1: `actor.responses` is -1, but must be a whole number, 0 or more [2]");
    insta::assert_snapshot!(with("judge.judgments=[3, 0]"), @"--set judge.judgments=[3, 0]: `judge.judgments` is 0, but must be at least 1; the paper has 11 [2]");
    insta::assert_snapshot!(with("train.keep=best"), @r#"--set train.keep=best: `train.keep` is "best", but must be "last" or an epoch, unless train.validation_share is over 0 [2]"#);
    insta::assert_snapshot!(with("train.keep=7"), @"--set train.keep=7: `train.keep` is 7, but must be an epoch from 1 to train.epochs, which is 3 [2]");
    insta::assert_snapshot!(with("train.lr_schedule=cosin"), @r#"--set train.lr_schedule=cosin: `train.lr_schedule` is "cosin", but must be one of cosine, linear, constant [2]"#);
    insta::assert_snapshot!(with("sft.enabled=maybe"), @r#"--set sft.enabled=maybe: `sft.enabled` is "maybe", but must be true or false [2]"#);
    insta::assert_snapshot!(with("engine.device=tpu"), @r#"--set engine.device=tpu: `engine.device` is "tpu", but must be "auto", "cpu", "cuda" or "cuda:0" [2]"#);
    insta::assert_snapshot!(with("rubric.options.template={ file = \"absent.txt\" }"), @r#"--set rubric.options.template={ file = "absent.txt" }: `rubric.options.template`: cannot read LAB/absent.txt: No such file or directory (os error 2) [2]"#);
}

#[test]
fn schedules_of_the_wrong_length() {
    insta::assert_snapshot!(with("actor.responses=[7, 7, 7]"), @"--set actor.responses=[7, 7, 7]: `actor.responses` lists 3 values for 2 iterations; write one value for all, or a list of 2 [2]");
    insta::assert_snapshot!(with("selector.actor.options.rho=[0, 0.1, 0.2]"), @"--set selector.actor.options.rho=[0, 0.1, 0.2]: `selector.actor.options.rho` lists 3 values for 2 iterations; write one value for all, or a list of 2 [2]");
}

#[test]
fn names_and_limits_of_plugins() {
    insta::assert_snapshot!(with("plugins.fuel=0"), @"--set plugins.fuel=0: `plugins.fuel` is 0, but must be at least 1 instruction [2]");
    insta::assert_snapshot!(with("plugins.memory_mib=0"), @"--set plugins.memory_mib=0: `plugins.memory_mib` is 0, but must be from 1 to 4096 MiB [2]");
    insta::assert_snapshot!(with("plugins.cache="), @r#"--set plugins.cache=: `plugins.cache` is empty, but must be "auto", "off" or the path of a folder [2]"#);
    insta::assert_snapshot!(with("plugins.folders=[\"\"]"), @r#"--set plugins.folders=[""]: `plugins.folders` is a list with an empty path, but must be paths of folders [2]"#);
    insta::assert_snapshot!(with("plugins.memory=10"), @"--set plugins.memory=10: unknown key `plugins.memory`; did you mean `plugins.memory_mib`? [2]");
    insta::assert_snapshot!(with("ranker.sha256=12ab"), @r#"--set ranker.sha256=12ab: `ranker.sha256` is "12ab", but must be 64 hexadecimal digits, as `sha256sum` prints them [2]"#);
    let hash = "0f".repeat(32);
    insta::assert_snapshot!(with(&format!("ranker.sha256={hash}")), @"--set ranker.sha256=0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f: `ranker.sha256` is given, but must be left out: `elo` is built in and has no file of its own [2]");
    insta::assert_snapshot!(with("ranker.sha=x"), @"--set ranker.sha=x: unknown key `ranker.sha`; did you mean `ranker.sha256`? [2]");
    insta::assert_snapshot!(with("meta_judge.plugin="), @"--set meta_judge.plugin=: `meta_judge.plugin` is empty, but must be the name of a built-in plugin, or the path of a file [2]");
    insta::assert_snapshot!(with("ranker.plugin=absent.wasm"), @"--set ranker.plugin=absent.wasm: `ranker`: plugin LAB/absent.wasm: cannot be read: No such file or directory (os error 2) [2]");
}

#[test]
fn files_of_plugins() {
    let mut lab = Lab::new();
    lab.write("elsewhere/mine.wasm", "no component");
    lab.write("mine.so", "no library");
    let hash = "0f".repeat(32);
    lab.set = vec![
        "plugins.folders=[\"nowhere\", \"elsewhere\"]".into(),
        "ranker.plugin=mine.wasm".into(),
        format!("ranker.sha256={hash}"),
    ];
    let text = refused(&lab);
    assert!(
        text.starts_with(&format!("--set ranker.sha256={hash}: `ranker.sha256`: plugin LAB/elsewhere/mine.wasm: ")),
        "{text}"
    );
    assert!(text.contains("has sha256 ") && text.contains("[2]"), "{text}");
    lab.set = vec!["ranker.plugin=mine.wasm".into()];
    let text = refused(&lab);
    assert!(text.contains("LAB/mine.wasm: cannot be read"), "the file is not looked for in other folders: {text}");
    lab.set = vec!["ranker.plugin=mine.so".into()];
    let text = refused(&lab);
    assert!(text.contains("`ranker.sha256`: plugin LAB/mine.so: is a dynamic library"), "{text}");
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
    insta::assert_snapshot!(said(&lab, &wrong.load().unwrap_err()), @"variable METAREWARD__ACTOR__RESPONSES: `actor.responses` is 0, but must be at least 1; the paper has 7 [2]");
}

#[test]
fn prompt_files() {
    insta::assert_snapshot!(with("task.options.prompts=absent.jsonl"), @"LAB/absent.jsonl: cannot be opened: No such file or directory (os error 2) [2]");
    let lab = Lab::new();
    lab.write("prompts.jsonl", "");
    insta::assert_snapshot!(refused(&lab), @"LAB/prompts.jsonl: holds no prompts [2]");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n{\"id\": \"b\", \"prompt\"\n");
    insta::assert_snapshot!(refused(&lab), @"LAB/prompts.jsonl:2: not a line of JSON: EOF while parsing an object at column 20 [2]");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n\n{\"id\": \"a\", \"prompt\": \"y\"}\n");
    insta::assert_snapshot!(refused(&lab), @"LAB/prompts.jsonl:3: prompt id `a` is taken by LAB/prompts.jsonl:1; give every prompt its own [2]");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"question\": \"x\"}\n");
    insta::assert_snapshot!(refused(&lab), @"LAB/prompts.jsonl:1: has neither a text `prompt` nor `turns` [2]");
    lab.write("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n");
    insta::assert_snapshot!(refused(&lab), @"task files: the pool has 1 prompts, 3 of them held out for evaluation, and an iteration takes 4; give more prompts, or lower prompts.per_iteration or evaluation.prompts [2]");
    insta::assert_snapshot!(with("task.options.judge_exampels=judge.jsonl"), @"--set task.options.judge_exampels=judge.jsonl: unknown key `task.options.judge_exampels`; did you mean `task.options.judge_examples`? [2]");
}

#[test]
fn prompts_too_long_for_the_model() {
    let mut lab = Lab::new();
    lab.context = 3;
    insta::assert_snapshot!(refused(&lab), @"prompt p0: the prompt has 3 tokens and the model's context is 3, which leaves no room for an answer; remove or shorten it [2]");
    lab.context = 5;
    insta::assert_snapshot!(refused(&lab), @"prompt p0: the judge's question about it has 5 tokens and the model's context is 5, which leaves no room for an answer; remove or shorten it [2]");
}

#[test]
fn templates_and_models() {
    insta::assert_snapshot!(with("rubric.options.template=JUDGE {{promt}} | {{response}}"), @"--set rubric.options.template=JUDGE {{promt}} | {{response}}: `rubric.options.template`: unknown placeholder `{{promt}}`; known placeholders: `{{prompt}}`, `{{response}}`, `{{criteria}}`, `{{closing}}`, `{{min}}`, `{{max}}` [2]");
    insta::assert_snapshot!(with("model.path=absent"), @"model folder LAB/absent: there is no such folder [2]");
    let lab = Lab::new();
    std::fs::remove_file(lab.root.path().join("model/model.safetensors")).unwrap();
    insta::assert_snapshot!(refused(&lab), @"model folder LAB/model: model.safetensors: No such file or directory (os error 2) [2]");
}

#[test]
fn run_folders_of_others() {
    let mut lab = Lab::new();
    lab.run().0.unwrap();
    lab.set = vec!["name=other".into()];
    insta::assert_snapshot!(refused(&lab), @"run folder LAB/run holds a run of `scripted`, not of `other`; choose another folder [2]");
    lab.set.clear();
    let lock = std::fs::File::open(lab.run_folder().join("lock")).unwrap();
    lock.lock().unwrap();
    insta::assert_snapshot!(refused(&lab), @"run folder LAB/run is in use by another process; wait for it or choose another folder [2]");
    let lab = Lab::new();
    lab.write("run/letters.txt", "mine");
    insta::assert_snapshot!(refused(&lab), @"LAB/run is not a run folder: it holds other files and no run.json; choose another folder [2]");
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
    assert!(
        !std::fs::read_dir(lab.run_folder().join("iteration-1/verdicts"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".partial") })
    );
}

#[test]
fn a_judge_that_cannot_be_read_is_a_clear_end() {
    let mut lab = Lab::new();
    lab.judge = Judge::Mute;
    lab.set = vec!["sft.enabled=false".into()];
    let (outcome, counts) = lab.run();
    insta::assert_snapshot!(said(&lab, &outcome.unwrap_err()), @"iteration 1 made no preference pairs, so there is nothing to train on: actor pairs (4 prompts: fewer than two candidates with a score), judge pairs (4 prompts: fewer than two candidates with a score) [1]");
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
