//! One experiment as one process and as several: the same records. Killed, stopped, started wrongly.
//!
//! torchrun is that of the Python that `METAREWARD_PYTHON` names; without it those tests say so and do nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use metareward_tests::{
    SHORT, hashes, metareward,
    processes::{as_slurm, by_hand, free_port, ranks_of, signal, torchrun, under_torchrun},
    root, text,
};

/// The quickstart with a sampler that reshapes: every rank has to make it.
fn experiment() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = || {
        let (from, folder) = (root().join("experiments/quickstart"), tempfile::tempdir().unwrap());
        let text = fs::read_to_string(from.join("experiment.toml")).unwrap();
        let (nucleus, reshaping) = (
            "[sampler.actor]\nplugin = \"nucleus\"\noptions = { temperature = 1.0, top_p = 1.0, max_tokens = 24 }",
            "[sampler.actor]\nplugin = \"top-n-sigma\"\noptions = { temperature = 1.0, n = 1.5, max_tokens = 24 }",
        );
        assert!(text.contains(nucleus));
        fs::write(folder.path().join("experiment.toml"), text.replace(nucleus, reshaping)).unwrap();
        for part in ["templates", "seed-model"] {
            fs::create_dir(folder.path().join(part)).unwrap();
            for file in fs::read_dir(from.join(part)).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), folder.path().join(part).join(file.file_name())).unwrap();
            }
        }
        folder
    };
    FOLDER.get_or_init(made).path()
}

/// How several processes train: rank 0 alone, to the bytes of one process, or all.
const ALONE: &str = "engine.training=alone";
const TOGETHER: &str = "engine.training=data-parallel";

fn arguments(folder: &Path, training: &str) -> Vec<String> {
    let experiment = experiment().display().to_string();
    let mut all: Vec<String> = vec!["run".into(), experiment, "--no-report".into(), "--run".into()];
    all.push(folder.display().to_string());
    all.extend(SHORT.iter().chain([&training]).flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
    all
}

/// Every record and every model of a run: all that is computed but what training writes down on its way, times and logs.
fn results(folder: &Path) -> BTreeMap<PathBuf, String> {
    hashes(folder, &|path| {
        ["sft", "evaluation", "iteration-1", "iteration-2"].iter().any(|part| path.starts_with(part))
    })
}

/// What a run left behind, and the table that it printed.
type Left = (BTreeMap<PathBuf, String>, String, f64);

/// Loss of the first step of training, before any update.
fn first_loss(folder: &Path) -> f64 {
    let log = fs::read_to_string(folder.join("sft/training/log.jsonl")).unwrap();
    let step: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    step["loss"].as_f64().unwrap()
}

fn left(folder: &Path, table: &std::process::Output) -> Left {
    let (table, messages) = text(table);
    let results = results(folder);
    assert!(results.len() > 40, "{messages} {results:#?}");
    (results, table, first_loss(folder))
}

/// The run in one process, made once.
fn alone() -> &'static Left {
    static LEFT: OnceLock<Left> = OnceLock::new();
    LEFT.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("run");
        let output = metareward(arguments(&folder, ALONE)).output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
        left(&folder, &output)
    })
}

/// The run in two processes that train together, undisturbed, made once.
fn two() -> &'static Left {
    static LEFT: OnceLock<Left> = OnceLock::new();
    LEFT.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("run");
        let port = free_port();
        let outputs = all(2, |rank| by_hand((rank, 2), &port, arguments(&folder, TOGETHER)));
        for output in &outputs {
            assert!(output.status.success(), "{}", text(output).1);
        }
        let (out, messages) = text(&outputs[1]);
        assert_eq!((out.as_str(), messages.as_str()), ("", ""), "rank 1 speaks");
        left(&folder, &outputs[0])
    })
}

/// Lines in the run's log of events.
fn events(folder: &Path) -> usize {
    fs::read(folder.join("events.jsonl")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

fn waited(mut child: Child, most: Duration) -> std::process::Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > most {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("no end after {most:?}: {}", text(&output).1);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// Starts `size` processes, made by `command`; waits for all.
fn all(size: usize, command: impl Fn(usize) -> Command) -> Vec<std::process::Output> {
    let children: Vec<Child> = (0..size).map(|rank| command(rank).spawn().unwrap()).collect();
    // Read all at the same time: a full pipe would hold one up, and the others wait for it.
    let waiting: Vec<_> =
        children.into_iter().map(|child| thread::spawn(|| child.wait_with_output().unwrap())).collect();
    waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn assert_same(found: &BTreeMap<PathBuf, String>, expected: &BTreeMap<PathBuf, String>, what: &str) {
    let differ: Vec<&PathBuf> =
        expected.keys().chain(found.keys()).filter(|path| found.get(*path) != expected.get(*path)).collect();
    assert!(differ.is_empty(), "{what}: {differ:#?}");
}

#[test]
fn two_and_three_ranks_under_torchrun_write_what_one_process_writes() {
    let Some(torchrun) = torchrun() else { return };
    let (expected, table, _) = alone();
    for size in [2, 3] {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("run");
        let output = under_torchrun(&torchrun, size, 0, arguments(&folder, ALONE)).output().unwrap();
        let (found, messages) = text(&output);
        assert!(output.status.success(), "{messages}");
        assert_same(&results(&folder), expected, &format!("{size} ranks"));
        // One table, one line per stage: the others said nothing.
        assert_eq!(&found, table);
        assert_eq!(messages.matches("done in").count(), 1, "{messages}");
        let record = fs::read_to_string(folder.join("run.json")).unwrap();
        assert!(record.contains(&format!("\"processes\": \"{size}\"")), "{record}");
    }
}

#[test]
fn ranks_that_train_together_do_the_same_every_time_and_begin_where_one_process_does() {
    // By hand, and as tasks of a SLURM step.
    let (expected, table, loss) = two();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let port = free_port();
    let outputs = all(2, |rank| as_slurm((rank, 2), &port, arguments(&folder, TOGETHER)));
    assert!(outputs.iter().all(|output| output.status.success()), "{}", text(&outputs[0]).1);
    assert_same(&results(&folder), expected, "a SLURM step");
    assert_eq!(text(&outputs[0]).0, *table);
    // Before any update the processes differ from one in the order alone in which they sum up losses in f64.
    let alone = alone().2;
    assert!((loss - alone).abs() <= 1e-12 * alone, "{loss} and {alone}");
}

#[test]
fn ranks_that_were_started_differently_compute_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let port = free_port();
    let outputs = all(2, |rank| {
        let mut command = by_hand((rank, 2), &port, arguments(&folder, ALONE));
        if rank == 1 {
            command.env("METAREWARD__TRAIN__LEARNING_RATE", "0.5");
        }
        command
    });
    let messages: Vec<String> = outputs.iter().map(|output| text(output).1).collect();
    assert!(
        messages[0].contains("rank 1 was started with another `config.train.learning_rate` than rank 0"),
        "{messages:?}"
    );
    assert!(outputs.iter().all(|output| output.status.code() == Some(2)), "{messages:?}");
    assert!(!folder.exists());

    // One that does not find the experiment.
    let port = free_port();
    let outputs = all(2, |rank| {
        let mut command = by_hand((rank, 2), &port, arguments(&folder, ALONE));
        if rank == 1 {
            command = by_hand((rank, 2), &port, ["run", "no-such-experiment", "--run", "elsewhere"]);
        }
        command
    });
    let messages: Vec<String> = outputs.iter().map(|output| text(output).1).collect();
    assert!(messages[0].contains("rank 1: no experiment at "), "{messages:?}");
    assert!(outputs.iter().all(|output| output.status.code() == Some(2)), "{messages:?}");

    // Half of the variables.
    let mut command = metareward(arguments(&folder, ALONE));
    let output = command.env("RANK", "0").output().unwrap();
    assert!(text(&output).1.contains("WORLD_SIZE"), "{}", text(&output).1);
    assert!(!output.status.success());
}

#[test]
fn a_stop_reaches_all_ranks_and_the_run_goes_on() {
    let (expected, ..) = alone();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let port = free_port();
    let children: Vec<Child> =
        (0..2).map(|rank| by_hand((rank, 2), &port, arguments(&folder, ALONE)).spawn().unwrap()).collect();
    let waiting = Instant::now();
    while !folder.join("iteration-1/judgments").exists() && waiting.elapsed() < Duration::from_secs(300) {
        thread::sleep(Duration::from_millis(5));
    }
    // Only rank 1 is asked, in the middle of its share.
    assert!(signal(children[1].id(), "-TERM"));
    let outputs: Vec<_> = children.into_iter().map(|child| waited(child, Duration::from_secs(60))).collect();
    let messages: Vec<String> = outputs.iter().map(|output| text(output).1).collect();
    assert!(outputs.iter().all(|output| output.status.code() == Some(130)), "{messages:?}");
    assert!(messages[0].contains("start the same command again to go on"), "{messages:?}");
    assert_eq!(messages[1], "");
    // On another number of ranks.
    let output = metareward(arguments(&folder, ALONE)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    assert_same(&results(&folder), expected, "after a stop");
}

/// A number from 0 to 1, different for every `index`.
fn random(index: u64) -> f64 {
    let mut value = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((value ^ (value >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// `METAREWARD_KILLS` asks for another number of kills than ten.
#[test]
fn killed_ranks_are_started_again_by_torchrun_and_nothing_is_lost_or_doubled() {
    let Some(torchrun) = torchrun() else { return };
    let kills: u64 = std::env::var("METAREWARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let (expected, table, _) = two();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let mut command = under_torchrun(&torchrun, 2, 2 * kills as usize, arguments(&folder, TOGETHER));
    let log = scratch.path().join("messages");
    command.stderr(Stdio::from(fs::File::create(&log).unwrap()));
    let mut launcher = command.spawn().unwrap();
    let messages = || fs::read_to_string(&log).unwrap();
    let mut killed = Vec::new();
    for kill in 0..kills {
        // By progress: so many events after those that are there. Each attempt tells of the kept stages again.
        let from = events(&folder);
        let more = 3 + (random(kill) * 40.0) as usize;
        while events(&folder) < from + more && launcher.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(launcher.try_wait().unwrap().is_none(), "it ended before kill {kill}: {}", messages());
        let rank = (kill % 2) as usize;
        let running = ranks_of(&launcher);
        let Some((_, process)) = running.iter().find(|(found, _)| *found == rank) else {
            panic!("no rank {rank} among {running:?}");
        };
        assert!(signal(*process, "-KILL"));
        killed.push(rank);
        // Until the new group is there, there is nobody to kill.
        let waiting = Instant::now();
        let new = |ranks: &[(usize, u32)]| {
            ranks.len() == 2 && ranks.iter().all(|(_, process)| running.iter().all(|(_, old)| old != process))
        };
        while !new(&ranks_of(&launcher)) {
            assert!(waiting.elapsed() < Duration::from_secs(120), "no new group after {killed:?}: {}", messages());
            thread::sleep(Duration::from_millis(5));
        }
    }
    let output = waited(launcher, Duration::from_secs(600));
    assert!(output.status.success(), "{}", messages());
    println!("killed {killed:?}");
    assert!([0, 1].iter().all(|rank| killed.contains(rank)), "{killed:?}");
    assert_same(&results(&folder), expected, "after kills");
    assert_eq!(text(&output).0, *table);
}
