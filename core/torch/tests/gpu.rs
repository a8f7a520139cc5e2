//! The GPU against the CPU: the same text, the same log-probabilities, the same training, up to rounding. Where there is no
//! GPU, or libtorch has no CUDA, each test says so and passes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod train_support;

use std::path::{Path, PathBuf};

use metareward_api::{
    Example, GenerationDraw, GenerationRequest, Generator, GradientSum, Guides, Message, OptimizerState, Sampling,
    TrainData, TrainJob, TrainSettings, Trainer, WeightUpdates,
};
use metareward_torch::{
    DeviceChoice, Precision,
    generate::{EngineConfig, TorchGenerator},
    library::{Cuda, cuda},
    train::{TorchTrainer, TrainerOptions},
};
use train_support::{Examples, Steps, in_order, settings};

const MODELS: [&str; 5] = ["llama-tied-llama3rope", "llama-untied", "mistral-window", "qwen2-biases", "qwen3-norms"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name)
}

/// Whether to go on. Asked before anything else, so that libtorch's CUDA part is loaded first.
fn gpu() -> bool {
    match cuda() {
        Cuda::Ready { devices } if *devices > 0 => true,
        other => {
            println!("skipped: no GPU can be used: {other}");
            false
        }
    }
}

fn examples() -> Vec<Example> {
    let example = |index: usize| Example {
        id: format!("example {index}"),
        messages: vec![Message::user(format!("Sort list {index}"))],
        completion: format!("the list {index} is sorted"),
    };
    (0..8).map(example).collect()
}

#[test]
fn greedy_text_is_the_cpus() {
    if !gpu() {
        return;
    }
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 32, stop: Vec::new() };
    for name in MODELS {
        let requests: Vec<GenerationRequest> = examples()
            .into_iter()
            .map(|example| GenerationRequest {
                id: example.id,
                messages: example.messages,
                draws: vec![GenerationDraw { seed: 1, sampling: sampling.clone(), draw: 0 }],
            })
            .collect();
        let answers = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)].map(|device| {
            let mut engine = TorchGenerator::new(EngineConfig { device, ..EngineConfig::default() });
            engine.load(&folder(name)).unwrap();
            engine.generate(&requests, &Guides::default(), &Steps::default()).unwrap()
        });
        assert_eq!(answers[0], answers[1], "{name}");
    }
}

#[test]
fn log_probabilities_and_training_are_the_cpus_up_to_rounding() {
    if !gpu() {
        return;
    }
    let data = Examples(examples());
    for name in MODELS {
        let results = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)].map(|device| {
            let options = TrainerOptions { device, precision: Precision::F32, ..TrainerOptions::default() };
            let mut trainer = TorchTrainer::new(options);
            let measured = trainer.log_probabilities(&folder(name), &data.0, 128, &Steps::default()).unwrap();
            let scratch = tempfile::tempdir().unwrap();
            let job = TrainJob {
                model: folder(name),
                folder: scratch.path().to_owned(),
                fingerprint: "gpu".to_owned(),
                iteration: 0,
                data: TrainData::Sft(&data),
                epochs: in_order(8, 4, 2),
                validation: Vec::new(),
                settings: TrainSettings { max_length: 128, ..settings() },
            };
            let report = trainer.train(&job, &Steps::default()).unwrap();
            (measured, report)
        });
        let [(cpu, cpu_report), (gpu, gpu_report)] = results;
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert_eq!(cpu.tokens, gpu.tokens);
            assert!((cpu.sum - gpu.sum).abs() < 1e-3, "{name}: {} and {}", cpu.sum, gpu.sum);
        }
        for (cpu, gpu) in cpu_report.epochs.iter().zip(&gpu_report.epochs) {
            assert!(
                (cpu.train_loss - gpu.train_loss).abs() < 1e-3,
                "{name}: {} and {}",
                cpu.train_loss,
                gpu.train_loss
            );
        }
    }
}

/// bf16 training in every form of weights, moments and gradients: the loss goes as on the CPU, up to what products in bf16
/// differ by.
#[test]
fn small_number_formats_train_as_on_the_cpu() {
    if !gpu() {
        return;
    }
    let data = Examples(examples());
    for (weights, optimizer_state, gradients) in [
        (WeightUpdates::Masters, OptimizerState::F32, GradientSum::F32),
        (WeightUpdates::Compensated, OptimizerState::EightBit, GradientSum::Bf16),
        (WeightUpdates::Stochastic, OptimizerState::Bf16, GradientSum::Bf16),
        (WeightUpdates::Nearest, OptimizerState::EightBit, GradientSum::F32),
    ] {
        let losses = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)].map(|device| {
            let options = TrainerOptions { device, precision: Precision::Bf16, ..TrainerOptions::default() };
            let scratch = tempfile::tempdir().unwrap();
            let job = TrainJob {
                model: folder(MODELS[1]),
                folder: scratch.path().to_owned(),
                fingerprint: "gpu".to_owned(),
                iteration: 0,
                data: TrainData::Sft(&data),
                epochs: in_order(8, 4, 4),
                validation: Vec::new(),
                settings: TrainSettings { max_length: 128, weights, optimizer_state, gradients, ..settings() },
            };
            let report = TorchTrainer::new(options).train(&job, &Steps::default()).unwrap();
            report.epochs.iter().map(|epoch| epoch.train_loss).collect::<Vec<f64>>()
        });
        for (cpu, gpu) in losses[0].iter().zip(&losses[1]) {
            assert!((cpu - gpu).abs() < 2e-2 * cpu.abs(), "{weights:?} {optimizer_state:?}: {cpu} and {gpu}");
        }
    }
}
