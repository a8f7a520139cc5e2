//! `metareward doctor` as several processes.
//!
//! torchrun is that of the Python that `METAREWARD_PYTHON` names; without it the first test says so and does nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_tests::{
    processes::{by_hand, free_port, torchrun, under_torchrun},
    text,
};

#[test]
fn under_torchrun_one_speaks_for_all() {
    let Some(torchrun) = torchrun() else { return };
    let output = under_torchrun(&torchrun, 2, 0, ["--json", "doctor"]).output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let processes = found["group"]["processes"].as_array().unwrap();
    let ranks: Vec<u64> = processes.iter().map(|process| process["rank"].as_u64().unwrap()).collect();
    assert_eq!(ranks, [0, 1]);
    assert!(processes[0]["host"] == processes[1]["host"] && processes[0]["process"] != processes[1]["process"]);
    assert_eq!(found["group"]["all_reduce_bytes"], 100_000_000);
    let speed = found["group"]["bytes_per_second"].as_f64().unwrap();
    assert!(speed > 1e6 && speed < 1e13, "{speed}");
    assert_eq!(found["group"]["faults"].as_array().unwrap().len(), 0);
}

#[test]
fn by_hand_people_see_every_process() {
    let port = free_port();
    let children: Vec<_> = (0..3).map(|rank| by_hand((rank, 3), &port, ["doctor"]).spawn().unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", text(output).1);
    }
    let (people, _) = text(&outputs[0]);
    for part in ["group          3 processes", "0 on ", "1 on ", "2 on ", "all-reduce     100 MB in "] {
        assert!(people.contains(part), "{part:?} is not in\n{people}");
    }
    assert!(outputs[1].stdout.is_empty() && outputs[2].stdout.is_empty());
}

#[test]
fn variables_that_make_no_sense_are_refused() {
    let output = by_hand((2, 2), "29999", ["doctor"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output).1.contains("RANK is 2 and WORLD_SIZE is 2: ranks count from 0 to 1"));
    let mut command = by_hand((0, 2), "29999", ["doctor"]);
    let output = command.env_remove("MASTER_ADDR").output().unwrap();
    assert!(text(&output).1.contains("MASTER_ADDR is not set"), "{}", text(&output).1);
}
