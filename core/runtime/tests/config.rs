//! The paper's configuration can be written down, is resolved per iteration, and can be planned without weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use metareward_runtime::{Experiment, Keep, Layers, Place, Stage};
use scripted::Lab;

const PAPER: &str = r#"
name = "paper"
[model]
id = "some/model"
shape = { parameters = 8_030_261_248, layers = 32, hidden = 4096, cache_bytes_per_token = 131072, context = 8192, vocabulary = 128256 }
[task.options]
prompts = "prompts-that-are-not-here.jsonl"
[sft.train]
keep = 5
[train]
keep = [6, 4, 2, 2]
[meta_judge]
pairs = [true, true, false, false]
[selector.actor.options]
rho = [0, 0.32, 0.32, 0.4]
max_chosen_length = [2500, "none", "none", "none"]
[selector.judge.options]
max_chosen_length = [1100, 1000, "none", "none"]
"#;

fn paper() -> (Lab, Experiment) {
    let lab = Lab::new();
    lab.write("paper.toml", PAPER);
    let experiment = Experiment::open(&Layers::file(lab.root.path().join("paper.toml")), lab.registry).unwrap();
    (lab, experiment)
}

#[test]
fn the_papers_table_is_a_config() {
    let (_lab, experiment) = paper();
    let config = experiment.config();
    assert_eq!(config.train.keep.at(1), Some(&Keep::Epoch(6)));
    assert_eq!((config.actor.responses.at(1), config.judge.judgments.at(4)), (Some(&7), Some(&11)));
    let options = |section: &str, index: usize, key: &str| {
        let plugin = experiment.plugins().iter().find(|plugin| plugin.section == section).unwrap();
        plugin.iterations[index].options[key].clone()
    };
    assert_eq!(options("selector.actor", 3, "rho"), 0.4);
    assert_eq!(options("selector.actor", 0, "max_chosen_length"), 2500);
    assert!(options("selector.actor", 1, "max_chosen_length").is_null());
    assert_eq!(options("selector.judge", 1, "max_chosen_length"), 1000);
    assert_eq!(options("selector.judge", 0, "prefer"), "random");
    assert_eq!(options("selector.actor", 0, "prefer"), "length");
}

#[test]
fn a_config_written_down_is_read_back_the_same() {
    let (_lab, experiment) = paper();
    let text = serde_json::to_string(experiment.config()).unwrap();
    assert_eq!(&serde_json::from_str::<metareward_runtime::Config>(&text).unwrap(), experiment.config());
}

#[test]
fn a_plan_needs_neither_weights_nor_prompts() {
    let (_lab, experiment) = paper();
    let plan = experiment.plan(None, None).unwrap();
    let of = |iteration, stage| {
        plan.stages.iter().find(|cost| cost.place == Place::Iteration(iteration) && cost.stage == stage)
    };
    assert_eq!(of(1, Stage::Responses).unwrap().calls, 5_000 * 7);
    assert_eq!(of(1, Stage::Judgments).unwrap().calls, 5_000 * 7 * 11);
    assert_eq!(of(2, Stage::Verdicts).unwrap().calls, 5_000 * 110);
    assert!(of(3, Stage::Verdicts).is_none());
    assert_eq!(of(3, Stage::Training).unwrap().calls, 5_000 * 2 * 2, "actor pairs alone, epochs 1 and 2");
    assert_eq!(plan.training_bytes, 18 * 8_030_261_248, "a bf16 copy beside the 32-bit weights, moments and gradients");
    assert!(plan.assumptions.iter().any(|assumption| assumption.contains("not at hand")), "{:?}", plan.assumptions);
    let shown = plan.to_string();
    assert!(shown.contains("iteration 4") && shown.contains("memory: generating"), "{shown}");
    let prompt = experiment.run(
        &metareward_runtime::RunRequest {
            folder: "unused".into(),
            model: "unused".into(),
            observer: &metareward_runtime::Unobserved,
            clock: std::time::SystemTime::now,
            disk: metareward_runtime::Disk::default(),
            machine: std::collections::BTreeMap::new(),
            accept_changed_plugins: false,
            share: Vec::new(),
        },
        metareward_runtime::Engines {
            generator: &mut scripted::ScriptedGenerator::new(100),
            trainer: &mut scripted::ScriptedTrainer::default(),
            served: std::collections::BTreeMap::new(),
        },
    );
    assert!(prompt.unwrap_err().to_string().contains("prompts-that-are-not-here.jsonl"), "a run does need them");
}

#[test]
fn a_plan_reads_config_json() {
    let lab = Lab::new();
    lab.write(
        "model/config.json",
        r#"{"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192}"#,
    );
    let plan = lab.open().unwrap().plan(None, None).unwrap();
    assert_eq!(plan.parameters, 8_030_261_248, "Llama-3-8B, as its model card says");
}

#[test]
fn prompts_of_mt_bench_and_arena_hard_are_read() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/prompts");
    if !data.is_dir() {
        println!("{} is missing; nothing to test", data.display());
        return;
    }
    for (name, count) in [("mt_bench.jsonl", 80), ("arena_hard_v0.1.jsonl", 500)] {
        let mut lab = Lab::new();
        let path = data.join(name).canonicalize().unwrap();
        lab.set = vec![
            format!("task.options.prompts={}", path.display()),
            format!("prompts.pool={count}"),
            format!("prompts.per_iteration={}", (count - 3) / 2),
            "iterations=2".into(),
        ];
        let experiment = lab.open().unwrap();
        let task = experiment.plugins().iter().find(|plugin| plugin.section == "task").unwrap();
        assert_eq!(task.iterations[0].options["prompts"], count);
        lab.context = 1_000_000;
        let (outcome, counts) = lab.run();
        outcome.unwrap();
        assert!(counts["responses"] > 0);
    }
}

#[test]
fn every_experiment_of_the_repository_opens() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let lab = Lab::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path().join("experiment.toml");
        if file.is_file() {
            let experiment = Experiment::open(&Layers::file(&file), lab.registry);
            assert!(experiment.is_ok(), "{}: {}", file.display(), experiment.err().unwrap());
        }
    }
}

/// What an engine of servers and the roles can say that makes no sense.
#[test]
fn servers_and_roles_are_checked() {
    let wrong = |set: &[&str], expected: &str| {
        let mut lab = Lab::new();
        lab.set = set.iter().map(|set| (*set).to_owned()).collect();
        let error = lab.open().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{set:?}: {error}");
    };
    let servers = "engine.generator=servers";
    let here = r#"engine.servers.addresses=["vllm:http://localhost:1", "vllm:http://localhost:2"]"#;
    wrong(&["engine.generator=vllm"], "`engine.generator`");
    wrong(&[servers], "`engine.servers.addresses` is empty");
    wrong(&[servers, here], "`engine.servers.restart` is missing");
    wrong(&[servers, here, "engine.servers.restart=[\"{model}\"]"], "a list of 2");
    wrong(&[servers, here, "engine.servers.restart=serve"], "without {model}");
    let both = ["engine.servers.restart=serve {model}", r#"engine.servers.reload=["/reload"]"#];
    wrong(&[&[servers, here], &both[..]].concat(), "given beside restart");
    wrong(&["engine.servers.proof=yes"], "`engine.servers.proof`");
    wrong(&["engine.asking.in_flight=0"], "`engine.asking.in_flight`");
    wrong(&["engine.asking.timeout=3"], "did you mean `engine.asking.timeout_seconds`?");
    wrong(&["roles.judges=initial"], "did you mean `roles.judge`?");
    wrong(&["pairs.reference=openai:http://localhost"], "`pairs.reference` is a server");
    wrong(&["roles.judge=[\"initial\"]"], "lists 1 values");
    wrong(&[servers, here, "engine.servers.restart=serve {model} --port {port}"], "");
    let mut lab = Lab::new();
    lab.set = vec!["roles.judge=openai:https://a/v1#m".into(), "roles.actor=openai:https://b/v1#m".into()];
    let experiment = lab.open().unwrap();
    assert_eq!(experiment.served_roles(), ["openai:https://a/v1#m", "openai:https://b/v1#m"]);
}

/// Number formats of training that do not go with f32 are refused before anything starts.
#[test]
fn forms_of_training_go_with_the_engines() {
    let open = |set: &[&str]| {
        let mut lab = Lab::new();
        lab.set = set.iter().map(|set| (*set).to_owned()).collect();
        lab.open().err().map(|error| error.to_string())
    };
    let single = "engine.dtype=f32";
    for (set, expected) in [
        (&[single, "train.weights=stochastic"][..], "`train.weights`"),
        (&[single, "sft.train.gradients=bf16"], "`sft.train.gradients`"),
        (&["engine.dtype=bf16", "train.optimizer_state=4bit"], "`train.optimizer_state`"),
    ] {
        let error = open(set).unwrap_or_default();
        assert!(error.contains(expected), "{set:?}: {error}");
    }
    assert_eq!(open(&[single, "train.optimizer_state=8bit"]), None);
    assert_eq!(open(&["engine.dtype=bf16", "train.weights=compensated", "train.gradients=bf16"]), None);
}
