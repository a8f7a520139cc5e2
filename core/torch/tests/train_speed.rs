//! Measures training speed; run by hand:
//! `cargo test --release -p metareward-torch --test train_speed -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod train_support;

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use metareward_api::{Message, PreferenceExample, TrainData, Trainer};
use metareward_torch::{
    DeviceChoice, Precision,
    config::ModelConfig,
    save::save_model,
    train::{TorchTrainer, TrainerOptions},
};
use tch::{Device, Kind, Tensor};
use train_support::{Dpo, Examples, Pairs, Steps, example, fixture, in_order, job, settings};

/// A random model with the fixtures' tokenizer.
fn model(folder: &Path, sizes: &[(&str, i64)]) -> u64 {
    fs::create_dir_all(folder).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(fixture("sft-model").join(name), folder.join(name)).unwrap();
    }
    let text = fs::read_to_string(fixture("sft-model/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in sizes {
        config[*key] = (*value).into();
    }
    config.as_object_mut().unwrap().remove("head_dim");
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    tch::manual_seed(1);
    let config = ModelConfig::read(folder).unwrap();
    let tensors: BTreeMap<String, Tensor> = config
        .expected()
        .into_iter()
        .map(|(name, shape)| {
            let tensor = if shape.len() == 1 {
                Tensor::ones(&shape, (Kind::Float, Device::Cpu))
            } else {
                Tensor::randn(&shape, (Kind::Float, Device::Cpu)) * 0.02
            };
            (name, tensor)
        })
        .collect();
    save_model(folder, folder, &tensors, Precision::F32).unwrap();
    config.card(Precision::F32).parameters
}

fn words(seed: &mut u64, low: u64, high: u64) -> String {
    let mut next = |bound: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % bound
    };
    let count = low + next(high - low + 1);
    (0..count).map(|_| format!("w{}", next(56))).collect::<Vec<_>>().join(" ")
}

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

/// Seconds of CPU time that this process has used: steadier than wall time on a busy machine.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn measure(name: &str, sizes: &[(&str, i64)], records: u32, options: &TrainerOptions, micro_batch_tokens: u32) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("model");
    let parameters = model(&folder, sizes);
    let mut seed = 5;
    let examples = Examples(
        (0..records)
            .map(|index| example(format!("{index}"), &words(&mut seed, 15, 35), &words(&mut seed, 10, 35)))
            .collect(),
    );
    let pairs = Pairs(
        (0..records)
            .map(|index| PreferenceExample {
                id: format!("{index}"),
                messages: vec![Message::user(words(&mut seed, 15, 35))],
                chosen: words(&mut seed, 10, 35),
                rejected: words(&mut seed, 10, 35),
                reference_chosen: 0.0,
                reference_rejected: 0.0,
                weight: 1.0,
            })
            .collect(),
    );
    let mut settings = settings();
    settings.micro_batch_tokens = micro_batch_tokens;
    let dpo = Dpo { beta: 0.1 };
    let mut trainer = TorchTrainer::new(options.clone());
    for (kind, data) in
        [("sft", TrainData::Sft(&examples)), ("dpo", TrainData::Preference { data: &pairs, optimizer: &dpo })]
    {
        let mut job = job("sft-model", &scratch.path().join(kind), data, in_order(records, 32, 1), settings.clone());
        job.model.clone_from(&folder);
        fs::create_dir_all(&job.folder).unwrap();
        let tokens = std::sync::atomic::AtomicU64::new(0);
        let watch = Tokens { steps: Steps::default(), tokens: &tokens };
        let (started, before) = (Instant::now(), cpu());
        trainer.train(&job, &watch).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let tokens = tokens.load(std::sync::atomic::Ordering::SeqCst);
        println!(
            "{name} {kind}: {parameters} parameters, threads {}/{}, micro-batch {micro_batch_tokens}: {tokens} tokens in {seconds:.2} s \
             ({:.2} s CPU) = {:.0} tokens/s, {:.0} per CPU second, {}",
            options.threads,
            options.intra_op,
            cpu() - before,
            tokens as f64 / seconds,
            tokens as f64 / (cpu() - before),
            peak()
        );
    }
    let started = Instant::now();
    let found = trainer.log_probabilities(&folder, &examples.0, 512, &Steps::default()).unwrap();
    println!("{name} log-probabilities: {} sequences in {:.2} s", found.len(), started.elapsed().as_secs_f64());
}

struct Tokens<'a> {
    steps: Steps,
    tokens: &'a std::sync::atomic::AtomicU64,
}

impl metareward_api::Watch for Tokens<'_> {
    fn progress(&self, progress: metareward_api::Progress) {
        self.tokens.store(progress.tokens, std::sync::atomic::Ordering::SeqCst);
    }

    fn step(&self, metrics: &metareward_api::StepMetrics, seconds: f64) {
        self.steps.step(metrics, seconds);
    }

    fn stop(&self) -> bool {
        false
    }
}

const SMALL: [(&str, i64); 7] = [
    ("vocab_size", 400),
    ("hidden_size", 128),
    ("intermediate_size", 344),
    ("num_hidden_layers", 4),
    ("num_attention_heads", 4),
    ("num_key_value_heads", 4),
    ("max_position_embeddings", 512),
];

const MIDDLE: [(&str, i64); 7] = [
    ("vocab_size", 8192),
    ("hidden_size", 384),
    ("intermediate_size", 1024),
    ("num_hidden_layers", 8),
    ("num_attention_heads", 6),
    ("num_key_value_heads", 6),
    ("max_position_embeddings", 512),
];

fn options(threads: u32, intra_op: u32) -> TrainerOptions {
    TrainerOptions { device: DeviceChoice::Cpu, threads, intra_op, ..TrainerOptions::default() }
}

#[test]
#[ignore = "measures"]
fn small() {
    for (threads, intra_op, tokens) in
        [(1, 1, 1024), (1, 1, 2048), (2, 1, 512), (2, 1, 1024), (2, 1, 2048), (2, 2, 2048)]
    {
        measure("small", &SMALL, 128, &options(threads, intra_op), tokens);
    }
}

#[test]
#[ignore = "measures"]
fn middle() {
    for (threads, intra_op, tokens) in [(2, 1, 1024), (1, 1, 2048)] {
        measure("middle", &MIDDLE, 32, &options(threads, intra_op), tokens);
    }
}
