//! `metareward run` on servers that others wrote: `transformers serve` and llama.cpp's own, started by the run with every
//! model anew, beside the engine of this process.
//!
//! `METAREWARD_PYTHON` names a Python with their packages (`cargo selftest --references` makes one); without it these tests
//! say so and pass, unless `METAREWARD_REFERENCES` is `required`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use metareward_tests::{metareward, records, root, text};
use serde_json::Value;

/// The Python with the servers, or `None` with a message.
fn python() -> Option<PathBuf> {
    let required = std::env::var("METAREWARD_REFERENCES").is_ok_and(|value| value == "required");
    let why = match std::env::var_os("METAREWARD_PYTHON") {
        None => "METAREWARD_PYTHON names no Python",
        Some(python) => {
            let imports = "import fastapi, gguf, openai, safetensors, transformers, uvicorn, xllamacpp";
            if Command::new(&python).args(["-c", imports]).output().unwrap().status.success() {
                return Some(python.into());
            }
            "the Python of METAREWARD_PYTHON lacks packages of the servers (`pip install openai fastapi uvicorn gguf xllamacpp`)"
        }
    };
    assert!(!required, "{why}");
    println!("skipped: {why}");
    None
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The quickstart's experiment, with a seed model that `transformers serve` can read and draws from.
struct Experiment {
    scratch: tempfile::TempDir,
    python: PathBuf,
}

impl Experiment {
    fn new(python: PathBuf) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (root().join("experiments/quickstart/seed-model"), scratch.path().join("seed-model"));
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        let edit = |name: &str, key: &str, value: Value| {
            let path = to.join(name);
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config[key] = value;
            fs::write(&path, config.to_string()).unwrap();
        };
        // The server hands all of a tokenizer's outputs to the model, which knows only these; and it takes from the folder
        // whether to draw at all.
        edit("tokenizer_config.json", "model_input_names", serde_json::json!(["input_ids", "attention_mask"]));
        edit("generation_config.json", "do_sample", true.into());
        Self { scratch, python }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn run(&self, name: &str, set: &[String]) -> Command {
        let mut command = metareward(["run", "experiments/quickstart", "--no-report", "--run"]);
        command.arg(self.folder(name));
        self.settle(command, set)
    }

    /// The command with our settings and these.
    fn settle(&self, mut command: Command, set: &[String]) -> Command {
        command.env("HF_HUB_OFFLINE", "1").env("OMP_NUM_THREADS", "1");
        let short = [
            "iterations=2",
            "actor.responses=4",
            "judge.judgments=3",
            "meta_judge.pairs=[true,false]",
            "selector.actor.options.rho=[0.0,0.32]",
            "prompts.per_iteration=16",
            "prompts.shard_size=8",
            "sft.enabled=false",
            "evaluation.prompts=0",
            "evaluation.judge_prompts=0",
            "train.epochs=1",
            "train.learning_rate=1e-3",
        ];
        let model = format!("model.path={:?}", self.folder("seed-model").display().to_string());
        for set in short.iter().copied().chain([model.as_str()]).chain(set.iter().map(String::as_str)) {
            command.args(["--set", set]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn checked(&self, name: &str, set: &[String]) {
        let output = self.run(name, set).output().unwrap();
        let (_, messages) = text(&output);
        assert!(output.status.success(), "{messages}\n{}", self.logs(name));
    }

    fn logs(&self, name: &str) -> String {
        let log = |place: usize| {
            let path = self.folder(name).join(format!("servers/server-{place}.log"));
            fs::read_to_string(path).unwrap_or_default()
        };
        (0..3).map(log).collect()
    }

    /// Settings for so many servers of llama.cpp's, each started with a model's folder as a GGUF file.
    fn llama_cpp(&self, ports: &[u16]) -> Vec<String> {
        let scripts = root().join("core/remote/tests/python");
        let addresses: Vec<String> = ports.iter().map(|port| format!("llama-cpp:http://127.0.0.1:{port}")).collect();
        let python = self.python.display();
        let restart = format!(
            "{python} {0}/gguf_of_folder.py {{model}} {1}/{{number}}.gguf && sleep 100000 | {python} {0}/llama_server.py \
             {1}/{{number}}.gguf {{port}} tiny",
            scripts.display(),
            self.scratch.path().display(),
        );
        vec![
            "engine.generator=servers".into(),
            format!("engine.servers.addresses={addresses:?}"),
            format!("engine.servers.restart={restart:?}"),
            // Its keys and values are in f16.
            "engine.servers.tolerance=5e-3".into(),
            "engine.asking.in_flight=1".into(),
        ]
    }

    fn transformers(&self, port: u16) -> Vec<String> {
        let main =
            "import sys; from transformers.commands.transformers_cli import main; sys.argv[0] = 'transformers'; main()";
        let restart = format!(
            "exec {} -c \"{main}\" serve --host 127.0.0.1 --device cpu --dtype float32 --port {{port}} --force-model {{model}}",
            self.python.display()
        );
        vec![
            "engine.generator=servers".into(),
            format!("engine.servers.addresses=[\"openai:http://127.0.0.1:{port}\"]"),
            format!("engine.servers.restart={restart:?}"),
            "engine.servers.model={model}".into(),
            "engine.servers.tolerance=1e-3".into(),
            "engine.asking.in_flight=1".into(),
        ]
    }
}

/// What servers took up, as the run kept it.
fn served(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("servers/served.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every process that still runs with a word in its command.
fn running(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(word) && !command.contains("run_on_real_servers") {
            found.push(command);
        }
    }
    found
}

/// Texts and lengths in tokens by prompt and draw.
fn texts(run: &Path, stage: &str) -> BTreeMap<String, (String, u64)> {
    let key = |record: &Value| format!("{} {} {}", record["prompt"], record["response"], record["draw"]);
    let value = |record: &Value| (record["text"].as_str().unwrap().to_owned(), record["tokens"].as_u64().unwrap());
    records(&run.join(stage)).iter().map(|record| (key(record), value(record))).collect()
}

/// Sampled, every stage, restarted after training, on two kinds of servers.
#[test]
fn every_model_is_served_and_proven() {
    let Some(python) = python() else { return };
    let experiment = Experiment::new(python);
    let ports = [free_port(), free_port()];
    experiment.checked("llama", &experiment.llama_cpp(&ports));
    let run = experiment.folder("llama");
    let served_llama = served(&run);
    assert_eq!(served_llama.len(), 4, "two servers, the seed and M1");
    for record in &served_llama {
        assert_eq!(record["by"], "log-probabilities");
        assert!(record["distance"].as_f64().unwrap() < 2e-3 && record["tokens"].as_u64().unwrap() > 10, "{record}");
        assert!(record["server"]["version"].as_str().unwrap().starts_with("llama.cpp"), "{record}");
    }
    assert_ne!(served_llama[0]["weights"], served_llama[2]["weights"]);
    assert!(run.join("iteration-2/model/model.safetensors").is_file());
    assert!(running(&ports[0].to_string()).is_empty(), "stopped at the end");

    let port = free_port();
    experiment.checked("transformers", &experiment.transformers(port));
    let run = experiment.folder("transformers");
    let served = served(&run);
    assert_eq!(served.len(), 2, "{served:?}");
    assert!(served.iter().all(|record| record["by"] == "greedy texts"), "{served:?}");
    assert!(running(&port.to_string()).is_empty());
    for record in served_llama.iter().chain(&served) {
        println!("{} {} {} {}", record["server"]["url"], record["by"], record["distance"], record["tokens"]);
    }
}

/// Greedy, one experiment on three engines: this process, llama.cpp, `transformers serve`.
#[test]
fn greedy_texts_are_those_of_this_process() {
    let Some(python) = python() else { return };
    let experiment = Experiment::new(python);
    let greedy = ["actor", "judge", "meta_judge"].map(|role| format!("sampler.{role}.options.temperature=0.0"));
    let greedy = [
        &greedy[..],
        &["iterations=1".into(), "meta_judge.pairs=false".into(), "selector.actor.options.rho=0.0".into()],
    ]
    .concat();
    let all: Vec<(&str, Vec<String>)> = vec![
        ("torch", Vec::new()),
        ("llama", experiment.llama_cpp(&[free_port(), free_port()])),
        ("transformers", experiment.transformers(free_port())),
    ];
    for (name, set) in &all {
        let output = experiment.run(name, &[&greedy[..], set].concat()).output().unwrap();
        // Greedy draws of a prompt are equal, and make no pair: the run ends there, with its records.
        let (_, messages) = text(&output);
        assert!(messages.contains("made no preference pairs"), "{messages}\n{}", experiment.logs(name));
    }
    for stage in ["iteration-1/responses", "iteration-1/judgments"] {
        let expected = texts(&experiment.folder("torch"), stage);
        for name in ["llama", "transformers"] {
            let found = texts(&experiment.folder(name), stage);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name} {stage}");
            let same = expected.iter().filter(|(key, (text, _))| found[*key].0 == *text).count();
            let tokens = expected.iter().filter(|(key, (_, tokens))| found[*key].1 == *tokens).count();
            println!(
                "{name} {stage}: {same} of {} texts, {tokens} lengths in tokens are those of this process",
                expected.len()
            );
            assert!(same == expected.len(), "{name} {stage}: {same} of {}", expected.len());
        }
    }
}

/// A trainer that wants the servers' memory: it fails where one still listens, and moves one weight.
const TRAINER: &str = r#"
import shutil, socket, sys
from safetensors.torch import load_file, save_file
port, model, data, output = sys.argv[1:]
if socket.socket().connect_ex(("127.0.0.1", int(port))) == 0:
    sys.exit("a server is there while the model is trained")
shutil.copytree(model, output, dirs_exist_ok=True)
weights = load_file(f"{output}/model.safetensors")
weights["model.norm.weight"] *= 1.5
save_file(weights, f"{output}/model.safetensors", {"format": "pt"})
"#;

/// `while_training = "stop"`: servers end before training, start again with the new model, and say that it is it.
#[test]
fn servers_rest_while_a_model_is_trained() {
    let Some(python) = python() else { return };
    let experiment = Experiment::new(python);
    let port = free_port();
    let script = experiment.folder("trainer.py");
    fs::write(&script, TRAINER).unwrap();
    let command = format!("{} {} {port} {{model}} {{data}} {{output}}", experiment.python.display(), script.display());
    let set = |rests: &str| {
        let mut set = experiment.llama_cpp(&[port]);
        set.push(format!("train.command={command:?}"));
        set.push(format!("engine.servers.while_training={rests}"));
        set
    };
    experiment.checked("rests", &set("stop"));
    let served = served(&experiment.folder("rests"));
    assert_eq!(served.len(), 2, "the seed and M1: {served:?}");
    assert_ne!(served[0]["weights"], served[1]["weights"]);
    // The trainer does see a server that stays.
    let (_, messages) = text(&experiment.run("stays", &set("keep")).output().unwrap());
    assert!(messages.contains("a server is there while the model is trained"), "{messages}");
}

/// `bench engine` asks the servers what the experiment will, and `plan` reckons with what it measured.
#[test]
fn servers_are_measured_for_a_plan() {
    let Some(python) = python() else { return };
    let experiment = Experiment::new(python);
    let port = free_port();
    let set = experiment.llama_cpp(&[port]);
    let file = experiment.folder("engine.toml");
    let bench = ["bench", "engine", "experiments/quickstart", "--json", "--repeats", "1", "--steps", "1", "-o"];
    let mut bench = metareward(bench);
    bench.arg(&file);
    let output = experiment.settle(bench, &set).output().unwrap();
    let (shown, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    let figures: Value = serde_json::from_str(&shown).unwrap();
    println!("{figures}");
    // The server starts Python and converts the model in that time.
    assert!(figures["load_seconds"]["median"].as_f64().unwrap() > 0.05, "{figures}");
    for kind in ["responses", "judgments", "verdicts"] {
        assert!(figures[kind]["overall"]["median"].as_f64().unwrap() > 0.0, "{figures}");
    }
    let mut plan = metareward(["plan", "experiments/quickstart", "--json", "--engine"]);
    plan.arg(&file);
    let output = experiment.settle(plan, &set).output().unwrap();
    let (plan, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    let plan: Value = serde_json::from_str(plan.lines().last().unwrap()).unwrap();
    println!("{}", plan["time"]["seconds"]);
    assert!(plan["time"]["seconds"].as_f64().unwrap() > 0.0, "{plan}");
    assert!(running(&port.to_string()).is_empty(), "stopped at the end");
}

/// A server that does not take up the new model is refused, by name.
#[test]
fn a_server_with_the_former_weights_is_refused() {
    let Some(python) = python() else { return };
    let experiment = Experiment::new(python);
    let mut set = experiment.llama_cpp(&[free_port(), free_port()]);
    // The second server converts only the first model that it sees.
    let restart = set.iter_mut().find(|set| set.starts_with("engine.servers.restart")).unwrap();
    let stale = "[ {number} = 1 -a -e {scratch}/1.gguf ] || "
        .replace("{scratch}", &experiment.scratch.path().display().to_string());
    *restart = restart.replacen("restart=\"", &format!("restart=\"{stale}"), 1);
    set.push("engine.servers.tolerance=0.5".into());
    let output = experiment.run("stale", &set).output().unwrap();
    let (_, messages) = text(&output);
    assert!(!output.status.success(), "{messages}");
    assert!(messages.contains("has other weights: it still answers with the model before"), "{messages}");
    println!("{messages}");
    assert!(experiment.folder("stale/iteration-1/model").is_dir(), "what was finished stays");
}

/// `kill -9` leaves servers behind; the same command finds them, goes on, and ends them.
#[test]
fn servers_that_a_kill_left_are_found_again_and_ended() {
    let Some(python) = python() else { return };
    let experiment = Experiment::new(python);
    let port = free_port();
    let set = experiment.llama_cpp(&[port]);
    let mut child = experiment.run("killed", &set).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let answers = experiment.folder("killed/servers/answers.jsonl");
    let begun = Instant::now();
    let lines = || fs::read_to_string(&answers).unwrap_or_default().lines().count();
    while lines() < 10 && begun.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!running(&port.to_string()).is_empty(), "a kill ends nothing else");
    let file = experiment.folder("killed/servers/server-0.pid.json");
    let started =
        |file: &Path| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap()["group"]["number"].clone();
    let before = started(&file);
    // Stopped by Ctrl-C's signal in the middle: the server goes too.
    let child = experiment.run("killed", &set).spawn().unwrap();
    let begun = Instant::now();
    while served_lines(&experiment.folder("killed")) < 2 && begun.elapsed() < Duration::from_secs(120) {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(started(&file), before, "the server was found, not started again");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (_, messages) = text(&output);
    assert!(output.status.code() == Some(130) || output.status.success(), "{messages}");
    thread::sleep(Duration::from_millis(100));
    assert!(running(&port.to_string()).is_empty(), "{:?}", running(&port.to_string()));
    experiment.checked("killed", &set);
}

fn served_lines(run: &Path) -> usize {
    fs::read_to_string(run.join("servers/served.jsonl")).unwrap_or_default().lines().count()
}
