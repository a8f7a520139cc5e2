//! Arena-Hard: against a logistic regression by scikit-learn, and by laws.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use metareward_eval::Bootstrap;
use metareward_eval::arena::{
    Answers, ArenaOptions, ArenaReport, Draws, Game, Judgment, Judgments, Label, Statistic, read_label, score,
};
use metareward_eval::bracketed::{Several, Unread};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    judgments: serde_json::Value,
    bradley_terry: BTreeMap<String, f64>,
    mean_points: Option<BTreeMap<String, f64>>,
}

fn options(statistic: Statistic, draws: Draws) -> ArenaOptions {
    let bootstrap = Bootstrap { draws: 60, level: 0.95, seed: 5 };
    ArenaOptions { statistic, draws, bootstrap, ..ArenaOptions::version_0_1("anchor") }
}

fn by_model(report: &ArenaReport) -> BTreeMap<String, f64> {
    report.rows.iter().map(|row| (row.model.clone(), row.score.value)).collect()
}

fn assert_near(found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>, tolerance: f64) {
    for (model, expected) in expected {
        assert!((found[model] - expected).abs() < tolerance, "{model}: {} {expected}", found[model]);
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    let reference: Reference = serde_json::from_str(include_str!("reference/arena.json")).unwrap();
    assert_eq!(reference.cases.len(), 2);
    for case in reference.cases {
        let judgments = Judgments::from_json("j.json", &case.judgments.to_string(), Several::Agreeing).unwrap();
        let report = score(&judgments, &options(Statistic::BradleyTerry, Draws::Games)).unwrap();
        assert_eq!(report.rows.len(), 3);
        assert_near(&by_model(&report), &case.bradley_terry, 1e-6);
        for row in &report.rows {
            let interval = row.score.interval.unwrap();
            assert!(interval.low < row.score.value && row.score.value < interval.high, "{row:?}");
        }
        if let Some(means) = &case.mean_points {
            let report = score(&judgments, &options(Statistic::MeanPoints, Draws::Questions)).unwrap();
            assert_near(&by_model(&report), means, 1e-12);
            assert!(report.rows.iter().any(|row| !row.unread.is_empty()));
        }
    }
}

#[test]
fn labels_are_read_as_published() {
    for (text, label) in [
        ("My final verdict is tie: [[A=B]]", Label::Equal),
        ("[[A>>B]]", Label::FirstMuchBetter),
        ("so [[ B > A ]].", Label::SecondBetter),
        ("[[[B>>A]]]", Label::SecondMuchBetter),
        ("see [[1]] and [[note]]: [[A<<B]]", Label::SecondMuchBetter),
        ("[[ [[A>B]] and again [[A>B]]", Label::FirstBetter),
    ] {
        assert_eq!(read_label(text, Several::Agreeing), Ok(label), "{text}");
    }
    let both = "at first [[A>B]], but [[B>A]]";
    assert_eq!(read_label(both, Several::Agreeing), Err(Unread::Conflict));
    assert_eq!(read_label(both, Several::Last), Ok(Label::SecondBetter));
    assert_eq!(read_label(both, Several::First), Ok(Label::FirstBetter));
    for text in ["", "A>B", "[A>B]", "[[A>B", "[[C]]", "]]A>B[["] {
        assert_eq!(read_label(text, Several::Agreeing), Err(Unread::Missing), "{text}");
    }
}

#[test]
fn both_versions_of_the_file_are_read() {
    let old = r#"{"question_id":81,"model":"m","judge":"gpt-4","games":[{"judgment":"… [[B>A]]"},{"judgment":"x","score":"A>>B"}]}"#;
    let new = r#"{"uid":"81","category":"hard_prompt","model":"n","judge":"gpt-4","games":[{"score":"B>A"},{"judgment":{"answer":"[[A>>B]]"},"score":null}]}"#;
    let judgments = Judgments::from_json("j.jsonl", &format!("{old}\n\n{new}\n"), Several::Agreeing).unwrap();
    assert_eq!(judgments.items[0].first, judgments.items[1].first);
    assert_eq!(judgments.items[0].second, judgments.items[1].second);
    assert_eq!(judgments.items[0].question, judgments.items[1].question);
    let report = score(&judgments, &ArenaOptions::version_2_0("anchor")).unwrap();
    assert_eq!(report.rows[0].score.value, 1.0);
    assert_eq!((report.rows[0].elo, report.rows[0].games), (None, [2, 0, 0]));
    assert_eq!(report.rows[0].first_wins, Some(0.5));
    let refuse = |text: &str| Judgments::from_json("j", text, Several::Agreeing).unwrap_err().to_string();
    assert!(refuse(&old.replace("A>>B", "A?B")).contains("j, record 1: the score is `A?B`; expected A>>B"));
    assert!(refuse(&format!("{old}\n{old}")).contains("j, record 2: m was judged on question 81 before"));
    assert!(refuse(&format!("{old}\n{}", new.replace("gpt-4", "other"))).contains("judge is `other`"));
    assert!(refuse(&old.replace("81", "[1]")).contains("a question's number or name"));
    let unread = old.replace("[[B>A]]", "B>A").replace("A>>B", "A=B");
    let unread = Judgments::from_json("j", &unread, Several::Agreeing).unwrap();
    let report = score(&unread, &ArenaOptions::version_0_1("anchor")).unwrap();
    assert_eq!(report.rows[0].unread, BTreeMap::from([(Unread::Missing, 1)]));
    assert_eq!((report.rows[0].score.n, report.rows[0].score.value), (1, 0.5));
    assert!(score(&unread, &ArenaOptions::version_2_0("anchor")).is_err());
}

#[test]
fn lengths_come_from_answer_files_of_both_versions() {
    let mut answers = Answers::default();
    answers.add_json("a", r#"{"question_id":1,"model_id":"m","choices":[{"turns":[{"content":"über"}]}]}"#).unwrap();
    let new = r#"{"uid":"2","model":"m","messages":[{"role":"user","content":"?"},{"role":"assistant","content":{"answer":"ab"}}]}"#;
    answers.add_json("b", new).unwrap();
    let judged = r#"{"question_id":1,"model":"m","games":[{"score":"A=B"},{"score":"A=B"}]}"#;
    let judgments = Judgments::from_json("j", judged, Several::Agreeing).unwrap();
    let mut report = score(&judgments, &ArenaOptions::version_0_1("anchor")).unwrap();
    report.add_lengths(&answers);
    assert_eq!(report.rows[0].length.unwrap().value, 3.0);
    let text = report.to_string();
    assert!(text.contains("mean length 3.0 characters (95 % interval 2.0 to 4.0, n = 2)"), "{text}");
    let read: ArenaReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}

fn label() -> impl Strategy<Value = Seen> {
    prop_oneof![
        Just(Ok(Label::FirstMuchBetter)),
        Just(Ok(Label::FirstBetter)),
        Just(Ok(Label::Equal)),
        Just(Ok(Label::SecondBetter)),
        Just(Ok(Label::SecondMuchBetter)),
        Just(Err(Unread::Missing)),
    ]
}

type Seen = Result<Label, Unread>;
/// Labels of both games on each question.
type Games = Vec<(Seen, Seen)>;

fn judgments(games: &Games, model: &str, opponent: &str) -> Vec<Judgment> {
    let judgment = |(index, (first, second)): (usize, &(Seen, Seen))| Judgment {
        question: format!("q{index}"),
        category: None,
        model: model.to_string(),
        opponent: Some(opponent.to_string()),
        first: Game { label: first.clone() },
        second: Game { label: second.clone() },
    };
    games.iter().enumerate().map(judgment).collect()
}

fn readable(games: &Games) -> bool {
    games.iter().any(|(first, second)| first.is_ok() && second.is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn turning_every_label_mirrors_the_score(games in vec((label(), label()), 1..40).prop_filter("labels", readable)) {
        for statistic in [Statistic::BradleyTerry, Statistic::MeanPoints] {
            for draws in [Draws::Games, Draws::Questions] {
                let options = options(statistic, draws);
                let turned: Games = games
                    .iter()
                    .map(|(a, b)| (a.clone().map(Label::turned), b.clone().map(Label::turned)))
                    .collect();
                let of = |games: &Games| {
                    let judgments = Judgments { judge: None, items: judgments(games, "m", "anchor") };
                    score(&judgments, &options).unwrap().rows.remove(0)
                };
                let (one, other) = (of(&games), of(&turned));
                prop_assert!((one.score.value + other.score.value - 1.0).abs() < 1e-12);
                if let (Some(a), Some(b)) = (one.score.interval, other.score.interval) {
                    prop_assert!((a.low + b.high - 1.0).abs() < 1e-9);
                }
                if let (Some(a), Some(b)) = (one.elo, other.elo) {
                    prop_assert!((a + b - 2000.0).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn a_judge_that_looks_at_the_position_only_gives_a_half(label in label().prop_filter("a label", |label| label.is_ok()), n in 1_usize..20) {
        let games = vec![(label.clone(), label); n];
        let judgments = Judgments { judge: None, items: judgments(&games, "m", "anchor") };
        for statistic in [Statistic::BradleyTerry, Statistic::MeanPoints] {
            let report = score(&judgments, &options(statistic, Draws::Questions)).unwrap();
            prop_assert_eq!(report.rows[0].score.value, 0.5);
        }
    }

    #[test]
    fn other_models_do_not_change_a_score_against_the_anchor(
        own in vec((label(), label()), 1..20).prop_filter("labels", readable),
        other in vec((label(), label()), 1..20).prop_filter("labels", readable),
    ) {
        let options = options(Statistic::BradleyTerry, Draws::Games);
        let alone = Judgments { judge: None, items: judgments(&own, "m", "anchor") };
        let mut together = alone.clone();
        together.items.extend(judgments(&other, "n", "anchor"));
        let alone = score(&alone, &options).unwrap();
        let together = score(&together, &options).unwrap();
        prop_assert_eq!(by_model(&alone)["m"], by_model(&together)["m"]);
    }

    #[test]
    fn the_order_of_the_records_does_not_matter(games in vec((label(), label()), 2..20).prop_filter("labels", readable)) {
        let mut items = judgments(&games, "m", "anchor");
        let options = options(Statistic::BradleyTerry, Draws::Questions);
        let one = score(&Judgments { judge: None, items: items.clone() }, &options).unwrap();
        items.reverse();
        prop_assert_eq!(score(&Judgments { judge: None, items }, &options).unwrap(), one);
    }
}
