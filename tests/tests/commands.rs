//! The command line as a user meets it: small tools, and bad input, each with its own message and exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path, process::Output};

use metareward_tests::{metareward, root, text};

const MODEL: &str = "experiments/quickstart/seed-model";

/// One iteration of a few prompts.
const SMALL: [&str; 8] = [
    "iterations=1",
    "meta_judge.pairs=true",
    "selector.actor.options.rho=0.0",
    "actor.pairs=true",
    "prompts.per_iteration=8",
    "sft.enabled=false",
    "evaluation.prompts=0",
    "evaluation.judge_prompts=0",
];

fn run<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    metareward(arguments).output().unwrap()
}

/// Fails with this exit code and says all of `parts`.
fn refuses<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>, code: i32, parts: &[&str]) {
    let output = run(arguments);
    let (_, messages) = text(&output);
    assert_eq!(output.status.code(), Some(code), "{messages}");
    for part in parts {
        assert!(messages.contains(part), "{part:?} is not in\n{messages}");
    }
}

fn json(output: &Output) -> serde_json::Value {
    let (out, messages) = text(output);
    assert!(output.status.success(), "{messages}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}\n{out}"))
}

/// The quickstart with other settings, in a scratch run folder.
fn quickstart(scratch: &Path, set: &[&str]) -> Vec<String> {
    let mut arguments = vec!["run".to_owned(), "experiments/quickstart".to_owned(), "--run".to_owned()];
    arguments.push(scratch.join("run").to_string_lossy().into_owned());
    for set in set {
        arguments.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    arguments
}

#[test]
fn generate_is_repeatable_and_greedy_ignores_the_seed() {
    let ask = |extra: &[&str]| {
        let mut arguments = vec!["--json", "generate", "--model", MODEL, "--prompt", "reverse : owl key red sun"];
        arguments.extend(["--max-tokens", "12"]);
        arguments.extend(extra);
        json(&run(arguments))["answers"].clone()
    };
    let sampled = ask(&["-n", "3", "--seed", "5"]);
    assert_eq!(sampled.as_array().unwrap().len(), 3);
    assert_eq!(sampled, ask(&["-n", "3", "--seed", "5"]));
    // The second of three answers is the first of those that begin with its seed: company does not matter.
    assert_eq!(sampled[1], ask(&["--seed", "6"])[0]);
    assert_eq!(ask(&["--greedy", "--seed", "1"]), ask(&["--greedy", "--seed", "2"]));
    let short = json(&run([
        "--json",
        "generate",
        "--model",
        MODEL,
        "--prompt",
        "reverse : owl key red sun",
        "--max-tokens",
        "1",
    ]));
    assert_eq!(short["answers"][0]["finish"], "length");
    assert_eq!(short["answers"][0]["tokens"], 1);
}

#[test]
fn logprobs_sum_to_what_the_tokens_say_and_prefer_the_greedy_answer() {
    let ask = |completion: &str| {
        let arguments = [
            "--json",
            "logprobs",
            "--model",
            MODEL,
            "--prompt",
            "reverse : owl key red sun",
            "--completion",
            completion,
        ];
        json(&run(arguments))
    };
    let greedy =
        json(&run(["--json", "generate", "--model", MODEL, "--prompt", "reverse : owl key red sun", "--greedy"]));
    let answer = greedy["answers"][0]["text"].as_str().unwrap();
    let likely = ask(answer);
    let tokens = likely["tokens"].as_array().unwrap();
    let sum: f64 = tokens.iter().map(|token| token["logprob"].as_f64().unwrap()).sum();
    assert!((sum - likely["sum"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(tokens.len() as u64, greedy["answers"][0]["tokens"].as_u64().unwrap() + 1, "the end of the turn counts");
    assert!(sum > ask("sun sun sun sun sun")["sum"].as_f64().unwrap());
}

#[test]
fn doctor_says_what_was_found() {
    let found = json(&run(["--json", "doctor"]));
    assert!(found["libtorch"]["version"].as_str().unwrap().starts_with("2.11"));
    assert!(found["threads"].as_u64().unwrap() >= 1);
    assert!(found["free_disk_bytes"].as_u64().unwrap() > 0);
    let (people, _) = text(&run(["doctor"]));
    for line in ["libtorch", "cuda", "threads", "free disk", "wasm32-wasip2"] {
        assert!(people.contains(line), "{people}");
    }
}

#[test]
fn plan_of_the_papers_run_counts_the_papers_calls() {
    let plan = json(&run(["--json", "plan", "experiments/meta-rewarding-llama3-8b"]));
    let calls = |stage: &str, place: usize| {
        let stages = plan["stages"].as_array().unwrap();
        stages.iter().filter(|cost| cost["stage"] == stage).nth(place).unwrap()["calls"].as_u64().unwrap()
    };
    assert_eq!(calls("responses", 0), 35_000);
    assert_eq!(calls("judgments", 0), 385_000);
    assert_eq!(calls("verdicts", 1), 550_000);
    assert_eq!(plan["parameters"], 8_030_261_248u64);
    let (people, _) = text(&run(["plan", "experiments/meta-rewarding-llama3-8b"]));
    for word in ["calls", "tokens read", "disk", "memory: generating"] {
        assert!(people.contains(word), "{people}");
    }
}

#[test]
fn settings_are_refused_before_anything_starts() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |set: &str, parts: &[&str]| refuses(quickstart(scratch.path(), &[set]), 2, parts);
    refused("actor.respones=7", &["unknown key `actor.respones`", "did you mean `actor.responses`?"]);
    refused("actor.responses=0", &["`actor.responses` is 0", "at least 1"]);
    refused("actor.responses=\"many\"", &["actor.responses", "many"]);
    refused("train.keep=[1,2]", &["`train.keep` lists 2 values for 4 iterations"]);
    refused("model.path=nowhere", &["model.path", "nowhere", "seed-model"]);
    refused("selector.actor.options.rho=1.4", &["selector.actor.options.rho", "a number from 0 to 1, found 1.4"]);
    refused("ranker.plugin=\"ello\"", &["ello", "elo"]);
    refused("ranker.plugin=\"absent.wasm\"", &["`ranker`", "experiments/quickstart/absent.wasm", "cannot be read"]);
    refused("ranker.sha256=\"12ab\"", &["`ranker.sha256`", "64 hexadecimal digits"]);
    refused("plugins.fuel=0", &["`plugins.fuel` is 0", "at least 1 instruction"]);
    refused("rubric.options.template=\"{{promt}} {{response}}\"", &["template", "promt"]);
    assert!(!scratch.path().join("run").exists(), "nothing was written");
}

#[test]
fn prompt_files_are_refused_with_their_line() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("prompts.jsonl");
    let experiment = scratch.path().join("experiment.toml");
    let model = root().join(MODEL);
    let config = format!(
        "name = \"files\"\nsft.enabled = false\nprompts.per_iteration = 1\nmodel.path = \"{}\"\n[task]\nplugin = \"files\"\noptions = {{ prompts = \
         \"prompts.jsonl\" }}\n",
        model.display()
    );
    fs::write(&experiment, config).unwrap();
    let run_folder = scratch.path().join("run");
    let refused = |parts: &[&str]| {
        refuses([Path::new("run"), &experiment, Path::new("--run"), &run_folder], 2, parts);
        assert!(!run_folder.exists(), "nothing was written");
    };
    let with = |content: &str, parts: &[&str]| {
        fs::write(&path, content).unwrap();
        refused(parts);
    };
    with("", &["prompts.jsonl", "holds no prompts"]);
    with("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":", &["prompts.jsonl:2"]);
    with("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"a\",\"prompt\":\"y\"}", &["`a`", "prompts.jsonl:1"]);
    let long = format!("{{\"id\":\"long\",\"prompt\":\"{}\"}}", "owl ".repeat(400));
    with(&long, &["prompt long", "tokens", "context"]);
    fs::remove_file(&path).unwrap();
    refused(&["prompts.jsonl", "No such file"]);
}

#[test]
fn broken_model_folders_are_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(root().join(MODEL)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
        folder
    };
    let refused = |folder: &Path, parts: &[&str]| {
        let folder = folder.to_string_lossy().into_owned();
        refuses(["generate", "--model", folder.as_str(), "--prompt", "x"], 2, parts);
        refuses(quickstart(scratch.path(), &[&format!("model.path=\"{folder}\"")]), 2, parts);
    };
    let edit = |folder: &Path, file: &str, from: &str, to: &str| {
        let path = folder.join(file);
        let content = fs::read_to_string(&path).unwrap();
        assert!(content.contains(from), "{content}");
        fs::write(path, content.replace(from, to)).unwrap();
    };
    let folder = copy("no-weights");
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    refused(&folder, &["model.safetensors"]);
    let folder = copy("other-architecture");
    edit(&folder, "config.json", "LlamaForCausalLM", "MambaForCausalLM");
    refused(&folder, &["MambaForCausalLM", "LlamaForCausalLM"]);
    let folder = copy("wrong-shape");
    edit(&folder, "config.json", "\"intermediate_size\": 384", "\"intermediate_size\": 400");
    refused(&folder, &["mlp", "384", "400"]);
    let folder = copy("cut");
    let weights = folder.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    refused(&folder, &["model.safetensors"]);
    let folder = copy("no-template");
    edit(&folder, "tokenizer_config.json", "chat_template", "no_template");
    refused(&folder, &["chat template"]);
}

#[test]
fn run_folders_that_are_not_ours_are_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    refuses(quickstart(scratch.path(), &[]), 2, &["is not a run folder", "choose another folder"]);
    fs::write(folder.join("run.json"), "{\"name\":\"other\",\"format\":1}").unwrap();
    refuses(quickstart(scratch.path(), &[]), 2, &["holds a run of `other`, not of `quickstart`"]);
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    fs::write(folder.join("run.json"), "{\"name\":\"quickstart\",\"format\":1}").unwrap();
    refuses(quickstart(scratch.path(), &[]), 2, &["in use by another process"]);
    assert_eq!(fs::read_to_string(folder.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_run_goes_on_with_another_plugin_only_when_told_to() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = quickstart(scratch.path(), &SMALL);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", text(&output).1);
    // As if the folder had been made with another release of the ranker.
    let path = scratch.path().join("run/run.json");
    let mut record: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let plugins = record["plugins"].as_array_mut().unwrap();
    let ranker = plugins.iter_mut().find(|plugin| plugin["section"] == "ranker").unwrap();
    let version = ranker["iterations"][0]["info"]["version"].as_str().unwrap().to_owned();
    ranker["iterations"][0]["info"]["version"] = "0.0.1".into();
    fs::write(&path, record.to_string()).unwrap();
    refuses(&arguments, 2, &["ranker of [ranker] was `elo` 0.0.1", &version, "--accept-changed-plugins"]);

    let accepting = arguments.iter().cloned().chain(["--accept-changed-plugins".to_owned()]);
    let output = run(accepting);
    let (_, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(messages.contains("all kept from before"), "{messages}");
    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(record["plugin_changes"][0]["change"]["before"]["version"], "0.0.1");
    assert_eq!(record["plugin_changes"][0]["change"]["after"]["version"], version);
    assert!(run(&arguments).status.success(), "what was accepted stays accepted");
}

/// The limit stands for a disk that is full: the system refuses to let a file grow over it.
#[test]
fn a_full_disk_says_so_and_the_run_goes_on_afterwards() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = quickstart(scratch.path(), &SMALL);
    let line = format!(
        "ulimit -f 64; trap '' XFSZ; exec {} {}",
        metareward_tests::binary().display(),
        arguments.iter().map(|argument| format!("'{argument}'")).collect::<Vec<_>>().join(" ")
    );
    let output = std::process::Command::new("bash").current_dir(root()).args(["-c", &line]).output().unwrap();
    let (_, messages) = text(&output);
    assert_eq!(output.status.code(), Some(4), "{messages}");
    assert!(messages.contains("no space left") || messages.contains("File too large"), "{messages}");
    let output = run(&arguments);
    assert!(output.status.success(), "{}", text(&output).1);
    assert!(scratch.path().join("run/iteration-1/model/model.safetensors").is_file());
}
