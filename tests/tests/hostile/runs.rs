//! Runs that a hostile plugin stops: what was finished stays, and with the plugin mended the run ends as if nothing had been.

use std::{collections::BTreeMap, path::Path};

use metareward_api::RatedResponse;
use metareward_runtime::{Place, RunError, RunReader, Stage};
use metareward_tests::{hashes, metareward, text};

use crate::{
    files,
    scripted::{Lab, Recorder},
};

/// A run with a ranker from a file that fails at the problem with these ratings.
fn lab(file: &str, mode: &str, victim: &[f64]) -> Lab {
    let mut lab = Lab::new();
    lab.set = vec!["iterations=1".into(), "train.keep=last".into(), "plugins.fuel=500000000".into()];
    lab.set.push("plugins.memory_mib=64".into());
    let source = files::pinned(file);
    let path = files::folder().join(file);
    lab.set.push(format!("ranker.plugin={:?}", path.display().to_string()));
    lab.set.push(format!("ranker.sha256={:?}", source.sha256.unwrap()));
    lab.set.push(options(mode, victim));
    lab
}

fn options(mode: &str, victim: &[f64]) -> String {
    format!("ranker.options={{ mode = {mode:?}, victim = {victim:?} }}")
}

/// Everything that a run computes; run.json holds how it came to be.
fn computed(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let mut records = lab.records();
    records.retain(|name, _| name.contains('/'));
    records
}

/// A rating of the second shard that is like none of the first, and has all its players.
fn in_second_shard(lab: &Lab) -> RatedResponse {
    let shards: Vec<Vec<RatedResponse>> = ratings(&computed(lab))
        .values()
        .map(|lines| {
            let lines = str::from_utf8(lines).unwrap().lines();
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        })
        .collect();
    let [first, second] = shards.as_slice() else { panic!("{} shards", shards.len()) };
    let seen = |rated: &&RatedResponse| !first.iter().any(|other| other.ratings == rated.ratings);
    second.iter().find(seen).unwrap().clone()
}

/// The finished shards of ratings by number. Their names hold a key as well, which is another for other options.
fn ratings(records: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let number = |name: &str| Some(name.strip_prefix("iteration-1/ratings/")?.split_once('-')?.0.to_owned());
    records.iter().filter_map(|(name, bytes)| Some((number(name)?, bytes.clone()))).collect()
}

#[test]
fn a_run_stops_at_a_shard_and_goes_on_with_the_mended_plugin() {
    let probe = lab("ranker.wasm", "honest", &[]);
    probe.run().0.unwrap();
    let doomed = in_second_shard(&probe);
    let whole = lab("ranker.wasm", "honest", &doomed.ratings);
    let (outcome, all) = whole.run();
    outcome.unwrap();
    let undisturbed = computed(&whole);

    for (file, mode, says) in [
        ("ranker.wasm", "loop", "it did not end within 500000000 instructions; raise plugins.fuel"),
        ("ranker.wasm", "memory", "it wanted more than 64 MiB of memory"),
        ("ranker.wasm", "trap", "it stopped: "),
        ("ranker.wasm", "panic", "a panic with"),
        ("ranker.so", "panic", "it panicked: a panic with"),
        ("ranker.wasm", "nan", "the rating of player 0 is NaN"),
        ("ranker.wasm", "too-few", "answers to"),
        ("ranker.so", "short", "ratings for"),
    ] {
        let mut lab = lab(file, mode, &doomed.ratings);
        let (outcome, before) = lab.run();
        let error = outcome.expect_err(mode);
        assert!(matches!(error, RunError::Plugin { .. }), "{mode}: {error:?}");
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        println!("{file} {mode}: {text}");
        let record = format!("prompt {}, response {}: ", doomed.prompt, doomed.response);
        assert!(text.starts_with(&record), "{mode}: {record:?} is not where {text:?} begins");
        for part in ["ranker hostile ", " in rate: ", says] {
            assert!(text.contains(part), "{mode}: {part:?} is not in {text:?}");
        }
        assert!(!text.chars().any(char::is_control), "{text:?}");
        // What was finished stays: the first shard of ratings is there, byte for byte, and the second is not.
        let (kept, of_whole) = (ratings(&computed(&lab)), ratings(&undisturbed));
        assert!(of_whole.len() > 1);
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [of_whole.into_iter().next().unwrap()], "{mode}");

        // As long as nothing is mended, it fails again and nothing is generated again.
        let (again, nothing) = lab.run();
        assert_eq!(again.unwrap_err(), error);
        assert!(nothing.is_empty(), "{mode}: {nothing:?}");

        // Mended: other options are no other plugin; another file is one, and must be accepted.
        lab.set.pop();
        lab.set.push(options("honest", &doomed.ratings));
        if file != "ranker.wasm" {
            lab.set.push(format!("ranker.plugin={:?}", files::folder().join("ranker.wasm").display().to_string()));
            lab.set.push(format!("ranker.sha256={:?}", files::pinned("ranker.wasm").sha256.unwrap()));
            let error = lab.run().0.unwrap_err();
            assert!(matches!(error, RunError::ChangedPlugins { .. }), "{error}");
            assert_eq!(error.exit_code(), 2);
            lab.accept_changed_plugins = true;
        }
        let (outcome, after) = lab.run_with(&Recorder::default(), metareward_runtime::Disk::default());
        outcome.unwrap_or_else(|error| panic!("{mode}: {error}"));
        // The same bytes as in one go; what the faulty plugin had finished lies beside them, under its own key.
        let ended = computed(&lab);
        let differs: Vec<&String> =
            undisturbed.keys().filter(|name| ended.get(*name) != undisturbed.get(*name)).collect();
        assert!(differs.is_empty(), "{file} {mode}: {differs:?}");
        let beside: Vec<&String> = ended.keys().filter(|name| !undisturbed.contains_key(*name)).collect();
        assert!(beside.iter().all(|name| name.starts_with("iteration-1/ratings/00000-")), "{file} {mode}: {beside:?}");
        for (what, count) in &all {
            let of = |counts: &BTreeMap<&str, u64>| counts.get(what).copied().unwrap_or_default();
            assert_eq!(of(&before) + of(&after), *count, "{mode}: {what} twice, or not at all");
        }
        let reader = RunReader::open(&lab.run_folder()).unwrap();
        assert!(reader.stage(&Place::Iteration(1), Stage::Ratings).unwrap().is_some());
    }
}

/// The binary with a short quickstart whose ranker comes from a file.
fn command(folder: &Path, file: &str, options: &str, more: &[&str]) -> (Option<i32>, String) {
    let source = files::pinned(file);
    let set = [
        "iterations=1",
        "meta_judge.pairs=true",
        "selector.actor.options.rho=0.0",
        "prompts.per_iteration=8",
        "prompts.shard_size=4",
        "sft.enabled=false",
        "evaluation.prompts=0",
        "evaluation.judge_prompts=0",
        "plugins.fuel=500000000",
        &format!("ranker.plugin={:?}", files::folder().join(file).display().to_string()),
        &format!("ranker.sha256={:?}", source.sha256.unwrap()),
        options,
    ];
    let mut command = metareward(["run", "experiments/quickstart", "--run"]);
    command.arg(folder).args(set.iter().flat_map(|set| ["--set", set])).args(more);
    let output = command.output().unwrap();
    (output.status.code(), text(&output).1)
}

#[test]
fn the_binary_stops_with_the_code_of_plugins_and_goes_on_with_the_mended_one() {
    let scratch = tempfile::tempdir().unwrap();
    let computed = |folder: &Path| hashes(folder, &|path| path.starts_with("iteration-1"));
    let whole = scratch.path().join("whole");
    let (code, messages) = command(&whole, "ranker.wasm", &options("honest", &[]), &[]);
    assert_eq!(code, Some(0), "{messages}");
    let undisturbed = computed(&whole);
    let ratings = || undisturbed.keys().filter(|name| name.starts_with("iteration-1/ratings/"));
    assert_eq!(ratings().count(), 3, "two shards and what is said of both");

    for (file, mode, says) in [
        ("ranker.wasm", "trap", "it stopped: wasm trap: wasm `unreachable` instruction executed"),
        ("ranker.so", "panic", "it panicked: a panic with"),
    ] {
        let folder = scratch.path().join(mode);
        let (code, messages) = command(&folder, file, &options(mode, &[]), &[]);
        println!("{messages}");
        assert_eq!(code, Some(3), "{messages}");
        assert!(messages.contains("ranker hostile failed in rate: ") && messages.contains(says), "{messages}");
        let kept = computed(&folder);
        assert!(kept.iter().all(|(name, hash)| undisturbed.get(name) == Some(hash)), "{kept:#?}");
        assert!(kept.keys().any(|name| name.starts_with("iteration-1/verdicts/")), "{kept:#?}");

        let mended = options("honest", &[]);
        if file == "ranker.so" {
            let (code, messages) = command(&folder, "ranker.wasm", &mended, &[]);
            assert_eq!(code, Some(2), "{messages}");
            assert!(messages.contains("--accept-changed-plugins"), "{messages}");
        }
        let (code, messages) = command(&folder, "ranker.wasm", &mended, &["--accept-changed-plugins"]);
        assert_eq!(code, Some(0), "{messages}");
        assert_eq!(computed(&folder), undisturbed, "{mode}");
    }
}
