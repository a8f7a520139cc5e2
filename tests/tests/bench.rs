//! `metareward bench`, and what `plan` makes of it: counted against a run of the same experiment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use metareward_tests::{metareward, text};
use serde_json::Value;

/// The quickstart, shorter in every dimension.
const SHORT: [&str; 8] = [
    "iterations=1",
    "meta_judge.pairs=true",
    "selector.actor.options.rho=0.0",
    "prompts.per_iteration=24",
    "prompts.shard_size=24",
    "sft.judge_examples=64",
    "sft.demonstrations=32",
    "evaluation.prompts=0",
];

fn json(arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    if arguments.contains(&"experiments/quickstart") {
        all.extend(SHORT.iter().flat_map(|set| ["--set", set]));
        all.extend(["--set", "evaluation.judge_prompts=0"]);
    }
    let output = metareward(&all).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    let first = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(first.lines().next().unwrap()).unwrap()
}

#[test]
fn a_pool_of_servers_from_a_file() {
    let file = "core/remote/distributions/assumed-8b.toml";
    let shown = json(&["bench", "pool", "--distribution", file, "--servers", "16", "--requests", "60000"]);
    let outcome = &shown["outcome"];
    assert_eq!(outcome["answered"], 60_000, "{outcome}");
    assert!(outcome["busy"].as_f64().unwrap() >= 0.95, "{outcome}");
    assert!(outcome["coordinator_seconds"].as_f64().unwrap() < outcome["seconds"].as_f64().unwrap(), "{outcome}");
    let output = metareward(["bench", "pool", "--distribution", "README.md"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// Figures of a stage that a run finished: answers, tokens written, tokens computed.
fn counted(run: &Path, stage: &str) -> (f64, f64, f64) {
    let events = fs::read_to_string(run.join("events.jsonl")).unwrap();
    let finished = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|event| {
        event["event"] == "stage-finished" && event["stage"] == stage && event["place"]["iteration"] == 1
    });
    let finished = finished.unwrap_or_else(|| panic!("no {stage}"));
    let mut written = 0.0;
    for entry in fs::read_dir(run.join("iteration-1").join(stage)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            let text = fs::read_to_string(path).unwrap();
            let tokens = |line: &str| serde_json::from_str::<Value>(line).unwrap()["tokens"].as_f64().unwrap_or(0.0);
            written += text.lines().map(tokens).sum::<f64>();
        }
    }
    (finished["records"].as_f64().unwrap(), written, finished["tokens"].as_f64().unwrap())
}

#[test]
fn a_plan_with_measured_lengths_counts_what_a_run_does() {
    let scratch = tempfile::tempdir().unwrap();
    let (run, file) = (scratch.path().join("run"), scratch.path().join("engine.toml"));
    let figures = json(&[
        "bench",
        "engine",
        "experiments/quickstart",
        "--repeats",
        "1",
        "--steps",
        "2",
        "-o",
        file.to_str().unwrap(),
    ]);
    assert_eq!(figures["prompts"], 24);
    assert!(figures["training"]["tokens_per_second"]["median"].as_f64().unwrap() > 0.0);
    let plan = json(&["plan", "experiments/quickstart", "--engine", file.to_str().unwrap()]);
    let mut arguments = vec!["run", "experiments/quickstart", "--no-report", "--run", run.to_str().unwrap()];
    arguments.extend(SHORT.iter().flat_map(|set| ["--set", set]));
    arguments.extend(["--set", "evaluation.judge_prompts=0"]);
    let output = metareward(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    for (stage, kind) in [("responses", "responses"), ("judgments", "judgments"), ("verdicts", "verdicts")] {
        let planned = plan["stages"].as_array().unwrap().iter();
        let planned =
            planned.into_iter().find(|cost| cost["stage"] == kind && cost["place"]["iteration"] == 1).unwrap();
        let number = |key: &str| planned[key].as_f64().unwrap();
        let (records, written, computed) = counted(&run, stage);
        println!(
            "{stage}: calls {} of {records}, written {} of {written}, read and written {} of {computed}",
            number("calls"),
            number("tokens_written"),
            number("tokens_read") + number("tokens_written")
        );
        // Equal responses are judged once, and unreadable judgments meet no other: a plan is an upper bound of the calls.
        assert!(number("calls") >= records && number("calls") <= 1.5 * records, "{stage}");
        // Both are exact counts of the same texts' lengths on other draws, by a model before and one after fine-tuning.
        let ratio = number("tokens_written") / written;
        assert!((0.5..2.0).contains(&ratio), "{stage}: {ratio}");
        // A run computes less: equal judgments are one conversation, and draws of a prompt that agree so far are one row.
        let ratio = (number("tokens_read") + number("tokens_written")) / computed;
        assert!((0.9..12.0).contains(&ratio), "{stage}: {ratio}");
    }
    assert!(plan["time"]["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_config_alone_can_be_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("config.json");
    fs::write(
        &config,
        r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000,
            "max_position_embeddings": 512, "tie_word_embeddings": true}"#,
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let here = scratch.path().to_str().unwrap();
    let figures = json(&[
        "bench",
        "engine",
        "experiments/quickstart",
        "--random-weights",
        config,
        "--prompts",
        "2",
        "--repeats",
        "2",
        "--steps",
        "1",
        "--scratch",
        here,
    ]);
    assert_eq!(figures["random_weights"], true);
    assert!(figures["lengths"]["response"].is_null(), "random weights say nothing about lengths");
    for kind in ["responses", "judgments", "verdicts"] {
        let drawn = &figures[kind];
        let figure = |key: &str| ["low", "median", "high"].map(|end| drawn[key][end].as_f64().unwrap());
        for key in ["reading", "writing", "overall"] {
            let [low, median, high] = figure(key);
            assert!(0.0 < low && low <= median && median <= high, "{kind} {key}: {drawn}");
        }
    }
    // Nothing is left where it measured.
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}
