//! Laws of the figures, on random measurements.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::PromptId;
use metareward_eval::{
    Bootstrap, Groups, Spread, Ties, agreement, agreement_of, kendall, mean, quantile, share_from, spearman, win_rate,
};
use proptest::collection::vec;
use proptest::prelude::*;

const QUICK: Bootstrap = Bootstrap { draws: 50, level: 0.9, seed: 7 };

fn prompt(number: u8) -> PromptId {
    PromptId(format!("p{number}"))
}

/// Points from a scale of a few steps, so that ties are frequent.
fn points() -> impl Strategy<Value = Vec<(u8, f64)>> {
    vec((0_u8..12, (0_u8..6).prop_map(f64::from)), 1..40)
}

fn groups(items: &[(u8, f64)]) -> Groups<f64> {
    items.iter().map(|(number, value)| (prompt(*number), *value)).collect()
}

fn pairs() -> impl Strategy<Value = Vec<(f64, f64)>> {
    // Zero comes with either sign: it is one value.
    let number =
        || (-4_i8..4, any::<bool>()).prop_map(|(size, turn)| if turn { -f64::from(size) } else { f64::from(size) });
    vec((number(), number()), 0..60)
}

/// Kendall's tau-b as it is defined, pair by pair.
fn kendall_by_definition(points: &[(f64, f64)]) -> Option<f64> {
    let (mut order, mut left, mut right) = (0.0, 0.0_f64, 0.0_f64);
    for (place, a) in points.iter().enumerate() {
        for b in &points[place + 1..] {
            let (x, y) = (a.0 - b.0, a.1 - b.1);
            order += x * y / (x * y).abs().max(f64::MIN_POSITIVE);
            left += f64::from(u8::from(x != 0.0));
            right += f64::from(u8::from(y != 0.0));
        }
    }
    (left > 0.0 && right > 0.0).then(|| order / (left * right).sqrt())
}

proptest! {
    #[test]
    fn win_rates_of_two_models_add_up_to_one(ours in points(), theirs in points()) {
        let (ours, theirs) = (groups(&ours), groups(&theirs));
        let one = win_rate(&ours, &theirs, &QUICK);
        let other = win_rate(&theirs, &ours, &QUICK);
        prop_assert_eq!(one.is_some(), other.is_some());
        if let (Some(one), Some(other)) = (one, other) {
            prop_assert!((one.value + other.value - 1.0).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&one.value));
            prop_assert_eq!(one.n, other.n);
            if let (Some(a), Some(b)) = (one.interval, other.interval) {
                prop_assert!((a.low + b.high - 1.0).abs() < 1e-9 && (a.high + b.low - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_model_wins_half_against_itself(items in points()) {
        let model = groups(&items);
        let figure = win_rate(&model, &model, &QUICK).unwrap();
        prop_assert!((figure.value - 0.5).abs() < 1e-12);
    }

    #[test]
    fn rank_correlations_do_not_feel_a_rising_map(points in pairs()) {
        let mapped: Vec<_> = points.iter().map(|(x, y)| ((x / 2.0).exp() - 3.0, y.powi(3) + y)).collect();
        prop_assert_eq!(spearman(&points), spearman(&mapped));
        prop_assert_eq!(kendall(&points), kendall(&mapped));
    }

    #[test]
    fn rank_correlations_turn_with_one_side(points in pairs()) {
        let turned: Vec<_> = points.iter().map(|(x, y)| (*x, -y)).collect();
        let swapped: Vec<_> = points.iter().map(|(x, y)| (*y, *x)).collect();
        for statistic in [spearman, kendall] {
            let value = statistic(&points);
            prop_assert!(value.is_none_or(|value| (-1.0..=1.0).contains(&value)));
            prop_assert_eq!(statistic(&turned).is_some(), value.is_some());
            if let (Some(value), Some(turned), Some(swapped)) = (value, statistic(&turned), statistic(&swapped)) {
                prop_assert!((value + turned).abs() < 1e-12, "{} {}", value, turned);
                prop_assert!((value - swapped).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn kendall_is_what_its_definition_says(points in pairs()) {
        match (kendall(&points), kendall_by_definition(&points)) {
            (Some(fast), Some(slow)) => prop_assert!((fast - slow).abs() < 1e-12, "{} {}", fast, slow),
            (fast, slow) => prop_assert_eq!(fast, slow),
        }
    }

    #[test]
    fn order_of_the_records_does_not_matter(items in points(), shift in 0_usize..40) {
        // Whole numbers have one sum in any order.
        let mut other = items.clone();
        other.rotate_left(shift % items.len());
        other.reverse();
        prop_assert_eq!(mean(&groups(&items), &QUICK), mean(&groups(&other), &QUICK));
    }

    #[test]
    fn the_interval_of_a_mean_lies_among_the_values(items in points()) {
        let values = groups(&items);
        let figure = mean(&values, &QUICK).unwrap();
        prop_assert_eq!(figure.n, items.len());
        let low = values.values().copied().fold(f64::INFINITY, f64::min);
        let high = values.values().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert_eq!(figure.interval.is_some(), figure.prompts >= 2);
        if let Some(interval) = figure.interval {
            prop_assert!(low <= interval.low && interval.low <= interval.high && interval.high <= high);
        }
    }

    #[test]
    fn agreement_with_a_turned_judge_is_what_is_left(items in vec((0_u8..8, 0_u8..6, 0_u8..6), 1..40)) {
        let judged = |sign: f64| -> Groups<(f64, f64)> {
            items.iter().map(|(number, judge, oracle)| (prompt(*number), (sign * f64::from(*judge), f64::from(*oracle)))).collect()
        };
        for ties in [Ties::Half, Ties::LeftOut] {
            let (one, other) = (agreement(&judged(1.0), ties, &QUICK), agreement(&judged(-1.0), ties, &QUICK));
            prop_assert_eq!(one.map(|figure| figure.n), other.map(|figure| figure.n));
            if let (Some(one), Some(other)) = (one, other) {
                prop_assert!((one.value + other.value - 1.0).abs() < 1e-12);
            }
        }
        // The oracle agrees with itself.
        let itself: Groups<(f64, f64)> =
            items.iter().map(|(number, _, oracle)| (prompt(*number), (f64::from(*oracle), f64::from(*oracle)))).collect();
        prop_assert!(agreement(&itself, Ties::Half, &QUICK).is_none_or(|figure| figure.value == 1.0));
    }

    #[test]
    fn spread_counts_everything_and_its_entropy_has_bounds(items in points()) {
        let spread = Spread::of(groups(&items).values());
        prop_assert_eq!(spread.total(), items.len() as u64);
        let entropy = spread.entropy().unwrap();
        prop_assert!(entropy >= 0.0 && entropy <= (spread.counts.len() as f64).log2() + 1e-12);
        prop_assert_eq!(entropy == 0.0, spread.counts.len() == 1);
        let (_, share) = spread.mode().unwrap();
        prop_assert!(share > 0.0 && share <= 1.0);
    }
}

#[test]
fn small_cases_by_hand() {
    let ours = groups(&[(1, 3.0), (1, 5.0), (2, 2.0), (9, 5.0)]);
    let theirs = groups(&[(1, 3.0), (2, 2.0), (3, 0.0)]);
    // Prompt 1: a tie and a win; prompt 2: a tie; the others have no counterpart.
    let figure = win_rate(&ours, &theirs, &QUICK).unwrap();
    assert_eq!((figure.value, figure.n, figure.prompts), (0.625, 2, 2));
    assert_eq!(share_from(&ours, 5.0, &QUICK).unwrap().value, 0.5);
    assert_eq!(mean(&Groups::default(), &QUICK), None);
    assert_eq!(mean(&groups(&[(1, 3.0), (1, 5.0)]), &QUICK).unwrap().interval, None, "one prompt has no interval");

    // Answers with oracle points 1, 2, 2 and judge's scores 3, 3, 4: (1, 2) tied by the judge, (1, 2') right, and the two
    // equal ones have no order.
    let points: &[(f64, f64)] = &[(3.0, 1.0), (3.0, 2.0), (4.0, 2.0)];
    assert_eq!(agreement_of(&[points], Ties::Half), Some(0.75));
    assert_eq!(agreement_of(&[points], Ties::LeftOut), Some(1.0));
    assert_eq!(agreement_of(&[&points[1..]], Ties::Half), None);

    assert_eq!(spearman(&[(1.0, 1.0)]), None);
    assert_eq!(spearman(&[(1.0, 1.0), (1.0, 2.0)]), None, "a constant side has no order");
    assert_eq!(Spread::of(&[0.0, -0.0, 5.0]).counts, [(0.0, 2), (5.0, 1)]);
    assert_eq!(Spread::of(&[]).entropy(), None);
}

#[test]
fn reference_values_of_scipy_and_numpy() {
    let text = include_str!("reference/reference.json");
    let reference: serde_json::Value = serde_json::from_str(text).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let cases = reference["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let (mut x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        let points: Vec<_> = x.iter().copied().zip(y.iter().copied()).collect();
        for (name, value) in [("spearman", spearman(&points)), ("kendall", kendall(&points))] {
            let expected = case[name].as_f64().unwrap();
            assert!(
                (value.unwrap() - expected).abs() < 1e-12,
                "{name} of {} points: {value:?}, not {expected}",
                x.len()
            );
        }
        x.sort_by(f64::total_cmp);
        for pair in case["quantiles"].as_array().unwrap() {
            let (share, expected) = (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
            assert!((quantile(&x, share).unwrap() - expected).abs() < 1e-12, "quantile {share}");
        }
    }
}
