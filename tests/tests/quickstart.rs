//! The quickstart in a shortened form, killed and gone on with: the same bytes as in one go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use metareward_tests::{SHORT, hashes, metareward, text};

fn run(folder: &Path) -> std::process::Command {
    let mut command = metareward(["run", "experiments/quickstart", "--run"]);
    command.arg(folder);
    for set in SHORT {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everything that a run computes. Logs hold times, and run.json the machine.
fn results(folder: &Path) -> std::collections::BTreeMap<PathBuf, String> {
    hashes(folder, &|path| {
        ["sft", "evaluation", "iteration-1", "iteration-2"].iter().any(|part| path.starts_with(part))
    })
}

/// Lines in the run's log of events.
fn events(folder: &Path) -> usize {
    fs::read(folder.join("events.jsonl")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// A number from 0 to 1, different for every `index`.
fn random(index: u64) -> f64 {
    let mut value = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((value ^ (value >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// `METAREWARD_KILLS` asks for more kills than the usual four.
#[test]
fn killed_at_random_points_and_resumed_it_ends_with_the_same_bytes() {
    let kills: u64 = std::env::var("METAREWARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    let output = run(&whole).output().unwrap();
    let (table, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(table.contains("M2"), "{table}");
    let expected = results(&whole);
    assert!(expected.len() > 40, "{expected:#?}");

    // Every process tells of about as many events as the whole run, those of kept stages included: each is killed at a
    // random one of them, and a little later.
    let all = events(&whole);
    let broken = scratch.path().join("broken");
    let mut killed = 0;
    for kill in 0..kills {
        let before = events(&broken);
        let target = (random(2 * kill) * all as f64 * 0.9) as usize;
        let mut child = run(&broken).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while events(&broken) < before + target && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_secs_f64(0.05 * random(2 * kill + 1)));
        child.kill().unwrap();
        if child.wait().unwrap().signal() == Some(9) {
            killed += 1;
        }
    }
    assert!(killed * 2 > kills, "{killed} of {kills} kills came before the end of the process");
    let output = run(&broken).output().unwrap();
    let (table_after, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    println!("killed {killed} times; {all} events in an uninterrupted run");
    assert_eq!(results(&broken), expected);
    assert_eq!(table_after, table);
    let json = metareward(["--json", "table"]).arg(&broken).output().unwrap();
    let (json, _) = text(&json);
    assert_eq!(json.lines().count(), 1, "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> =
        json["table"]["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["seed", "sft", "M1", "M2"]);

    // Once more: nothing is computed, nothing changes.
    let output = run(&broken).output().unwrap();
    assert!(text(&output).1.contains("all kept from before"), "{}", text(&output).1);
    assert_eq!(results(&broken), expected);
}

#[test]
fn ctrl_c_ends_tidily_and_the_run_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let child = run(&folder).spawn().unwrap();
    let id = child.id().to_string();
    let waiting = Instant::now();
    while !folder.join("sft/training").exists() && waiting.elapsed() < Duration::from_secs(120) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (_, messages) = text(&output);
    assert_eq!(output.status.code(), Some(130), "{messages}");
    assert!(messages.contains("start the same command again to go on"), "{messages}");
    let partial = |path: &Path| path.to_string_lossy().contains(".partial");
    assert!(hashes(&folder, &|path| partial(path)).is_empty());
    assert!(fs::read_to_string(folder.join("events.jsonl")).unwrap().lines().count() > 2);
}
