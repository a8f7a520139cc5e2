//! What the end-to-end tests share: the built binary, scratch folders, and hashes of what a run leaves behind.
//!
//! The tests run the binary as a user would. They never look inside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod forms;
pub mod processes;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;

/// The repository's root.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.to_path_buf(), Path::to_path_buf)
}

/// The public reference data beside the repository, where it is there.
pub fn shared_data() -> Option<PathBuf> {
    let data = root().parent()?.join("shared/data");
    data.is_dir().then_some(data)
}

/// The binary `metareward`, built in the profile of the running test.
///
/// # Panics
/// When it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/<profile>/deps/<test>-<hash> → target/<profile>
        let test = env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap().to_path_buf();
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(root()).args(["build", "--quiet", "--bin", "metareward"]);
        build.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the binary does not build");
        profile.join("metareward")
    })
}

/// A command line of the binary, ready to be run in the repository's root with a clean environment of ours.
pub fn metareward<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(root()).args(arguments).env_remove("RUST_LOG");
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("METAREWARD")) {
        command.env_remove(name);
    }
    command
}

/// Settings of the quickstart that make it shorter in every dimension, with every stage in it.
pub const SHORT: [&str; 11] = [
    "iterations=2",
    "actor.pairs=true",
    "meta_judge.pairs=[true,false]",
    "selector.actor.options.rho=[0.0,0.32]",
    "prompts.per_iteration=24",
    "prompts.shard_size=8",
    "sft.judge_examples=96",
    "sft.train.save_steps=2",
    "train.save_steps=2",
    "evaluation.prompts=24",
    "evaluation.judge_prompts=8",
];

/// What a command printed on standard output and on standard error.
pub fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Hash of every file below `folder`, by path; what is not part of a run's result (times, logs) is left out by `keep`.
///
/// # Panics
/// When a file cannot be read.
pub fn hashes(folder: &Path, keep: &dyn Fn(&Path) -> bool) -> BTreeMap<PathBuf, String> {
    let mut result = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            if keep(&name) {
                result.insert(name, blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string());
            }
        }
    }
    result
}

/// The records of a stage's folder, in the order of its shards.
///
/// # Panics
/// When a shard cannot be read.
pub fn records(folder: &Path) -> Vec<Value> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    paths.sort();
    let lines = paths.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    });
    lines.collect()
}
