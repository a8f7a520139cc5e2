//! The 8-GPU and SLURM forms of the paper's experiment, as far as one machine without a GPU can check them: the overlays load
//! and plan, and the scripts start what they should, with SLURM's commands and vLLM played by scripts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use metareward_tests::{metareward, root, text};
use serde_json::Value;

fn folder() -> PathBuf {
    root().join("experiments/meta-rewarding-llama3-8b")
}

/// A folder of commands that stand before all others.
struct Commands(tempfile::TempDir);

impl Commands {
    /// `scontrol` names the nodes; `srun` says on which nodes and runs the command here; `torchrun` says what it was told and
    /// runs one process; `vllm` says what it serves.
    fn new(nodes: &str) -> Commands {
        let commands = Commands(tempfile::tempdir().unwrap());
        let names = nodes.split(',').collect::<Vec<_>>().join("\\n");
        commands.add("scontrol", &format!("printf '{names}\\n'"));
        commands.add(
            "srun",
            "for word in \"$@\"; do case $word in --nodelist=*) echo \"srun on ${word#--nodelist=}\" >&2;; esac; done\n\
             while [[ $1 == --* ]]; do shift; done\nexec \"$@\"",
        );
        commands.add("torchrun", "echo \"torchrun $*\" >&2\nwhile [[ $1 != -- ]]; do shift; done\nshift\nexec \"$@\"");
        commands.add("vllm", "echo \"vllm on GPU $CUDA_VISIBLE_DEVICES: $*\"");
        commands
    }

    fn add(&self, name: &str, script: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\nset -euo pipefail\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of the experiment.
    fn run(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let path = std::env::join_paths(
            std::iter::once(self.0.path().to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        Command::new("bash")
            .arg(folder().join(script))
            .args(arguments)
            .current_dir(self.0.path())
            .env("PATH", path.unwrap())
            .env("SLURM_SUBMIT_DIR", folder().join("slurm"))
            .env("SLURM_JOB_NODELIST", "names")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }
}

fn plan(arguments: &[&str]) -> (Output, Value) {
    let mut all = vec!["plan", "experiments/meta-rewarding-llama3-8b", "--json"];
    all.extend(arguments);
    let output = metareward(&all).output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output).1));
    (output, value)
}

#[test]
fn the_overlays_load_and_plan() {
    for (over, form) in [("eight-gpus.toml", "torchrun"), ("slurm/servers.toml", "servers")] {
        let over = format!("experiments/meta-rewarding-llama3-8b/{over}");
        let (output, value) =
            plan(&["--with", &over, "--card", "h100", "--gpus", "8", "--form", form, "--gpu-hour", "2"]);
        assert!(output.status.success(), "{}", text(&output).1);
        let time = &value["time"];
        assert!(time["seconds"].as_f64().unwrap() > 3600.0 && time["cost"].as_f64().unwrap() > 10.0, "{time}");
        assert!(time["stages"].as_array().unwrap().iter().all(|stage| stage["estimated"] == true));
    }
    let output = metareward(["plan", "experiments/quickstart", "--with", "none.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).1.contains("none.toml"), "{}", text(&output).1);
}

#[test]
fn a_config_alone_plans_seventy_billion_parameters() {
    let shape = "experiments/meta-rewarding-llama3-8b/shapes/llama-3-70b.json";
    let arguments = ["--model", shape, "--card", "h100", "--gpus", "64", "--form", "servers"];
    let (output, value) = plan(&arguments);
    assert!(output.status.success(), "{}", text(&output).1);
    assert_eq!(value["parameters"], 70_553_706_496u64);
    assert_eq!(value["time"]["gpus_per_copy"], 4);
    let (_, refused) = plan(&["--model", shape, "--card", "h100", "--gpus", "8", "--form", "torchrun"]);
    assert!(refused["error"].as_str().unwrap().contains("servers do"), "{refused}");
    let (_, refused) = plan(&["--gpus", "8"]);
    assert!(refused["hint"].as_str().unwrap().contains("bench engine"), "{refused}");
}

/// One line per process that a script started.
fn started(commands: &Commands, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    commands.add(
        "metareward",
        "echo \"metareward $*\"\necho \"addresses ${METAREWARD__ENGINE__SERVERS__ADDRESSES:-none}\"",
    );
    let output = commands.run(script, arguments, variables);
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    (out, messages)
}

#[test]
fn eight_processes_on_one_machine() {
    let commands = Commands::new("one");
    let (out, messages) = started(&commands, "eight-gpus.sh", &["--runs", "here"], &[]);
    assert!(messages.contains("--nproc-per-node 8 --max-restarts 3"), "{messages}");
    let folder = folder().display().to_string();
    assert!(out.contains(&format!("metareward run {folder} --with {folder}/eight-gpus.toml --runs here")), "{out}");
}

#[test]
fn trainers_on_the_first_node_and_a_server_per_gpu_on_the_others() {
    let commands = Commands::new("north,south,west");
    let (out, messages) = started(&commands, "slurm/run.sbatch", &["--runs", "shared"], &[("GPUS", "2")]);
    assert!(messages.contains("srun on north\n"), "{messages}");
    assert!(messages.contains("--nnodes 1 --nproc-per-node 2") && messages.contains("north:29400"), "{messages}");
    assert!(out.contains("/slurm/servers.toml --runs shared"), "{out}");
    let addresses = ["south:8100", "south:8101", "west:8100", "west:8101"].map(|at| format!("\"vllm:http://{at}\""));
    assert!(out.contains(&format!("addresses [{}]", addresses.join(", "))), "{out}");

    // Two nodes train, one generates; and one node does both.
    let (out, messages) = started(&commands, "slurm/run.sbatch", &[], &[("GPUS", "1"), ("TRAIN_NODES", "2")]);
    assert!(
        messages.contains("srun on north,south\n") && out.contains("addresses [\"vllm:http://west:8100\"]"),
        "{out}"
    );
    let alone = Commands::new("north");
    let (out, _) = started(&alone, "slurm/run.sbatch", &[], &[]);
    assert!(out.contains("eight-gpus.toml") && out.contains("addresses none"), "{out}");
    let output = alone.run("slurm/run.sbatch", &[], &[("TRAIN_NODES", "2")]);
    assert_eq!(output.status.code(), Some(2));
}

/// The restart command of the overlay, filled in as the pool fills it in, starts the right server on the right GPU.
#[test]
fn the_restart_command_starts_a_server() {
    let commands = Commands::new("north,south");
    let overlay: toml::Table =
        toml::from_str(&fs::read_to_string(folder().join("slurm/servers.toml")).unwrap()).unwrap();
    let restart = overlay["engine"]["servers"]["restart"].as_str().unwrap();
    let filled = restart.replace("{model}", "/models/M1").replace("{host}", "south").replace("{port}", "8103");
    let script: &Path = commands.0.path();
    fs::write(script.join("restart.sh"), filled).unwrap();
    let path = format!("{}:{}", script.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(script.join("restart.sh"))
        .env("PATH", path)
        .env("METAREWARD_JOB", folder().join("slurm/run.sbatch"))
        .output()
        .unwrap();
    let (out, messages) = text(&output);
    assert!(messages.contains("srun on south\n"), "{messages}");
    assert!(out.contains("vllm on GPU 3: serve /models/M1 --served-model-name policy"), "{out} {messages}");
}

/// The whole of it with the small model: the script's processes run the quickstart to its end.
#[test]
fn the_scripts_run_an_experiment_to_its_end() {
    let commands = Commands::new("north");
    let scratch = tempfile::tempdir().unwrap();
    // Another experiment in the paper's place, with the paper's overlay beside it.
    let experiment = scratch.path().join("experiment");
    fs::create_dir_all(experiment.join("slurm")).unwrap();
    fs::copy(folder().join("eight-gpus.toml"), experiment.join("eight-gpus.toml")).unwrap();
    let quickstart = root().join("experiments/quickstart");
    let toml = fs::read_to_string(quickstart.join("experiment.toml")).unwrap();
    let toml = toml
        .replace("\"seed-model\"", &format!("\"{}\"", quickstart.join("seed-model").display()))
        .replace("\"templates/", &format!("\"{}/templates/", quickstart.display()));
    fs::write(experiment.join("experiment.toml"), toml).unwrap();
    let run = scratch.path().join("run");
    let arguments = [
        "--run",
        run.to_str().unwrap(),
        "--no-report",
        "--set",
        "engine.device=cpu",
        "--set",
        "engine.dtype=f32",
        "--set",
        "iterations=1",
        "--set",
        "meta_judge.pairs=true",
        "--set",
        "selector.actor.options.rho=0.0",
        "--set",
        "prompts.per_iteration=16",
        "--set",
        "sft.judge_examples=32",
        "--set",
        "sft.demonstrations=0",
        "--set",
        "evaluation.prompts=0",
        "--set",
        "evaluation.judge_prompts=0",
        "--set",
        "train.micro_batch_tokens=1024",
    ];
    let binary = metareward(["--version"]).get_program().to_owned();
    let variables =
        [("METAREWARD", binary.to_str().unwrap()), ("EXPERIMENT", experiment.to_str().unwrap()), ("GPUS", "1")];
    let output = commands.run("slurm/run.sbatch", &arguments, &variables);
    assert!(output.status.success(), "{}", text(&output).1);
    assert!(run.join("iteration-1/model/model.safetensors").is_file());
    // The overlay was read: fewer prompts than a shard of 256 are one shard.
    let record: Value = serde_json::from_str(&fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["config"]["prompts"]["shard_size"], 256);
}
