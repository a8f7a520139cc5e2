//! The exact distribution, on cases worked out by hand.

use metareward_api::Sampling;
use metareward_laws::exact::distribution;

const ALL: Sampling =
    Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 1, stop: Vec::new() };

/// Logits whose probabilities are a half, a quarter and two eighths, in another order.
fn halves() -> Vec<f64> {
    [0.125f64, 0.5, 0.125, 0.25].map(f64::ln).to_vec()
}

#[track_caller]
fn gives(sampling: &Sampling, logits: &[f64], expected: &[f64]) {
    let found = distribution(sampling, logits);
    assert_eq!(found.len(), expected.len());
    for (found_one, expected_one) in found.iter().zip(expected) {
        assert!((found_one - expected_one).abs() < 1e-15, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn each_parameter_alone() {
    gives(&ALL, &halves(), &[0.125, 0.5, 0.125, 0.25]);
    // Probabilities to the power of two, normalised.
    gives(&Sampling { temperature: 0.5, ..ALL }, &halves(), &[1.0 / 22.0, 16.0 / 22.0, 1.0 / 22.0, 4.0 / 22.0]);
    gives(&Sampling { temperature: 0.0, ..ALL }, &halves(), &[0.0, 1.0, 0.0, 0.0]);
    gives(&Sampling { top_k: Some(2), ..ALL }, &halves(), &[0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    // The third is as probable as the fourth: both are kept.
    gives(&Sampling { top_k: Some(3), ..ALL }, &halves(), &[0.125, 0.5, 0.125, 0.25]);
    gives(&Sampling { top_k: Some(99), ..ALL }, &halves(), &[0.125, 0.5, 0.125, 0.25]);
    gives(&Sampling { top_p: 0.7, ..ALL }, &halves(), &[0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    // Of equals at the edge, the lower index.
    gives(&Sampling { top_p: 0.8, ..ALL }, &halves(), &[1.0 / 7.0, 4.0 / 7.0, 0.0, 2.0 / 7.0]);
    gives(&Sampling { top_p: 1e-9, ..ALL }, &halves(), &[0.0, 1.0, 0.0, 0.0]);
    gives(&Sampling { min_p: 0.4, ..ALL }, &halves(), &[0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    gives(&Sampling { min_p: 1.0, ..ALL }, &[2.0, 1.0, 2.0], &[0.5, 0.0, 0.5]);
}

#[test]
fn each_on_what_the_one_before_left() {
    // Top-k leaves two thirds and one third: two thirds reach 0.6, though a half does not.
    gives(&Sampling { top_k: Some(2), top_p: 0.6, ..ALL }, &halves(), &[0.0, 1.0, 0.0, 0.0]);
    gives(&Sampling { top_p: 0.6, ..ALL }, &halves(), &[0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
}

#[test]
fn the_ends() {
    gives(&ALL, &[], &[]);
    gives(&ALL, &[-3e38], &[1.0]);
    gives(&ALL, &[3e38, -3e38, f64::NEG_INFINITY], &[1.0, 0.0, 0.0]);
    gives(&Sampling { temperature: 0.0, ..ALL }, &[-0.0, 0.0], &[1.0, 0.0]);
    for parameters in [
        Sampling { temperature: -1.0, ..ALL },
        Sampling { temperature: f64::NAN, ..ALL },
        Sampling { top_p: 0.0, ..ALL },
        Sampling { top_k: Some(0), ..ALL },
        Sampling { min_p: 1.5, ..ALL },
    ] {
        assert!(distribution(&parameters, &halves()).iter().all(|p| p.is_nan()), "{parameters:?}");
    }
    for logits in [[0.0, f64::NAN], [0.0, f64::INFINITY], [f64::NEG_INFINITY; 2]] {
        assert!(distribution(&ALL, &logits).iter().all(|p| p.is_nan()), "{logits:?}");
    }
}
