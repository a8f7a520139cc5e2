//! MT-Bench ratings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use metareward_api::PromptId;
use metareward_eval::bracketed::{Several, Unread};
use metareward_eval::mt_bench::{Categories, MtBenchReport, Rated, rate, read_rating, read_ratings};
use metareward_eval::{Bootstrap, Groups};
use proptest::collection::vec;
use proptest::prelude::*;

const QUICK: Bootstrap = Bootstrap { draws: 40, level: 0.95, seed: 6 };

#[test]
fn ratings_are_read_as_published() {
    for (text, rating) in [
        ("Rating: [[7]]", Ok(7.0)),
        ("Rating: [[7.5]] and so on", Ok(7.5)),
        ("a list [1] but Rating: [[10]]", Ok(10.0)),
        ("only Rating: [8]", Ok(8.0)),
        ("[[9.]]", Ok(9.0)),
        ("[[ 6 ]]", Ok(6.0)),
        ("[[ten]] and [[3]]", Ok(3.0)),
        ("Rating: 7", Err(Unread::Missing)),
        ("[[-3]]", Err(Unread::Missing)),
        ("[[1e1]] [[inf]] [[nan]]", Err(Unread::Missing)),
        ("[[11]]", Err(Unread::OffScale)),
        ("[[0]]", Err(Unread::OffScale)),
    ] {
        assert_eq!(read_rating(text, Several::First), rating, "{text}");
    }
    let two = "[[4]], no, [[6]]";
    assert_eq!(read_rating(two, Several::First), Ok(4.0));
    assert_eq!(read_rating(two, Several::Last), Ok(6.0));
    assert_eq!(read_rating(two, Several::Agreeing), Err(Unread::Conflict));
}

/// A record as the public tool writes it.
fn line(question: u32, model: &str, turn: u32, score: &str) -> String {
    format!(
        r#"{{"question_id":{question},"model":"{model}","judge":["gpt-4","single-v1"],"user_prompt":"…","judgment":"fine: [[2]]","score":{score},"turn":{turn},"tstamp":1.5}}"#
    )
}

#[test]
fn means_are_per_turn_and_category() {
    let text = [
        line(81, "a", 1, "8"),
        line(81, "a", 2, "6"),
        line(82, "a", 1, "9.5"),
        line(82, "a", 2, "-1"),
        line(81, "b", 1, "10"),
    ];
    let ratings = read_ratings("r.jsonl", &text.join("\n"), Several::First).unwrap();
    // The public tool's −1 is looked for in the text, which says 2.
    assert_eq!(ratings[3].rating, Ok(2.0));
    let categories = Categories(BTreeMap::from([(81, "writing".to_string()), (82, "math".to_string())]));
    let lengths: Groups<f64> =
        [(PromptId("81".to_string()), 10.0), (PromptId("82".to_string()), 20.0)].into_iter().collect();
    let lengths = BTreeMap::from([("a".to_string(), lengths)]);
    let report = rate(&ratings, &categories, Some((&lengths, "characters")), &QUICK).unwrap();
    assert_eq!(report.rows[0].model, "b");
    let a = &report.rows[1];
    assert_eq!((a.mean.value, a.mean.n, a.mean.prompts), (6.375, 4, 2));
    assert_eq!(a.turns.map(|turn| turn.unwrap().value), [8.75, 4.0]);
    assert_eq!((a.categories["writing"].value, a.categories["math"].value), (7.0, 5.75));
    assert!(report.rows[0].turns[1].is_none());
    let text = report.to_string();
    for part in ["a: 6.375 (95 % interval", "n = 4 of 2 prompts", "  turn 2: no rating", "mean length: 15.0 characters"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let read: MtBenchReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
    let without = Categories(BTreeMap::from([(81, "writing".to_string())]));
    assert!(rate(&ratings, &without, None, &QUICK).unwrap_err().to_string().contains("question 82"));
}

#[test]
fn what_is_wrong_with_ratings_is_said() {
    let good = line(81, "a", 1, "8");
    for (text, message) in [
        (format!("{good}\n{good}"), "r, record 2: turn 1 of a on question 81 was rated before"),
        (line(81, "a", 3, "8"), "r, record 1: the turn is 3; expected 1 or 2"),
        (line(81, "a", 1, "11"), "r, record 1: the score is 11; expected 1 to 10"),
        ("{}".to_string(), "r, record 1: missing field `question_id`"),
        (String::new(), "r: no record; expected ratings"),
    ] {
        let found = read_ratings("r", &text, Several::First).unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }
    let unread = read_ratings("r", &good.replace("[[2]]", "2").replace("\"score\":8", "\"score\":-1"), Several::First);
    assert!(rate(&unread.unwrap(), &Categories::default(), None, &QUICK).is_err());
}

#[test]
fn the_public_questions_have_eight_categories_of_ten() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/prompts/mt_bench.jsonl");
    if !file.is_file() {
        println!("skipped: the public questions are not there ({})", file.display());
        return;
    }
    let categories = Categories::read(&file).unwrap();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for category in categories.0.values() {
        *counts.entry(category).or_default() += 1;
    }
    assert_eq!((counts.len(), counts.values().all(|count| *count == 10)), (8, true), "{counts:?}");
}

proptest! {
    #[test]
    fn a_mean_over_complete_turns_is_the_mean_of_the_turns(scores in vec((1_u32..=10, 1_u32..=10), 1..30), shift in 0_usize..30) {
        let rated = |question: usize, turn: u32, rating: u32| Rated {
            question: question as u32,
            model: "m".to_string(),
            turn,
            rating: Ok(f64::from(rating)),
        };
        let mut ratings: Vec<Rated> = scores
            .iter()
            .enumerate()
            .flat_map(|(question, (first, second))| [rated(question, 1, *first), rated(question, 2, *second)])
            .collect();
        let report = rate(&ratings, &Categories::default(), None, &QUICK).unwrap();
        let row = &report.rows[0];
        let turns = row.turns.map(|turn| turn.unwrap().value);
        prop_assert!((row.mean.value - (turns[0] + turns[1]) / 2.0).abs() < 1e-12);
        // The order of the records does not matter: whole numbers have one sum.
        let length = ratings.len();
        ratings.rotate_left(shift % length);
        prop_assert_eq!(rate(&ratings, &Categories::default(), None, &QUICK).unwrap(), report);
    }
}
