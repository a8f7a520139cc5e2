//! Training against TRL's trainers on the same tiny models and records: see `fixtures/make_train.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod train_support;

use metareward_api::{StepMetrics, TrainData, Trainer};
use serde_json::Value;
use train_support::{
    Dpo, Steps, dpo_records, fixture, in_order, job, json, largest_difference, settings, sft_records, tensors, trainer,
};

/// Largest difference of a figure over all steps, relative to its size where that is above 1.
fn difference(name: &str, steps: &[StepMetrics], expected: &Value, get: impl Fn(&StepMetrics) -> f64) -> f64 {
    let expected = expected["steps"].as_array().unwrap();
    assert_eq!(steps.len(), expected.len());
    let largest = steps
        .iter()
        .zip(expected)
        .map(|(step, expected)| {
            let expected = expected[name].as_f64().unwrap();
            (get(step) - expected).abs() / expected.abs().max(1.0)
        })
        .fold(0.0, f64::max);
    println!("{name}: {largest:.2e}");
    largest
}

#[test]
fn sft_equals_trl() {
    let expected = json("sft.json");
    let data = sft_records();
    let folder = tempfile::tempdir().unwrap();
    let watch = Steps::default();
    let job = job("sft-model", folder.path(), TrainData::Sft(&data), in_order(40, 4, 2), settings());
    let report = trainer(2).train(&job, &watch).unwrap();
    let steps = watch.metrics.into_inner().unwrap();
    assert!(difference("loss", &steps, &expected, |step| step.loss) < 1e-5);
    assert!(difference("gradient_norm", &steps, &expected, |step| step.gradient_norm) < 2e-5);
    assert!(difference("learning_rate", &steps, &expected, |step| step.learning_rate) < 1e-12);
    let weights = tensors(&report.epochs[1].folder.join("model.safetensors"));
    let off = largest_difference(&weights, &tensors(&fixture("sft.safetensors")));
    println!("weights after {} steps: {off:.2e}", report.steps);
    assert!(off < 1e-4);
    // The test would also pass if nothing were learned, were it not for this.
    assert!(largest_difference(&weights, &tensors(&fixture("sft-model/model.safetensors"))) > 2e-3);
}

#[test]
fn dpo_equals_trl() {
    let expected = json("dpo.json");
    let data = dpo_records();
    let optimizer = Dpo { beta: 0.1 };
    let folder = tempfile::tempdir().unwrap();
    let watch = Steps::default();
    let data = TrainData::Preference { data: &data, optimizer: &optimizer };
    let job = job("dpo-model", folder.path(), data, in_order(40, 4, 2), settings());
    let report = trainer(2).train(&job, &watch).unwrap();
    let steps = watch.metrics.into_inner().unwrap();
    assert!((report.first_loss - 2f64.ln()).abs() < 1e-6);
    assert!(difference("loss", &steps, &expected, |step| step.loss) < 1e-5);
    assert!(difference("gradient_norm", &steps, &expected, |step| step.gradient_norm) < 2e-5);
    assert!(difference("learning_rate", &steps, &expected, |step| step.learning_rate) < 1e-12);
    assert!(difference("reward_chosen", &steps, &expected, |step| step.reward_chosen.unwrap()) < 1e-5);
    assert!(difference("reward_rejected", &steps, &expected, |step| step.reward_rejected.unwrap()) < 1e-5);
    assert!(difference("margin", &steps, &expected, |step| step.margin.unwrap()) < 1e-5);
    assert!(difference("logp_chosen", &steps, &expected, |step| step.logp_chosen.unwrap()) < 1e-5);
    assert!(difference("logp_rejected", &steps, &expected, |step| step.logp_rejected.unwrap()) < 1e-5);
    // Rewards of the first two steps are zero but for rounding (the warm-up starts at 0), so accuracy is compared after.
    for (step, expected) in steps.iter().zip(expected["steps"].as_array().unwrap()).skip(2) {
        assert_eq!(step.accuracy.unwrap(), expected["accuracy"].as_f64().unwrap(), "step {}", step.step);
    }
    let weights = tensors(&report.epochs[1].folder.join("model.safetensors"));
    let off = largest_difference(&weights, &tensors(&fixture("dpo.safetensors")));
    println!("weights after {} steps: {off:.2e}", report.steps);
    assert!(off < 1e-4);
    assert!(largest_difference(&weights, &tensors(&fixture("dpo-model/model.safetensors"))) > 2e-3);
}
