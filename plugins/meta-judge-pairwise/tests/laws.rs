//! The laws of meta-judges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use meta_judge_pairwise::Pairwise;
use metareward_laws::{MetaJudgePromises, Plan, all_held, check_meta_judge};
use metareward_plugin::{FromOptions, read_options};
use serde_json::json;

#[test]
fn pairwise_obeys_the_laws_of_meta_judges() {
    for (options, paper_weights) in [
        (json!({}), true),
        (json!({"position_weights": false}), false),
        (
            json!({"disagreement": "tie", "labels": ["one", "two"], "winner_line": "The better one: [[{{winner}}]]"}),
            false,
        ),
        (
            json!({
                "template": "judge : {{prompt}} answer : {{response}} first : {{first}} second : {{second}} better :",
                "winner_line": "winner {{winner}}",
                "guard": "remove",
                "strip_score": "score {{score}}",
            }),
            true,
        ),
    ] {
        let judge = Pairwise::from_options(read_options(&options).unwrap()).unwrap();
        let promises = MetaJudgePromises { paper_weights, shows_judgments_whole: true };
        let outcomes = check_meta_judge(&judge, promises, Plan::default());
        all_held(&outcomes).unwrap_or_else(|broken| panic!("{options}: {broken}"));
    }
}
