//! The laws of rankers, and what can be counted by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{Battle, Ranker, RankingProblem, Remark};
use metareward_laws::{Plan, all_held, check_ranker};
use metareward_plugin::{FromOptions, read_options};
use ranker_copeland::{Copeland, CopelandOptions};
use serde_json::json;

#[test]
fn copeland_obeys_the_laws_of_rankers() {
    for normalized in [false, true] {
        let ranker = Copeland::from_options(read_options(&json!({ "normalized": normalized })).unwrap()).unwrap();
        all_held(&check_ranker(&ranker, Plan::default())).unwrap_or_else(|broken| panic!("{normalized}: {broken}"));
    }
}

#[test]
fn margins_do_not_matter_and_majorities_do() {
    let battle = |left, right, left_wins, right_wins, ties| Battle { left, right, left_wins, right_wins, ties };
    let battles = vec![
        // 0 beats 1 narrowly, in two meetings from either side, and 2 by far; 1 and 2 are even; 3 only tied with 2.
        battle(0, 1, 3.0, 1.0, 0.0),
        battle(1, 0, 3.0, 2.5, 5.0),
        battle(2, 0, 1.0, 90.0, 0.0),
        battle(1, 2, 2.0, 2.0, 0.0),
        battle(3, 2, 0.0, 0.0, 4.0),
    ];
    let problem = RankingProblem { players: 5, battles };
    let rate = |normalized| {
        let ranker = Copeland::from_options(CopelandOptions { normalized }).unwrap();
        ranker.rate(std::slice::from_ref(&problem)).unwrap().remove(0)
    };
    assert_eq!(rate(false).ratings, [2.0, -1.0, -1.0, 0.0, 0.0]);
    assert_eq!(rate(true).ratings, [1.0, -0.5, -1.0 / 3.0, 0.0, 0.0]);
    assert_eq!(rate(true).remarks, [Remark::Disconnected(2)]);
}
