//! `[train] command`: a step by another trainer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use metareward_tests::{metareward, text};
use serde_json::Value;

/// The quickstart in short, with one training.
fn run(folder: &Path, command: Option<&str>, set: &[&str]) -> Command {
    let mut run = metareward(["run", "experiments/quickstart", "--no-report", "--run"]);
    run.arg(folder);
    let short = [
        "iterations=1",
        "actor.responses=4",
        "judge.judgments=3",
        "meta_judge.pairs=true",
        "selector.actor.options.rho=0.0",
        "prompts.per_iteration=16",
        "prompts.shard_size=8",
        "sft.enabled=false",
        "evaluation.prompts=0",
        "evaluation.judge_prompts=0",
        "train.epochs=1",
        "train.batch_size=8",
        "pairs.judge_share=1.0",
    ];
    for set in short.iter().chain(set) {
        run.args(["--set", set]);
    }
    if let Some(command) = command {
        run.arg("--set").arg(format!("train.command={}", Value::from(command)));
    }
    run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run
}

/// The message of a run that must fail.
fn refused(folder: &Path, command: &str, set: &[&str]) -> String {
    let output = run(folder, Some(command), set).output().unwrap();
    let (_, messages) = text(&output);
    assert!(!output.status.success(), "{messages}");
    messages
}

fn trained(folder: &Path) -> Value {
    let text = fs::read(folder.join("iteration-1/training/stage.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn a_command_is_checked_run_and_believed_only_after_a_look() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let message = refused(&folder, "train {model} {output}", &[]);
    assert!(message.contains("`train.command` is without {data}"), "{message}");
    let message = refused(&folder, "train {modle} {model} {data} {output}", &[]);
    assert!(message.contains("did you mean {model}?"), "{message}");
    let message = refused(&folder, "train {model} {data} {output}", &["train.validation_share=0.2"]);
    assert!(message.contains("`train.validation_share`"), "{message}");
    assert!(!folder.exists());

    let message = refused(&folder, "echo no such luck >&2; exit 3 # {model} {data} {output}", &[]);
    assert!(message.contains("exit status: 3") && message.contains("no such luck"), "{message}");
    assert!(fs::read_to_string(folder.join("iteration-1/training/command.log")).unwrap().contains("no such luck"));
    let message = refused(&folder, "sleep 60 # {model} {data} {output}", &["train.command_hours=1e-4"]);
    assert!(message.contains("took longer than"), "{message}");
    let message = refused(&folder, "true {model} {data} {output}", &[]);
    assert!(message.contains("left what cannot be taken up: config.json"), "{message}");
    let broken = "cp {model}/* {output}/ && truncate -s -100 {output}/model.safetensors # {data}";
    let message = refused(&folder, broken, &[]);
    assert!(message.contains("model.safetensors is cut"), "{message}");
    assert!(!folder.join("iteration-1/model").exists(), "nothing of it was taken up");

    // One that works: it counts its pairs, sees its settings, and leaves the model as it was.
    let good =
        "cp {model}/* {output}/ && wc -l < {data} >> {output}/../count && echo $METAREWARD_LEARNING_RATE {batch_size}";
    let output = run(&folder, Some(good), &[]).output().unwrap();
    let (_, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    let stage = trained(&folder);
    let pairs = stage["records"].as_u64().unwrap();
    let log = fs::read_to_string(folder.join("iteration-1/training/command.log")).unwrap();
    assert!(log.contains(&format!("0.0001 {}", pairs.min(8))), "{log}");
    assert!(stage["statistics"].to_string().contains("\"first_loss\":null"), "nobody said a loss: {stage}");
    let same = |name: &str| {
        let made = fs::read(folder.join("iteration-1/model").join(name)).unwrap();
        made == fs::read(metareward_tests::root().join("experiments/quickstart/seed-model").join(name)).unwrap()
    };
    assert!(same("model.safetensors") && same("tokenizer.json"));
    let count = || fs::read_to_string(folder.join("iteration-1/training/count")).unwrap();
    assert_eq!(count().trim(), pairs.to_string());
    // Again: nothing is trained again. With another command it is another training.
    assert!(run(&folder, Some(good), &[]).output().unwrap().status.success());
    assert_eq!(count().lines().count(), 1);
    let other = format!("{good} again");
    assert!(run(&folder, Some(&other), &[]).output().unwrap().status.success());
    assert!(fs::read_to_string(folder.join("iteration-1/training/command.log")).unwrap().contains("again"));
}

#[test]
fn ctrl_c_ends_the_command_too() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let command = "echo $$ > {output}/../pid; sleep 600 & wait # {model} {data}";
    let child = run(&folder, Some(command), &[]).spawn().unwrap();
    let file = folder.join("iteration-1/training/pid");
    let begun = Instant::now();
    while !file.exists() && begun.elapsed() < Duration::from_secs(120) {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output).1);
    let process = fs::read_to_string(file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

/// The script that `export --format trl` writes takes one real step.
#[test]
fn trl_takes_a_step() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
    let output = run(&first, None, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    let exported = metareward(["export", "--format", "trl", "-o"]).arg(scratch.path()).arg(&first).output().unwrap();
    assert!(exported.status.success(), "{}", text(&exported).1);
    let script = scratch.path().join("train_trl-1.py");
    let command = format!(
        "CUDA_VISIBLE_DEVICES= exec {} {} --model {{model}} --data {{data}} --output {{output}} --per-device-batch-size 4 --max-steps 1",
        python.display(),
        script.display()
    );
    let output = run(&second, Some(&command), &[]).output().unwrap();
    let (_, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    let stage = trained(&second);
    let statistics = stage["statistics"].to_string();
    assert!(statistics.contains("\"steps\":1"), "{statistics}");
    let loss = stage["statistics"].as_object().unwrap().values().find_map(|value| value.get("first_loss")?.as_f64());
    let loss = loss.or_else(|| stage["statistics"]["first_loss"].as_f64()).expect("TRL says its loss");
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-3, "{loss}");
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    let seed = metareward_tests::root().join("experiments/quickstart/seed-model");
    assert_ne!(weights(&second.join("iteration-1/model")), weights(&seed));
    println!("TRL's first loss: {loss}");
}

/// A Python with TRL, or `None` with a message.
fn python() -> Option<PathBuf> {
    let required = std::env::var("METAREWARD_REFERENCES").is_ok_and(|value| value == "required");
    let why = match std::env::var_os("METAREWARD_PYTHON") {
        None => "METAREWARD_PYTHON names no Python",
        Some(python) => {
            if Command::new(&python).args(["-c", "import trl, datasets"]).output().unwrap().status.success() {
                return Some(python.into());
            }
            "the Python of METAREWARD_PYTHON has no trl"
        }
    };
    assert!(!required, "{why}");
    println!("skipped: {why}");
    None
}
