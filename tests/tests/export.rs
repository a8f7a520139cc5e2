//! `metareward export`: read again here, and loaded by the tools that the files are for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use metareward_tests::{metareward, root, text};
use serde_json::Value;

/// Texts that have broken readers before.
const HOSTILE: [&str; 8] = [
    "a \"quote\", a comma,\r\na line\nand another",
    "nul\0inside",
    "\u{202e}right to left\u{200f} and \u{feff}marks",
    "</script><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "tab\tescape\u{1b}[31m bell\u{7}",
    "\\n \\\" \\u0000 {{braces}} %s ${x}",
    "🧪🏽‍🔬 e\u{301}",
];

/// A finished short run, whose pairs have hostile texts.
fn run(folder: &Path) {
    let mut command = metareward(["run", "experiments/quickstart", "--no-report", "--run"]);
    command.arg(folder);
    for set in [
        "iterations=1",
        "actor.pairs=true",
        "meta_judge.pairs=true",
        "selector.actor.options.rho=0.0",
        "prompts.per_iteration=24",
        "sft.judge_examples=96",
        "sft.train.epochs=1",
        "train.epochs=1",
        "evaluation.prompts=8",
        "evaluation.judge_prompts=4",
    ] {
        command.args(["--set", set]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    for (place, key) in [("iteration-1/pairs", "chosen"), ("evaluation/M1/responses", "text")] {
        let mut next = 0;
        for shard in shards(&folder.join(place)) {
            let lines: String = fs::read_to_string(&shard)
                .unwrap()
                .lines()
                .map(|line| {
                    let mut record: Value = serde_json::from_str(line).unwrap();
                    let hostile = Value::from(HOSTILE[next % HOSTILE.len()]);
                    next += 1;
                    if key == "chosen" {
                        record["chosen"]["text"] = hostile
                    } else {
                        record[key] = hostile
                    }
                    record.to_string() + "\n"
                })
                .collect();
            fs::write(shard, lines).unwrap();
        }
        assert!(next >= HOSTILE.len(), "{place} has {next} records");
    }
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    found.sort();
    found
}

fn export(run: &Path, format: &str) -> (PathBuf, Value) {
    let output = metareward(["--json", "export", "--format", format]).arg(run).output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    (run.join(format!("export-{format}")), serde_json::from_str(out.trim()).unwrap())
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_written_is_what_the_run_holds() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    run(&folder);
    let pairs: Vec<Value> = shards(&folder.join("iteration-1/pairs")).iter().flat_map(|path| lines(path)).collect();

    let (to, written) = export(&folder, "trl");
    let exported = lines(&to.join("pairs-1.jsonl"));
    assert_eq!(exported.len(), pairs.len());
    for (exported, pair) in exported.iter().zip(&pairs) {
        assert_eq!(exported["prompt"], pair["messages"]);
        assert_eq!(exported["chosen"], serde_json::json!([{ "role": "assistant", "content": pair["chosen"]["text"] }]));
        assert_eq!(exported["score_rejected"], pair["rejected"]["score"]);
        assert_eq!(exported["kind"], pair["kind"]);
    }
    let script = fs::read_to_string(to.join("train_trl-1.py")).unwrap();
    let config: Value = serde_json::from_str(&fs::read_to_string(folder.join("run.json")).unwrap()).unwrap();
    let rate = config["config"]["train"]["learning_rate"].as_f64().unwrap();
    assert!(script.contains(&format!("learning_rate={rate}")), "{script}");
    assert!(!script.contains("@RUN@") && script.contains("loss_type=\"sigmoid\""), "{script}");
    assert!(written["remarks"].to_string().contains("accelerate launch"), "{written}");

    let (to, _) = export(&folder, "alpaca-eval");
    let outputs: Vec<Value> = serde_json::from_str(&fs::read_to_string(to.join("M1.json")).unwrap()).unwrap();
    assert_eq!(outputs.len(), 8);
    assert!(outputs.iter().all(|output| HOSTILE.contains(&output["output"].as_str().unwrap())));
    assert_eq!(outputs[0]["generator"], "quickstart-1-M1");

    let (parquet, _) = export(&folder, "parquet");
    let (csv, written) = export(&folder, "csv");
    assert_eq!(written["files"].as_array().unwrap().len(), 5, "{written}");
    let text = fs::read_to_string(csv.join("pairs.csv")).unwrap();
    assert!(text.starts_with("iteration,kind,prompt,") && text.ends_with("\r\n"));
    assert!(text.contains("\"a \"\"quote\"\", a comma,\r\na line\nand another\""), "{text}");

    let again = fs::read(parquet.join("pairs.parquet")).unwrap();
    assert_eq!(&again[..4], b"PAR1");
    export(&folder, "parquet");
    assert_eq!(fs::read(parquet.join("pairs.parquet")).unwrap(), again, "the same run gives the same bytes");

    // The card that the run wrote beside its models.
    let card = fs::read_to_string(folder.join("iteration-1/model/README.md")).unwrap();
    assert!(card.starts_with("---\n") && card.contains("library_name: transformers"), "{card}");
    assert!(!card.contains(&scratch.path().display().to_string()), "{card}");

    let refused = metareward(["export", "--format", "csv", "--iteration", "7"]).arg(&folder).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(self::text(&refused).1.contains("there is no iteration 7; the run has 1"));

    loaded_by_others(&folder);
}

const LOAD: &str = r#"
import csv, glob, json, sys
run = sys.argv[1]
def records(part):
    return [json.loads(line) for path in sorted(glob.glob(f"{run}/{part}/*.jsonl")) for line in open(path, encoding="utf-8", newline="")]
pairs, responses = records("iteration-1/pairs"), records("evaluation/M1/responses")
wanted = [pair["chosen"]["text"] for pair in pairs]

import pandas, pyarrow.parquet
table = pyarrow.parquet.read_table(f"{run}/export-parquet/pairs.parquet").to_pylist()
assert [row["chosen"] for row in table] == wanted
assert [row["chosen_score"] for row in table] == [pair["chosen"]["score"] for pair in pairs]
assert [row["response"] for row in table] == [pair.get("response") for pair in pairs]
frame = pandas.read_parquet(f"{run}/export-parquet/responses.parquet")
assert list(frame[frame.part == "evaluation/M1"].text) == [response["text"] for response in responses]
frame = pandas.read_csv(f"{run}/export-csv/pairs.csv", keep_default_na=False)
assert list(frame.chosen) == wanted
assert [row["chosen"] for row in csv.DictReader(open(f"{run}/export-csv/pairs.csv", encoding="utf-8", newline=""))] == wanted

import datasets
loaded = datasets.load_dataset("json", data_files=f"{run}/export-trl/pairs-1.jsonl", split="train")
assert [row["chosen"][0]["content"] for row in loaded] == wanted
assert datasets.load_dataset("parquet", data_files=f"{run}/export-parquet/pairs.parquet", split="train")["chosen"][:] == wanted
outputs = pandas.read_json(f"{run}/export-alpaca-eval/M1.json")
assert set(outputs.columns) == {"instruction", "output", "generator"}

from huggingface_hub import ModelCard
card = ModelCard.load(f"{run}/iteration-1/model/README.md")
assert card.data.library_name == "transformers" and "metareward" in card.data.tags, card.data
"#;

/// Loads everything with pyarrow, pandas, datasets and the hub's library, and takes a step of TRL's DPOTrainer.
fn loaded_by_others(run: &Path) {
    let Some(python) = std::env::var_os("METAREWARD_PYTHON") else {
        println!("skipped: METAREWARD_PYTHON names no Python with pandas, pyarrow, datasets and trl");
        return;
    };
    let there = "import accelerate, datasets, pandas, pyarrow, trl";
    if !Command::new(&python).args(["-c", there]).output().unwrap().status.success() {
        let required = std::env::var("METAREWARD_REFERENCES").is_ok_and(|value| value == "required");
        assert!(!required, "METAREWARD_PYTHON lacks one of pandas, pyarrow, datasets, trl and accelerate");
        println!("skipped: METAREWARD_PYTHON lacks one of pandas, pyarrow, datasets, trl and accelerate");
        return;
    }
    let cache = run.join("cache");
    let done = |command: &mut Command| {
        let output = command.env("HF_HOME", &cache).env("HF_HUB_OFFLINE", "1").output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
    };
    done(Command::new(&python).args(["-c", LOAD]).arg(run));
    done(
        Command::new(&python)
            .arg(run.join("export-trl/train_trl-1.py"))
            .arg("--model")
            .arg(root().join("experiments/quickstart/seed-model"))
            .arg("--output")
            .arg(run.join("trained"))
            .args(["--max-steps", "1"])
            .env("CUDA_VISIBLE_DEVICES", ""),
    );
    assert!(run.join("trained/model.safetensors").is_file());
}
