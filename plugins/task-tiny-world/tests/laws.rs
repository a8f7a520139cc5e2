//! The laws of tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Finding, Plan, all_held, check_options, check_task};
use metareward_plugin::{FromOptions, read_options, resolve_options, schema};
use serde_json::json;
use task_tiny_world::{TinyWorld, TinyWorldOptions};

#[test]
fn tiny_world_obeys_the_laws_of_tasks() {
    for options in [json!({}), json!({"operations": ["reverse", "count"], "composed": 1, "filler": 0})] {
        let task = TinyWorld::from_options(read_options(&options).unwrap()).unwrap();
        let outcomes = check_task(&task, Plan { cases: 32, seed: 1 });
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
        assert!(outcomes.iter().all(|outcome| outcome.finding == Finding::Held), "{outcomes:?}");
    }
}

#[test]
fn options_obey_their_laws() {
    let resolve = resolve_options::<TinyWorldOptions>;
    all_held(&check_options(&schema::<TinyWorldOptions>(), &resolve, Plan::default())).unwrap();
}
