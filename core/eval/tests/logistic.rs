//! Laws of the logistic regression.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_eval::logistic::{
    FitError, Observation, Penalty, choose_strength, default_strengths, fit, log_loss, sigmoid,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn seen(features: [f64; 2], label: f64, weight: f64) -> Observation<2> {
    Observation { features, label, weight }
}

/// Soft labels, so that every likelihood has a maximum.
fn observations() -> impl Strategy<Value = Vec<Observation<2>>> {
    vec(((-3.0_f64..3.0, -3.0_f64..3.0), 0.02_f64..0.98, 0.1_f64..4.0), 1..30)
        .prop_map(|items| items.into_iter().map(|((x, y), label, weight)| seen([x, y], label, weight)).collect())
}

/// Slope of the likelihood without a penalty.
fn gradient(observations: &[Observation<2>], at: &[f64; 2]) -> [f64; 2] {
    let mut gradient = [0.0; 2];
    for seen in observations {
        let chance = sigmoid(seen.features[0] * at[0] + seen.features[1] * at[1]);
        for (slope, x) in gradient.iter_mut().zip(seen.features) {
            *slope += seen.weight * (seen.label - chance) * x;
        }
    }
    gradient
}

#[test]
fn what_has_no_fit_is_said() {
    let nothing: [Observation<2>; 0] = [];
    assert_eq!(fit(&nothing, Penalty::None), Err(FitError::Nothing));
    assert_eq!(fit(&[seen([1.0, 0.0], 0.5, 0.0)], Penalty::None), Err(FitError::Nothing));
    for bad in [
        seen([f64::NAN, 0.0], 0.5, 1.0),
        seen([0.0, f64::INFINITY], 0.5, 1.0),
        seen([0.0, 0.0], 1.5, 1.0),
        seen([0.0, 0.0], 0.5, -1.0),
    ] {
        assert_eq!(fit(&[seen([1.0, 1.0], 0.5, 1.0), bad], Penalty::None), Err(FitError::NotFinite(1)));
    }
    // One side wins everything; then every prediction is right on one side of a line.
    assert_eq!(fit(&[seen([0.0, 1.0], 1.0, 1.0); 5], Penalty::None), Err(FitError::Separated));
    let apart = [-2.0, -1.0, 1.0, 2.0].map(|x: f64| seen([x, 1.0], f64::from(u8::from(x > 0.0)), 1.0));
    assert_eq!(fit(&apart, Penalty::None), Err(FitError::Separated));
    for penalty in [Penalty::L1(0.01), Penalty::L2(0.01)] {
        let [slope, middle] = fit(&apart, penalty).unwrap();
        assert!(slope > 1.0 && middle.abs() < 1e-9, "{slope} {middle}");
    }
    assert_eq!(choose_strength(&apart, &default_strengths(), 5), Err(FitError::Nothing));
}

#[test]
fn a_single_feature_gives_the_log_odds() {
    let events = [(1.0, 7), (0.0, 3)].map(|(label, count)| vec![seen([0.0, 1.0], label, 1.0); count]).concat();
    let [absent, odds] = fit(&events, Penalty::None).unwrap();
    assert_eq!(absent, 0.0);
    assert!((odds - (7.0_f64 / 3.0).ln()).abs() < 1e-12);
    // Very small chances are fitted as well.
    let [_, odds] = fit(&[seen([0.0, 1.0], 1e-12, 1.0)], Penalty::None).unwrap();
    assert!((odds + 12.0 * 10.0_f64.ln()).abs() < 1e-6, "{odds}");
}

#[test]
fn two_features_that_are_one_do_not_break_the_fit() {
    let twins: Vec<_> = [(-1.0, 0.2), (1.0, 0.7), (2.0, 0.9)].map(|(x, label)| seen([x, x], label, 1.0)).to_vec();
    let [a, b] = fit(&twins, Penalty::None).unwrap();
    let alone: Vec<_> = twins.iter().map(|twin| seen([twin.features[0], 0.0], twin.label, 1.0)).collect();
    let [both, _] = fit(&alone, Penalty::None).unwrap();
    assert!((a + b - both).abs() < 1e-9, "{a} {b} {both}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn at_the_maximum_nothing_pulls(observations in observations(), strength in 0.01_f64..5.0) {
        let at = fit(&observations, Penalty::None).unwrap();
        let slope = gradient(&observations, &at);
        prop_assert!(slope.iter().all(|slope| slope.abs() < 1e-7), "{slope:?}");
        let at = fit(&observations, Penalty::L2(strength)).unwrap();
        for (slope, at) in gradient(&observations, &at).iter().zip(at) {
            prop_assert!((slope - strength * at).abs() < 1e-7);
        }
        // With L1 the slope is the strength towards 0, or less where the coefficient is 0.
        let at = fit(&observations, Penalty::L1(strength)).unwrap();
        for (slope, at) in gradient(&observations, &at).iter().zip(at) {
            if at == 0.0 {
                prop_assert!(slope.abs() <= strength + 1e-7);
            } else {
                prop_assert!((slope - strength * at.signum()).abs() < 1e-7, "{slope} {at}");
            }
        }
    }

    #[test]
    fn a_weight_of_two_is_two_observations(observations in observations()) {
        let doubled: Vec<_> = observations.iter().map(|seen| Observation { weight: 2.0 * seen.weight, ..*seen }).collect();
        let twice = [observations.clone(), observations].concat();
        for penalty in [Penalty::L1(0.3), Penalty::L2(0.3)] {
            let (one, other) = (fit(&doubled, penalty).unwrap(), fit(&twice, penalty).unwrap());
            prop_assert!(one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-7));
        }
    }

    #[test]
    fn no_coefficients_predict_the_observations_better(observations in observations(), a in -2.0_f64..2.0, b in -2.0_f64..2.0) {
        let at = fit(&observations, Penalty::None).unwrap();
        let other = [at[0] + a, at[1] + b];
        prop_assert!(log_loss(&observations, &at) <= log_loss(&observations, &other) + 1e-12);
    }

    #[test]
    fn the_chosen_strength_is_one_of_those_given(observations in observations()) {
        prop_assume!(observations.len() >= 5);
        let strengths = default_strengths();
        prop_assert!((strengths[0] - 1e4).abs() < 1e-6 && (strengths[9] - 1e-4).abs() < 1e-16);
        prop_assert!(strengths.contains(&choose_strength(&observations, &strengths, 5).unwrap()));
    }
}
