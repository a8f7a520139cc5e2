//! Two models on one's own prompts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::PromptId;
use metareward_eval::alpaca::Regularization;
use metareward_eval::pairwise::{Pair, Pairs, PairwiseReport, compare};
use metareward_eval::{Bootstrap, Choice};
use proptest::collection::vec;
use proptest::prelude::*;

const QUICK: Bootstrap = Bootstrap { draws: 40, level: 0.95, seed: 2 };

fn of(items: Vec<Pair>) -> Pairs {
    let text = |text: &str| text.to_string();
    Pairs { model: text("M1"), baseline: text("seed"), judge: text("a judge"), length_unit: text("characters"), items }
}

fn choice() -> impl Strategy<Value = Option<Choice>> {
    prop_oneof![Just(Some(Choice::First)), Just(Some(Choice::Second)), Just(Some(Choice::Tie)), Just(None),]
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let pair = (0_u8..10, 1_u16..900, 1_u16..900, choice(), choice()).prop_map(
        |(prompt, a, b, model_first, baseline_first)| {
            let prompt = PromptId(format!("p{prompt}"));
            Pair { prompt, model_length: f64::from(a), baseline_length: f64::from(b), model_first, baseline_first }
        },
    );
    vec(pair, 6..40).prop_filter("a judgment", |pairs| pairs.iter().any(|pair| pair.points().is_some()))
}

#[test]
fn orders_are_joined_softly_and_strictly() {
    let pair = |model_first, baseline_first| Pair {
        prompt: PromptId("p".to_string()),
        model_length: 10.0,
        baseline_length: 20.0,
        model_first,
        baseline_first,
    };
    use Choice::{First, Second, Tie};
    for (model_first, baseline_first, points, strict) in [
        (Some(First), Some(Second), Some(1.0), Some(1.0)),
        (Some(First), Some(First), Some(0.5), Some(0.5)),
        (Some(First), Some(Tie), Some(0.75), Some(0.5)),
        (Some(Second), Some(First), Some(0.0), Some(0.0)),
        (Some(Second), None, Some(0.0), None),
        (None, None, None, None),
    ] {
        let pair = pair(model_first, baseline_first);
        assert_eq!((pair.points(), pair.strict_points()), (points, strict), "{pair:?}");
    }
}

#[test]
fn a_judge_of_positions_gives_a_half_and_is_found_out() {
    let pair = |number: usize| Pair {
        prompt: PromptId(format!("p{number}")),
        model_length: 10.0 + number as f64,
        baseline_length: 20.0,
        model_first: Some(Choice::First),
        baseline_first: Some(Choice::First),
    };
    let report = compare(&of((0..12).map(pair).collect()), Regularization::CrossValidated, &QUICK).unwrap();
    assert_eq!((report.win_rate.value, report.inconsistent, report.strict), (0.5, 12, [0, 12, 0]));
    assert_eq!(report.first_wins.unwrap().value, 1.0);
    let found = report.length_controlled.as_ref().unwrap();
    assert!((found.win_rate.value - 0.5).abs() < 1e-12);
    let text = report.to_string();
    for part in ["win rate, ties half: 50.00 % (95 % interval", "n = 12", "orders disagree: 12", " characters ("] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let read: PairwiseReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}

#[test]
fn files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let good =
        r#"{"prompt":"p","model_output":"über","baseline_output":"ab","model_first":"first","baseline_first":null}"#;
    std::fs::write(&file, good).unwrap();
    let pairs = Pairs::read(&file, "M1", "seed", "j").unwrap();
    assert_eq!((pairs.items[0].model_length, pairs.items[0].model_first), (4.0, Some(Choice::First)));
    let report = compare(&pairs, Regularization::None, &QUICK).unwrap();
    assert_eq!((report.win_rate.value, report.unread, report.strict_win_rate), (1.0, 1, None));
    assert!(report.no_length_controlled.unwrap().contains("nothing to fit"));
    for (bad, message) in [
        (good.replace("über", " "), "record 1: the model's output is empty"),
        (good.replace("\"first\"", "\"A\""), "unknown variant `A`"),
        (good.replace("model_first", "model_wins"), "unknown field `model_wins`"),
    ] {
        std::fs::write(&file, bad).unwrap();
        let found = Pairs::read(&file, "M1", "seed", "j").unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn swapping_the_models_mirrors_the_figures(pairs in pairs()) {
        let swapped = pairs.iter().map(|pair| Pair {
            prompt: pair.prompt.clone(),
            model_length: pair.baseline_length,
            baseline_length: pair.model_length,
            model_first: pair.baseline_first,
            baseline_first: pair.model_first,
        });
        let one = compare(&of(pairs.clone()), Regularization::L2(1.0), &QUICK).unwrap();
        let other = compare(&of(swapped.collect()), Regularization::L2(1.0), &QUICK).unwrap();
        prop_assert!((one.win_rate.value + other.win_rate.value - 1.0).abs() < 1e-12);
        prop_assert_eq!((one.inconsistent, one.unread), (other.inconsistent, other.unread));
        prop_assert_eq!(one.strict[0], other.strict[2]);
        prop_assert_eq!(one.strict[1], other.strict[1]);
        prop_assert_eq!(one.first_wins.map(|figure| figure.n), other.first_wins.map(|figure| figure.n));
        if let (Some(one), Some(other)) = (one.length_controlled, other.length_controlled) {
            prop_assert!((one.win_rate.value + other.win_rate.value - 1.0).abs() < 1e-8);
        }
    }

    #[test]
    fn the_strict_rate_lies_between_the_rate_and_a_half(pairs in pairs()) {
        // Pairs without ties, read in both orders: a disagreement is half a win by either rule.
        let clear: Vec<_> = pairs
            .into_iter()
            .filter(|pair| [pair.model_first, pair.baseline_first].iter().all(|seen| seen.is_some_and(Choice::is_decided)))
            .collect();
        prop_assume!(!clear.is_empty());
        let report = compare(&of(clear), Regularization::L2(1.0), &QUICK).unwrap();
        prop_assert!((report.win_rate.value - report.strict_win_rate.unwrap().value).abs() < 1e-12);
    }
}
