//! Memory of training as predicted and as measured: the process's largest resident set.
//!
//! Each setting is trained in a process of its own: the figure is the whole process's, and what an earlier setting left free
//! between what it still holds would be filled first, and not be counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod train_support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use metareward_api::{GradientSum, Message, OptimizerState, PreferenceExample, TrainData, Trainer, WeightUpdates};
use metareward_torch::{
    DeviceChoice, Precision,
    config::ModelConfig,
    save::save_model,
    train::{Forms, Load, TorchTrainer, TrainerOptions, training_memory},
};
use tch::{Device, Kind, Tensor};
use train_support::{Dpo, Pairs, Steps, fixture, in_order, job, settings};

/// A random model with the fixtures' tokenizer.
fn model(folder: &Path, hidden: i64, inner: i64, layers: i64, vocabulary: i64) -> ModelConfig {
    fs::create_dir_all(folder).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(fixture("sft-model").join(name), folder.join(name)).unwrap();
    }
    let text = fs::read_to_string(fixture("sft-model/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sizes = [
        ("vocab_size", vocabulary),
        ("hidden_size", hidden),
        ("intermediate_size", inner),
        ("num_hidden_layers", layers),
        ("num_attention_heads", hidden / 64),
        ("num_key_value_heads", hidden / 64),
        ("max_position_embeddings", 512),
        ("head_dim", 64),
    ];
    for (key, value) in sizes {
        config[key] = value.into();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let config = ModelConfig::read(folder).unwrap();
    let tensor = |(name, shape): (String, Vec<i64>)| {
        let options = (Kind::Float, Device::Cpu);
        let tensor =
            if shape.len() == 1 { Tensor::ones(&shape, options) } else { Tensor::randn(&shape, options) * 0.02 };
        (name, tensor)
    };
    let tensors: BTreeMap<String, Tensor> = config.expected().into_iter().map(tensor).collect();
    save_model(folder, folder, &tensors, Precision::F32).unwrap();
    config
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    fn malloc_trim(keep: usize) -> i32;
}

/// A figure of `/proc/self/status` in bytes; `None` where the system has none.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

fn words(seed: usize, count: usize) -> String {
    (0..count).map(|i| format!("w{}", (seed * 31 + i * i * 7 + i) % 56)).collect::<Vec<_>>().join(" ")
}

/// Which of [`cases`] the process that is started measures.
const CASE: &str = "METAREWARD_TEST_CASE";
/// What stands before the ratio that it prints.
const RATIO: &str = "measured / predicted = ";

/// Hidden size, inner size, layers and vocabulary.
type Shape = (i64, i64, i64, i64);

/// What is measured: shape of the model, number formats, activation checkpointing.
fn cases() -> [(Shape, Precision, Forms, bool); 6] {
    let (f32, bf16) = (Precision::F32, Precision::Bf16);
    let form = |weights, optimizer_state, gradients| Forms { weights, optimizer_state, gradients };
    let masters = Forms::default();
    let eight = form(WeightUpdates::Masters, OptimizerState::EightBit, GradientSum::F32);
    let compensated = form(WeightUpdates::Compensated, OptimizerState::EightBit, GradientSum::Bf16);
    let stochastic = form(WeightUpdates::Stochastic, OptimizerState::Bf16, GradientSum::Bf16);
    let (narrow, wide) = ((256, 768, 4, 4096), (384, 1024, 8, 8192));
    [
        (narrow, f32, masters, false),
        (wide, f32, masters, true),
        (wide, f32, eight, false),
        (wide, bf16, masters, false),
        (wide, bf16, compensated, true),
        (wide, bf16, stochastic, true),
    ]
}

#[test]
fn predicted_memory_is_within_a_tenth_of_what_is_measured() {
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        println!("skipped: this system cannot set the largest resident set back");
        return;
    }
    let ratios = (0..cases().len()).map(|case| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "measures", "--ignored", "--nocapture"])
            .env(CASE, case.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let line = text.lines().find(|line| line.contains(RATIO)).unwrap();
        println!("{line}");
        line.split(RATIO).nth(1).unwrap().parse::<f64>().unwrap()
    });
    let ratios: Vec<f64> = ratios.collect();
    assert!(ratios.iter().all(|ratio| (0.9..1.1).contains(ratio)), "{ratios:?}");
}

/// What the processes do that the test starts.
#[test]
#[ignore = "started by another test"]
fn measures() {
    let case: usize = std::env::var(CASE).unwrap().parse().unwrap();
    let (shape, precision, forms, checkpointing) = cases()[case];
    // Prompts share nothing: 5 + 60 tokens of the prompt, and two completions of 40 and the end.
    let pairs: Vec<PreferenceExample> = (0..16)
        .map(|index| PreferenceExample {
            id: format!("p{index}"),
            messages: vec![Message::user(format!("w{index} {}", words(index, 60)))],
            chosen: format!("w1 {}", words(index + 100, 40)),
            rejected: format!("w2 {}", words(index + 200, 40)),
            reference_chosen: 0.0,
            reference_rejected: 0.0,
            weight: 1.0,
        })
        .collect();
    let data = Pairs(pairs);
    let dpo = Dpo { beta: 0.1 };
    let scratch = tempfile::tempdir().unwrap();
    // libtorch's operations with checkpointing are measured on one thread, as models of over 50 million parameters use them:
    // small pieces of two threads fill the heap's gaps now so, now otherwise, and that varies by a tenth.
    let threads = if precision == Precision::Bf16 && checkpointing { 1 } else { 2 };
    let run = |folder: &Path, forms: Forms, checkpointing: bool| {
        let options = TrainerOptions { device: DeviceChoice::Cpu, precision, threads, ..TrainerOptions::default() };
        let settings = metareward_api::TrainSettings {
            activation_checkpointing: checkpointing,
            micro_batch_tokens: 1024,
            max_length: 512,
            weights: forms.weights,
            optimizer_state: forms.optimizer_state,
            gradients: forms.gradients,
            ..settings()
        };
        let place = tempfile::tempdir().unwrap();
        let data = TrainData::Preference { data: &data, optimizer: &dpo };
        let mut job = job("sft-model", place.path(), data, in_order(16, 16, 1), settings);
        job.model = folder.to_owned();
        TorchTrainer::new(options).train(&job, &Steps::default()).unwrap();
    };
    // What the libraries take once is not the model's.
    let small = scratch.path().join("small");
    model(&small, 64, 128, 1, 64);
    run(&small, Forms::default(), false);
    let (hidden, inner, layers, vocabulary) = shape;
    let folder = scratch.path().join(format!("{hidden}"));
    let config = model(&folder, hidden, inner, layers, vocabulary);
    // SAFETY: glibc's own function; it gives freed memory back, so that what is measured is not memory used before.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        malloc_trim(0);
    }
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS").unwrap();
    run(&folder, forms, checkpointing);
    let measured = status("VmHWM").unwrap() - before;
    // 64 + 5 tokens of the prompt and 2 · 42 of the completions, less the last one of each; libtorch's operations take
    // the prompt twice, and the last tokens too.
    let native = precision == Precision::F32;
    let load = Load {
        precision,
        forms,
        native,
        gpu: false,
        step_tokens: if native { 16 * (66 + 2 * 41) } else { 16 * 2 * (66 + 42) },
        predicting: 16 * 2 * 42,
        micro_batch_tokens: 1024,
        workers: threads as u64,
        checkpointing,
    };
    let predicted = training_memory(&config, &load);
    let ratio = measured as f64 / predicted.total() as f64;
    println!(
        "{precision:?}, {forms:?}, hidden {hidden}, {layers} layers, vocabulary {vocabulary}, checkpointing {checkpointing}: \
         state {:.0} MB, activations {:.0} MB, measured {:.0} MB; {RATIO}{ratio:.3}",
        predicted.state as f64 / 1e6,
        predicted.activations as f64 / 1e6,
        measured as f64 / 1e6
    );
}
