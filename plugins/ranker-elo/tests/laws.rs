//! The laws of rankers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_laws::{Likelihood, Plan, RankerPromises, all_held, check_ranker};
use metareward_plugin::{FromOptions, read_options};
use ranker_elo::Elo;
use serde_json::json;

#[test]
fn elo_obeys_the_laws_of_rankers() {
    for regularization in [0.01, 1.0, 0.0] {
        let ranker = Elo::from_options(read_options(&json!({ "regularization": regularization })).unwrap()).unwrap();
        let likelihood = Likelihood { points: 400.0 / std::f64::consts::LN_10, regularization };
        let promises = RankerPromises {
            mirrors_ratings: true,
            // Without a penalty there is a maximum only for some battles: see tests/likelihood.rs.
            likelihood: (regularization > 0.0).then_some(likelihood),
        };
        let outcomes = check_ranker(&ranker, promises, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("regularization {regularization}: {broken}"));
    }
}
