//! The loop on a folder of the shape that people bring: 13 M random parameters, Llama 3's template, real prompts.
//!
//! Needs the reference data beside the repository and, in `METAREWARD_PYTHON`, a Python with transformers to make the
//! folder; says so and passes where one of them is missing. `cargo selftest --references` provides the Python.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use metareward_tests::{hashes, metareward, root, shared_data, text};

struct Real {
    scratch: tempfile::TempDir,
    model: PathBuf,
    prompts: [PathBuf; 2],
}

fn real() -> Option<Real> {
    let Some(data) = shared_data() else {
        println!("skipped: no reference data beside the repository");
        return None;
    };
    let Some(python) = std::env::var_os("METAREWARD_PYTHON") else {
        println!("skipped: METAREWARD_PYTHON names no Python with transformers");
        return None;
    };
    let scratch = tempfile::tempdir().unwrap();
    let model = scratch.path().join("model");
    let prompts = ["mt_bench", "arena_hard_v0.1"].map(|name| data.join(format!("prompts/{name}.jsonl")));
    let made = Command::new(python)
        .arg(root().join("experiments/real-shape/make_model.py"))
        .arg(&model)
        .arg("--template")
        .arg(data.join("chat_templates/llama3.jinja"))
        .arg("--prompts")
        .args(&prompts)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made).1);
    Some(Real { scratch, model, prompts })
}

impl Real {
    fn run(&self, folder: &Path, set: &[&str]) -> std::process::Output {
        let mut command = metareward(["run", "experiments/real-shape", "--run"]);
        command.arg(folder);
        let prompts = self.prompts.each_ref().map(|path| format!("\"{}\"", path.display())).join(",");
        command.args(["--set", &format!("model.path=\"{}\"", self.model.display())]);
        command.args(["--set", &format!("task.options.prompts=[{prompts}]")]);
        for set in set {
            command.args(["--set", set]);
        }
        command.output().unwrap()
    }
}

#[test]
fn noise_gives_clear_figures_no_pairs_and_a_clear_end() {
    let Some(real) = real() else { return };
    let folder = real.scratch.path().join("run");
    let output = real.run(&folder, &[]);
    let (_, messages) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("made no preference pairs"), "{messages}");
    assert!(messages.contains("unreadable"), "{messages}");

    // The template's special tokens frame a text and are never part of it, and no answer is longer than it may be.
    let responses = stage(&folder, "responses");
    assert_eq!(responses.len(), 8 * 3);
    for response in &responses {
        assert!(response["tokens"].as_u64().unwrap() <= 64);
        let text = response["text"].as_str().unwrap();
        assert!(!text.contains("<|eot_id|>") && !text.contains("<|begin_of_text|>"), "{text}");
        if response["finish"] == "length" {
            assert_eq!(response["tokens"], 64);
        }
    }
    let judgments = stage(&folder, "judgments");
    assert_eq!(judgments.len(), 8 * 3 * 3);
    let unreadable = judgments.iter().filter(|judgment| judgment["score"].is_null()).count();
    assert!(unreadable * 10 > judgments.len() * 9, "{unreadable} of {}", judgments.len());
    for judgment in judgments.iter().filter(|judgment| judgment["score"].is_null()) {
        assert!(judgment["unreadable"].is_string(), "{judgment}");
    }

    // The same command again computes nothing and ends the same way.
    let before = hashes(&folder, &|path| path.starts_with("iteration-1"));
    let again = real.run(&folder, &[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).1.contains("all kept from before"), "{}", text(&again).1);
    assert_eq!(hashes(&folder, &|path| path.starts_with("iteration-1")), before);
}

#[test]
fn a_context_too_short_for_the_prompts_is_refused_by_name() {
    let Some(real) = real() else { return };
    let config = real.model.join("config.json");
    let text_of = fs::read_to_string(&config).unwrap();
    fs::write(&config, text_of.replace("\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 64"))
        .unwrap();
    let output = real.run(&real.scratch.path().join("run"), &[]);
    let (_, messages) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains("tokens and the model's context is 64"), "{messages}");
}

/// All records of a finished stage of the first iteration.
fn stage(folder: &Path, name: &str) -> Vec<serde_json::Value> {
    let stage = folder.join("iteration-1").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&stage).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
