//! The laws of rankers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_ranker};
use metareward_plugin::{FromOptions, read_options};
use ranker_elo_online::EloOnline;
use serde_json::json;

#[test]
fn elo_online_obeys_the_laws_of_rankers() {
    for options in [json!({}), json!({ "k": 32, "initial": 0 }), json!({ "k": 0.5, "base": 3, "scale": 1 })] {
        let ranker = EloOnline::from_options(read_options(&options).unwrap()).unwrap();
        all_held(&check_ranker(&ranker, Plan::default())).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}
