//! Losses, gradients and rewards against the formula of TRL's `DPOTrainer` in torch (`fixtures/make.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::{Optimizer, PairLogProbs};
use metareward_plugin::FromOptions;
use optimizer_dpo::{Dpo, DpoOptions};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn agrees_with_trl() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/trl.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let options = DpoOptions {
            beta: case["beta"].as_f64().unwrap(),
            label_smoothing: case["label_smoothing"].as_f64().unwrap(),
            ..DpoOptions::default()
        };
        let columns = ["policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"];
        let [chosen, rejected, reference_chosen, reference_rejected] = columns.map(|name| numbers(&case[name]));
        let pairs: Vec<PairLogProbs> = (0..chosen.len())
            .map(|index| PairLogProbs {
                policy_chosen: chosen[index],
                policy_rejected: rejected[index],
                reference_chosen: reference_chosen[index],
                reference_rejected: reference_rejected[index],
                chosen_tokens: 5,
                rejected_tokens: 7,
                weight: 1.0,
            })
            .collect();
        let loss = Dpo::from_options(options).unwrap().loss(&pairs).unwrap();
        for (name, found) in [
            ("losses", &loss.losses),
            ("chosen_gradient", &loss.chosen_gradient),
            ("rejected_gradient", &loss.rejected_gradient),
            ("chosen_rewards", &loss.chosen_rewards),
            ("rejected_rewards", &loss.rejected_rewards),
        ] {
            let expected = numbers(&case[name]);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
                    "{name}: {found} against {expected}"
                );
            }
        }
    }
}

#[test]
fn starts_at_ln_2_whatever_the_length() {
    let pair = PairLogProbs {
        policy_chosen: -310.5,
        policy_rejected: -12.25,
        reference_chosen: -310.5,
        reference_rejected: -12.25,
        chosen_tokens: 80,
        rejected_tokens: 4,
        weight: 1.0,
    };
    for length_normalized in [false, true] {
        let dpo = Dpo::from_options(DpoOptions { length_normalized, ..DpoOptions::default() }).unwrap();
        assert_eq!(dpo.loss(&[pair]).unwrap().losses, [std::f64::consts::LN_2]);
    }
}
