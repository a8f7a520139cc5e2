//! Biases of a judge, planted and found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::PromptId;
use metareward_eval::bias::{
    BiasReport, Shown, length, parse_failures, position, read_shown, saturation, self_preference,
};
use metareward_eval::{Bootstrap, Choice, Groups};
use proptest::collection::vec;
use proptest::prelude::*;

const QUICK: Bootstrap = Bootstrap { draws: 40, level: 0.95, seed: 4 };

fn groups<T>(items: Vec<T>) -> Groups<T> {
    items.into_iter().enumerate().map(|(number, item)| (PromptId(format!("p{number:04}")), item)).collect()
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![Just(Choice::First), Just(Choice::Second), Just(Choice::Tie)]
}

fn shown() -> impl Strategy<Value = Vec<Shown>> {
    let size = || (0_u8..4).prop_map(f64::from);
    let seen = (proptest::option::of(choice()), size(), size(), size(), size(), choice(), choice()).prop_map(
        |(choice, a, b, c, d, own, reference)| Shown {
            choice,
            scores: Some((a, b)),
            lengths: Some((c, d)),
            own: Some(own),
            reference: Some(reference),
        },
    );
    vec(seen, 1..40)
}

#[test]
fn position_is_split_by_scores() {
    let seen = |choice, first: f64, second: f64| Shown {
        choice: Some(choice),
        scores: Some((first, second)),
        ..Shown::default()
    };
    use Choice::{First, Second, Tie};
    let mut items = vec![
        seen(First, 4.0, 4.0),
        seen(First, 4.0, 4.0),
        seen(Second, 4.0, 4.0),
        seen(First, 5.0, 4.0),
        seen(First, 3.0, 4.0),
        seen(Tie, 3.0, 4.0),
        seen(Second, 3.0, 4.0),
    ];
    items.push(Shown { choice: Some(Second), ..Shown::default() });
    items.push(Shown::default());
    let found = position(&groups(items), &QUICK).unwrap();
    assert_eq!(found.first_equal.unwrap().value, 2.0 / 3.0);
    assert_eq!(found.first_different.unwrap().value, 2.0 / 3.0);
    assert_eq!(found.first_all.unwrap().value, 4.0 / 7.0);
    assert_eq!(found.higher_wins.unwrap().value, 2.0 / 3.0);
    assert_eq!(found.lower_wins.unwrap().value, 1.0 / 3.0);
    assert_eq!(found.ties, 1);
    assert!(position(&groups(vec![Shown::default()]), &QUICK).is_none());
}

#[test]
fn the_weight_of_length_is_found() {
    // The longer one, by 30 characters, is chosen 8 times of 10 in either place.
    let seen = |number: usize| {
        let longer_first = number.is_multiple_of(2);
        let longer_wins = number / 2 % 10 < 8;
        let lengths = Some(if longer_first { (130.0, 100.0) } else { (100.0, 130.0) });
        let choice = Some(if longer_first == longer_wins { Choice::First } else { Choice::Second });
        Shown { choice, lengths, ..Shown::default() }
    };
    let found = length(&groups((0..200).map(seen).collect()), "characters", &QUICK).unwrap();
    assert_eq!(found.longer_wins.unwrap().value, 0.8);
    assert_eq!(found.deviation, 30.0);
    let slope = found.slope.unwrap();
    assert!((slope.value - 4.0_f64.ln()).abs() < 1e-9, "{slope:?}");
    assert!(slope.interval.unwrap().low > 0.5);
    // A judge who always takes the longer one has no finite slope, and that is said.
    let always = (0..20).map(|number| Shown {
        choice: Some(Choice::First),
        lengths: Some((50.0 + f64::from(number), 10.0)),
        ..Shown::default()
    });
    let found = length(&groups(always.collect()), "characters", &QUICK).unwrap();
    assert_eq!(found.longer_wins.unwrap().value, 1.0);
    assert!(found.no_slope.unwrap().contains("no finite maximum"));
    let same = vec![Shown { choice: Some(Choice::Tie), lengths: Some((5.0, 5.0)), ..Shown::default() }; 3];
    let found = length(&groups(same), "characters", &QUICK).unwrap();
    assert!(found.longer_wins.is_none() && found.slope.is_none());
}

#[test]
fn a_judge_that_favours_itself_is_found_out() {
    let seen = |number: usize| {
        let own = if number.is_multiple_of(2) { Choice::First } else { Choice::Second };
        let reference = if number % 4 < 2 { own } else { own.turned() };
        Shown { choice: Some(own), own: Some(own), reference: Some(reference), ..Shown::default() }
    };
    let found = self_preference(&groups((0..40).map(seen).collect()), &QUICK).unwrap();
    assert_eq!((found.own_wins.value, found.reference.unwrap().value, found.excess.unwrap().value), (1.0, 0.5, 0.5));
    assert!(found.excess.unwrap().interval.unwrap().low > 0.2);
    assert!(
        self_preference(&groups(vec![Shown { choice: Some(Choice::First), ..Shown::default() }]), &QUICK).is_none()
    );
}

#[test]
fn a_report_says_what_was_measured() {
    let scores = groups(vec![5.0, 5.0, 5.0, 4.0]);
    let lengths = groups(vec![(5.0, 20.0), (4.0, 10.0), (5.0, 30.0)]);
    let outcomes = groups(vec![None, Some("no score".to_string()), None, Some("no score".to_string())]);
    let seen =
        Shown { choice: Some(Choice::First), scores: Some((5.0, 4.0)), lengths: Some((3.0, 4.0)), ..Shown::default() };
    let other = Shown { choice: Some(Choice::Second), scores: Some((4.0, 4.0)), lengths: Some((6.0, 4.0)), ..seen };
    let shown = groups(vec![seen, other, seen, other]);
    let report = BiasReport {
        judge: "M1".to_string(),
        position: position(&shown, &QUICK),
        length: length(&shown, "characters", &QUICK),
        own: None,
        saturation: saturation(&scores, 5.0, &lengths, &QUICK),
        failures: parse_failures(&outcomes, &QUICK),
        bootstrap: QUICK,
    };
    let found = report.saturation.as_ref().unwrap();
    assert_eq!((found.mode, found.full.value, found.mean.value), ((5.0, 0.75), 0.75, 4.75));
    assert!((found.entropy - 0.8112781244591328).abs() < 1e-12);
    assert!((found.length_correlation.unwrap().value - 0.75_f64.sqrt()).abs() < 1e-12);
    let failures = report.failures.as_ref().unwrap();
    assert_eq!((failures.rate.value, failures.reasons["no score"]), (0.5, 2));
    let text = report.to_string();
    for part in
        ["unread: 50.00 %", "  2: no score", "scores: 4: 1, 5: 3", "the longer one chosen: 0.00 %", "M1 as a judge"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let read: BiasReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}

#[test]
fn comparisons_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shown.jsonl");
    let good = r#"{"prompt":"p","choice":"first","scores":[4,5],"lengths":[10,20],"own":"second","reference":null}"#;
    std::fs::write(&file, format!("{good}\n{{\"prompt\":\"q\",\"choice\":null}}\n")).unwrap();
    let shown = read_shown(&file).unwrap();
    let report = BiasReport::from_shown("M1", &shown, "characters", &QUICK);
    assert_eq!(report.position.unwrap().lower_wins.unwrap().value, 1.0);
    assert_eq!(report.length.unwrap().longer_wins.unwrap().value, 0.0);
    assert_eq!((report.own.unwrap().own_wins.value, report.failures.unwrap().rate.value), (0.0, 0.5));
    for (bad, message) in [
        (good.replace("\"second\"", "\"tie\""), "record 1: `own` is `tie`"),
        (good.replace("[10,20]", "[10,-20]"), "record 1: a length is negative"),
        (good.replace("[4,5]", "[4]"), "record 1: invalid length 1"),
        (good.replace("scores", "points"), "unknown field `points`"),
    ] {
        std::fs::write(&file, bad).unwrap();
        let found = read_shown(&file).unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn turning_every_comparison_turns_position_and_nothing_else(items in shown()) {
        let both = |pair: Option<(f64, f64)>| pair.map(|(a, b)| (b, a));
        let turned = items.iter().map(|seen| Shown {
            choice: seen.choice.map(Choice::turned),
            scores: both(seen.scores),
            lengths: both(seen.lengths),
            own: seen.own.map(Choice::turned),
            reference: seen.reference.map(Choice::turned),
        });
        let (one, other) = (groups(items.clone()), groups(turned.collect()));
        prop_assert_eq!(self_preference(&one, &QUICK), self_preference(&other, &QUICK));
        let (a, b) = (position(&one, &QUICK), position(&other, &QUICK));
        prop_assert_eq!(a.is_some(), b.is_some());
        if let (Some(a), Some(b)) = (a, b) {
            prop_assert_eq!((a.higher_wins, a.lower_wins, a.ties), (b.higher_wins, b.lower_wins, b.ties));
            for (a, b) in [(a.first_equal, b.first_equal), (a.first_different, b.first_different), (a.first_all, b.first_all)] {
                prop_assert_eq!(a.is_some(), b.is_some());
                if let (Some(a), Some(b)) = (a, b) {
                    prop_assert!((a.value + b.value - 1.0).abs() < 1e-12);
                }
            }
            if let (Some(higher), Some(lower)) = (a.higher_wins, a.lower_wins) {
                prop_assert!((higher.value + lower.value - 1.0).abs() < 1e-12);
            }
        }
        if let (Some(a), Some(b)) = (length(&one, "words", &QUICK), length(&other, "words", &QUICK)) {
            prop_assert_eq!(a.longer_wins, b.longer_wins);
            prop_assert_eq!(a.slope.is_some(), b.slope.is_some());
            if let (Some(a), Some(b)) = (a.slope, b.slope) {
                prop_assert!((a.value - b.value).abs() < 1e-6 * a.value.abs().max(1.0), "{} {}", a.value, b.value);
            }
        }
    }
}
