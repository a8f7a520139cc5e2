//! `metareward sweep` through the binary, on the quickstart in a shortened form: refused, planned, killed, gone on with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use metareward_tests::{hashes, metareward, text};
use serde_json::Value;

/// Shorter in every dimension.
const SHORT: [&str; 11] = [
    "iterations=1",
    "actor.pairs=true",
    "meta_judge.pairs=false",
    "selector.actor.options.rho=0.0",
    "prompts.per_iteration=24",
    "prompts.shard_size=8",
    "sft.judge_examples=96",
    "sft.train.epochs=1",
    "train.epochs=1",
    "evaluation.prompts=16",
    "evaluation.judge_prompts=8",
];

const GRID: &str = "selector.actor.options.rho=0.0,0.4";
const RUNS: [&str; 4] = ["rho=0.0_seed=1", "rho=0.4_seed=1", "rho=0.0_seed=2", "rho=0.4_seed=2"];

fn command(first: &str, to: (&str, &Path), rest: &[&str]) -> Command {
    let mut command = metareward([first, "experiments/quickstart", to.0]);
    command.arg(to.1).args(rest);
    for set in SHORT {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn sweep(folder: &Path, rest: &[&str]) -> Command {
    command("sweep", ("--folder", folder), rest)
}

fn results(folder: &Path) -> BTreeMap<PathBuf, String> {
    hashes(folder, &|path| ["sft", "evaluation", "iteration-1"].iter().any(|part| path.starts_with(part)))
}

/// How many stages a sweep has finished. Folders come and go meanwhile.
fn stages(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |entry: fs::DirEntry| if entry.file_name() == "stage.json" { 1 } else { stages(&entry.path()) };
    entries.flatten().map(count).sum()
}

#[test]
fn a_bad_grid_is_refused_and_a_plan_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("sweep");
    let output = sweep(&folder, &["selector.actor.options.rho=0.0,0.4", "train.learning_rat=1,2"]).output().unwrap();
    let (out, messages) = text(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{messages}");
    assert!(messages.contains("grid argument train.learning_rat=1: unknown key"), "{messages}");
    assert!(messages.contains("did you mean `train.learning_rate`?"), "{messages}");
    let output = sweep(&folder, &[GRID, "--seeds", "2", "--dry-run"]).output().unwrap();
    let (plan, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(RUNS.iter().all(|run| plan.contains(run)), "{plan}");
    assert!(plan.contains("4 runs, 0 of them finished"), "{plan}");
    assert!(!folder.exists());
    let output = sweep(&folder, &[GRID, "--dry-run", "--json"]).output().unwrap();
    let plan: Value = serde_json::from_str(text(&output).0.trim()).unwrap();
    let runs = plan["plan"]["runs"].as_array().unwrap();
    assert_eq!(runs[0]["own"].as_array().unwrap().len(), runs[0]["stages"].as_u64().unwrap() as usize);
    let own = runs[1]["own"].as_array().unwrap();
    assert_eq!((&own[0][0]["iteration"], &own[0][1]), (&Value::from(1), &Value::from("pairs")), "{own:?}");
}

/// Kills a sweep four times and goes on; each run ends as `metareward run` alone would leave it.
#[test]
fn killed_and_gone_on_with_it_ends_like_its_runs_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("sweep");
    let arguments = [GRID, "--seeds", "2"];
    let mut killed = 0;
    for _ in 0..4 {
        let before = stages(&folder);
        let mut child = sweep(&folder, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while stages(&folder) < before + 8 && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert_eq!(killed, 4, "kills came after the end");
    let output = sweep(&folder, &arguments).output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(messages.contains("taken over from another run"), "{messages}");
    for part in ["mean over 2 seeds", "Differences from rho=0.0: M1", "rho=0.4 against rho=0.0: M1", "n counts seeds"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for run in RUNS {
        let alone = scratch.path().join("alone").join(run);
        let (rho, seed) = run.split_once("_seed=").unwrap();
        let set = [format!("selector.actor.options.{rho}"), format!("seed={seed}")];
        let rest = ["--set", &set[0], "--set", &set[1], "--no-report"];
        // `--set` of the sweep's arguments come after; the last one wins.
        let mut command = metareward(["run", "experiments/quickstart", "--run"]);
        command.arg(&alone);
        SHORT.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        let output = command.args(rest).output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
        assert_eq!(results(&folder.join(run)), results(&alone), "{run}");
    }
    let page = fs::read_to_string(folder.join("compare.html")).unwrap();
    assert!(page.contains("rho=0.4_seed=2"));
    let comparison: Value = serde_json::from_str(&fs::read_to_string(folder.join("comparison.json")).unwrap()).unwrap();
    assert_eq!(comparison["seeds"], serde_json::json!([1, 2]));
    assert_eq!(comparison["last"]["rows"].as_array().unwrap().len(), 2);
    let first = &comparison["cells"][0]["table"]["rows"][0]["cells"][0];
    assert_eq!(first["n"], 2, "{first}");
    // Once more: nothing is run, and the same is printed.
    let again = sweep(&folder, &arguments).output().unwrap();
    let after_plan = |text: &str| text.split_once("stages are computed").map(|(_, rest)| rest.to_owned()).unwrap();
    assert_eq!(after_plan(&text(&again).0), after_plan(&out));
    assert!(!text(&again).1.contains("run 1 of"), "{}", text(&again).1);
}
