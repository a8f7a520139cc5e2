//! The laws of rankers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Plan, all_held, check_ranker};
use metareward_plugin::{FromOptions, read_options};
use ranker_newman::Newman;
use serde_json::{Value, json};

#[test]
fn newman_obeys_the_laws_of_rankers() {
    for tie_rate in [Value::Null, json!(0.5), json!(20)] {
        for regularization in [0.01, 1.0, 0.0] {
            let options = json!({ "regularization": regularization, "tie_rate": tie_rate });
            let ranker = Newman::from_options(read_options(&options).unwrap()).unwrap();
            let mut outcomes = check_ranker(&ranker, Plan::default());
            if regularization == 0.0 {
                // A win that makes the maximum finite, or a new player who makes it infinite, switches the stand-in for the
                // penalty: ratings jump then, and players who were almost equal may change places (README).
                outcomes.retain(|outcome| !outcome.law.starts_with("a win more"));
            }
            all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
        }
    }
}
