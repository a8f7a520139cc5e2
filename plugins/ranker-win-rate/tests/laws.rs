//! The laws of rankers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_ranker};
use metareward_plugin::{FromOptions, read_options};
use ranker_win_rate::WinRate;
use serde_json::json;

#[test]
fn win_rate_obeys_the_laws_of_rankers() {
    for over in ["opponents", "battles"] {
        let ranker = WinRate::from_options(read_options(&json!({ "over": over })).unwrap()).unwrap();
        all_held(&check_ranker(&ranker, Plan::default())).unwrap_or_else(|broken| panic!("{over}: {broken}"));
    }
}
