//! Agreement of a judge with a reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::PromptId;
use metareward_eval::judge::{
    ChosenBy, JudgeReport, JudgedPair, chosen_pairs, pair_agreement, read_pairs, read_scores,
};
use metareward_eval::{Bootstrap, Choice, Groups, Ties, agreement, spearman};
use proptest::collection::vec;
use proptest::prelude::*;

const QUICK: Bootstrap = Bootstrap { draws: 50, level: 0.95, seed: 9 };

fn pair(number: usize, judge: Choice, reference: Choice) -> JudgedPair {
    JudgedPair { prompt: PromptId(format!("p{number:03}")), judge, reference }
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![Just(Choice::First), Just(Choice::Second), Just(Choice::Tie)]
}

fn pairs() -> impl Strategy<Value = Vec<JudgedPair>> {
    vec((choice(), choice(), 0_usize..8), 0..40)
        .prop_map(|items| items.into_iter().map(|(judge, reference, number)| pair(number, judge, reference)).collect())
}

#[test]
fn ties_count_half_or_not_at_all() {
    use Choice::{First, Second, Tie};
    let pairs = [(First, First), (Second, First), (Tie, First), (Second, Second), (First, Tie), (Tie, Tie)];
    let pairs: Vec<_> = pairs.iter().enumerate().map(|(number, (a, b))| pair(number, *a, *b)).collect();
    let by_reference = pair_agreement(&pairs, ChosenBy::Reference, &QUICK);
    assert_eq!(by_reference.ties_half.unwrap().value, 2.5 / 4.0);
    assert_eq!(by_reference.without_ties.unwrap().value, 2.0 / 3.0);
    assert_eq!((by_reference.ties, by_reference.not_chosen), (1, 2));
    let by_judge = pair_agreement(&pairs, ChosenBy::Judge, &QUICK);
    assert_eq!(by_judge.ties_half.unwrap().value, 2.5 / 4.0);
    assert_eq!((by_judge.ties_half.unwrap().n, by_judge.without_ties.unwrap().n), (4, 3));
    assert_eq!((by_judge.ties, by_judge.not_chosen), (1, 2));
}

#[test]
fn a_side_chooses_its_best_and_its_worst() {
    let prompt = |name: &str| PromptId(name.to_string());
    // Judge and reference: the judge's ends are the first and the third, the reference's the second and the first.
    let scores: Groups<_> = [
        (prompt("a"), (5.0, 1.0)),
        (prompt("a"), (3.0, 9.0)),
        (prompt("a"), (1.0, 1.0)),
        (prompt("b"), (2.0, 1.0)),
        (prompt("b"), (2.0, 3.0)),
        (prompt("c"), (f64::NAN, 3.0)),
    ]
    .into_iter()
    .collect();
    let by_judge = chosen_pairs(&scores, ChosenBy::Judge);
    assert_eq!(by_judge, [JudgedPair { prompt: prompt("a"), judge: Choice::First, reference: Choice::Tie }]);
    let by_reference = chosen_pairs(&scores, ChosenBy::Reference);
    let expected = [
        JudgedPair { prompt: prompt("a"), judge: Choice::Second, reference: Choice::First },
        JudgedPair { prompt: prompt("b"), judge: Choice::Tie, reference: Choice::First },
    ];
    assert_eq!(by_reference, expected);
}

#[test]
fn a_report_names_both_sides_and_is_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scores.jsonl");
    let lines =
        (0..12).map(|i| format!("{{\"prompt\":\"p{}\",\"judge\":{},\"reference\":{}}}", i / 3, i * 5 % 7, i % 4));
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let scores = read_scores(&file).unwrap();
    let report = JudgeReport::from_scores("M1", "the oracle", &scores, &QUICK);
    let points: Vec<_> = scores.values().copied().collect();
    assert_eq!(report.spearman.unwrap().value, spearman(&points).unwrap());
    let text = report.to_string();
    for part in ["pairs chosen by the oracle: agreement, ties half", "pairs chosen by M1 itself", "n = 12 of 4 prompts"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let read: JudgeReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read.pairs, report.pairs);
    let file = folder.path().join("pairs.json");
    std::fs::write(&file, r#"[{"prompt":"p","judge":"first","reference":"tie"}]"#).unwrap();
    let sets = [(ChosenBy::Judge, read_pairs(&file).unwrap())];
    let report = JudgeReport::from_pairs("M1", "people", &sets, &QUICK);
    assert_eq!(report.pairs[0].ties_half.unwrap().value, 0.5);
    assert!(report.to_string().contains("no pair to measure it on"));
    std::fs::write(&file, r#"[{"prompt":"p","judge":"1st","reference":"tie"}]"#).unwrap();
    assert!(read_pairs(&file).unwrap_err().to_string().contains("unknown variant `1st`"));
}

proptest! {
    #[test]
    fn which_answer_is_called_first_does_not_matter(pairs in pairs()) {
        let turned: Vec<_> = pairs
            .iter()
            .map(|pair| JudgedPair { judge: pair.judge.turned(), reference: pair.reference.turned(), ..pair.clone() })
            .collect();
        for chosen_by in [ChosenBy::Judge, ChosenBy::Reference] {
            prop_assert_eq!(pair_agreement(&pairs, chosen_by, &QUICK), pair_agreement(&turned, chosen_by, &QUICK));
        }
    }

    #[test]
    fn who_chose_is_a_matter_of_names(pairs in pairs()) {
        let swapped: Vec<_> = pairs
            .iter()
            .map(|pair| JudgedPair { judge: pair.reference, reference: pair.judge, prompt: pair.prompt.clone() })
            .collect();
        let one = pair_agreement(&pairs, ChosenBy::Judge, &QUICK);
        let other = pair_agreement(&swapped, ChosenBy::Reference, &QUICK);
        prop_assert_eq!((one.ties_half, one.without_ties, one.ties), (other.ties_half, other.without_ties, other.ties));
    }

    #[test]
    fn a_judge_that_says_the_opposite_disagrees_as_often(pairs in pairs()) {
        let opposite: Vec<_> =
            pairs.iter().map(|pair| JudgedPair { judge: pair.judge.turned(), ..pair.clone() }).collect();
        let one = pair_agreement(&pairs, ChosenBy::Reference, &QUICK);
        let other = pair_agreement(&opposite, ChosenBy::Reference, &QUICK);
        for (one, other) in [(one.ties_half, other.ties_half), (one.without_ties, other.without_ties)] {
            prop_assert_eq!(one.is_some(), other.is_some());
            if let (Some(one), Some(other)) = (one, other) {
                prop_assert!((one.value + other.value - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn with_two_answers_per_prompt_it_is_agreement_over_pairs(scores in vec(((0_u8..4, 0_u8..4), (0_u8..4, 0_u8..4)), 1..30)) {
        let scores: Groups<(f64, f64)> = scores
            .iter()
            .enumerate()
            .flat_map(|(number, (a, b))| {
                [a, b].map(|(x, y)| (PromptId(format!("p{number:03}")), (f64::from(*x), f64::from(*y))))
            })
            .collect();
        let set = pair_agreement(&chosen_pairs(&scores, ChosenBy::Reference), ChosenBy::Reference, &QUICK);
        for (found, ties) in [(set.ties_half, Ties::Half), (set.without_ties, Ties::LeftOut)] {
            let expected = agreement(&scores, ties, &QUICK);
            prop_assert_eq!(found.map(|figure| figure.n), expected.map(|figure| figure.n));
            if let (Some(found), Some(expected)) = (found, expected) {
                prop_assert!((found.value - expected.value).abs() < 1e-12);
            }
        }
    }
}
