//! Measures reference log-probabilities and DPO on pairs in a file; benches/python/train_trl.py runs it beside TRL.
//!
//! ```text
//! cargo run --release -p metareward-torch --example training_speed -- MODEL PAIRS.jsonl [epochs=1] [batch=32] \
//!     [micro=8192] [threads=2] [max_length=1024] [checkpointing] [libtorch] [device=cpu] [dtype=f32] \
//!     [weights=masters] [state=f32] [gradients=f32] [sequence=1024]
//! ```
//!
//! A line of PAIRS has `prompt`, `chosen` and `rejected`. Prints one line of JSON: seconds of both parts, tokens (prompts
//! and completions of all sequences, each time that they are trained on), peak memory, loss. On a GPU also the memory that is
//! in use there after a step, and what `plan` would have said of sequences of `sequence` tokens.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Mutex, time::Instant};

use metareward_api::{
    EngineError, Example, Kind, LearningRateSchedule, Message, Optimizer, PairLogProbs, Plugin, PluginError,
    PluginInfo, PreferenceData, PreferenceExample, PreferenceLoss, Progress, StepMetrics, TrainData, TrainJob,
    TrainSettings, Trainer, Watch,
};
use metareward_torch::{
    DeviceChoice, Precision,
    config::ModelConfig,
    library::device_memory,
    train::{Forms, Load, TorchTrainer, TrainerOptions, training_memory},
};

struct Pairs(Vec<PreferenceExample>);

impl PreferenceData for Pairs {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        Ok(self.0[index as usize].clone())
    }
}

/// DPO with β = 0.1.
struct Dpo;

impl Plugin for Dpo {
    fn info(&self) -> PluginInfo {
        let (name, version, summary) = ("dpo".to_owned(), "0.0.0".to_owned(), String::new());
        PluginInfo { kind: Kind::Optimizer, name, version, summary }
    }
}

impl Optimizer for Dpo {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(Some(2f64.ln()))
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let rewards =
            |policy: fn(&PairLogProbs) -> f64| pairs.iter().map(|pair| 0.1 * policy(pair)).collect::<Vec<_>>();
        let chosen = rewards(|pair| pair.policy_chosen - pair.reference_chosen);
        let rejected = rewards(|pair| pair.policy_rejected - pair.reference_rejected);
        let margins: Vec<f64> = chosen.iter().zip(&rejected).map(|(a, b)| a - b).collect();
        let slopes: Vec<f64> = margins.iter().map(|margin| -0.1 / (1.0 + margin.exp())).collect();
        Ok(PreferenceLoss {
            losses: margins.iter().map(|margin| (-margin).exp().ln_1p()).collect(),
            rejected_gradient: slopes.iter().map(|slope| -slope).collect(),
            chosen_gradient: slopes,
            chosen_rewards: chosen,
            rejected_rewards: rejected,
            metrics: BTreeMap::new(),
        })
    }
}

struct Losses {
    losses: Mutex<Vec<f64>>,
    tokens: Mutex<u64>,
    device: tch::Device,
    /// Most bytes of the GPU in use after a step; libtorch keeps what it once took.
    used: Mutex<u64>,
}

impl Watch for Losses {
    fn progress(&self, progress: Progress) {
        if let Ok(mut tokens) = self.tokens.lock() {
            *tokens = progress.tokens;
        }
    }

    fn step(&self, metrics: &StepMetrics, _: f64) {
        if let Ok(mut losses) = self.losses.lock() {
            losses.push(metrics.loss);
        }
        if let (Some(memory), Ok(mut used)) = (device_memory(self.device), self.used.lock()) {
            *used = used.max(memory.total - memory.free);
        }
    }

    fn stop(&self) -> bool {
        false
    }
}

/// Largest resident set so far, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor seconds of all threads so far.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pairs, ..] = &arguments[..] else {
        return Err("usage: training_speed MODEL PAIRS.jsonl [epochs=1] [batch=32] [micro=8192] [threads=2]".into());
    };
    let number = |name: &str, default: u32| {
        let found = arguments.iter().find_map(|argument| argument.strip_prefix(&format!("{name}=")));
        found.and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let is = |name: &str| arguments.iter().any(|argument| argument == name);
    let word = |name: &str, default: &str| {
        let found = arguments.iter().find_map(|argument| argument.strip_prefix(&format!("{name}=")));
        found.unwrap_or(default).to_owned()
    };
    let named = |name: &str, default: &str| serde_json::Value::String(word(name, default));
    let device: DeviceChoice = word("device", "cpu").parse()?;
    let precision = match word("dtype", "f32").as_str() {
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
    };
    let forms = Forms {
        weights: serde_json::from_value(named("weights", "masters"))?,
        optimizer_state: serde_json::from_value(named("state", "f32"))?,
        gradients: serde_json::from_value(named("gradients", "f32"))?,
    };
    let model = PathBuf::from(model);
    let config = ModelConfig::read(&model)?;
    let mut records = Vec::new();
    for (index, line) in fs::read_to_string(pairs)?.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        records.push(PreferenceExample {
            id: format!("pair {index}"),
            messages: vec![Message::user(text("prompt"))],
            chosen: text("chosen"),
            rejected: text("rejected"),
            reference_chosen: 0.0,
            reference_rejected: 0.0,
            weight: 1.0,
        });
    }
    let max_length = number("max_length", 1024);
    let mut trainer = TorchTrainer::new(TrainerOptions {
        device,
        precision,
        threads: number("threads", 2),
        kernels: !is("libtorch"),
        ..TrainerOptions::default()
    });
    let device = device.resolve()?;
    let watch = Losses { losses: Mutex::default(), tokens: Mutex::default(), device, used: Mutex::default() };

    let (started, processor_before) = (Instant::now(), processor());
    let examples: Vec<Example> = records
        .iter()
        .flat_map(|pair| {
            [&pair.chosen, &pair.rejected].map(|completion| Example {
                id: pair.id.clone(),
                messages: pair.messages.clone(),
                completion: completion.clone(),
            })
        })
        .collect();
    let reference = trainer.log_probabilities(&model, &examples, max_length, &watch)?;
    for (pair, found) in records.iter_mut().zip(reference.chunks_exact(2)) {
        (pair.reference_chosen, pair.reference_rejected) = (found[0].sum, found[1].sum);
    }
    let reference_seconds = started.elapsed().as_secs_f64();

    let (epochs, batch) = (number("epochs", 1), number("batch", 32));
    let order: Vec<u32> = (0..records.len() as u32).collect();
    let steps: Vec<Vec<u32>> = order.chunks(batch as usize).map(<[u32]>::to_vec).collect();
    let folder = std::env::temp_dir().join(format!("training-speed-{}", std::process::id()));
    let data = Pairs(records);
    let job = TrainJob {
        model,
        folder: folder.clone(),
        fingerprint: "speed".to_owned(),
        iteration: 0,
        data: TrainData::Preference { data: &data, optimizer: &Dpo },
        epochs: vec![steps; epochs as usize],
        validation: Vec::new(),
        settings: TrainSettings {
            learning_rate: 2e-5,
            lr_schedule: LearningRateSchedule::Cosine,
            warmup_steps: 0,
            schedule_steps: epochs * order.len().div_ceil(batch as usize) as u32,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            max_length,
            micro_batch_tokens: number("micro", 8192),
            activation_checkpointing: is("checkpointing"),
            lora: None,
            save_steps: 0,
            weights: forms.weights,
            optimizer_state: forms.optimizer_state,
            gradients: forms.gradients,
        },
    };
    let started = Instant::now();
    trainer.train(&job, &watch)?;
    let training_seconds = started.elapsed().as_secs_f64();
    fs::remove_dir_all(folder)?;
    let losses = watch.losses.lock().map_err(|_| "a thread panicked")?;
    let tokens = *watch.tokens.lock().map_err(|_| "a thread panicked")?;
    let used = *watch.used.lock().map_err(|_| "a thread panicked")?;
    let sequences = 2 * u64::from(batch);
    let predicted = training_memory(
        &config,
        &Load {
            precision,
            forms,
            native: device == tch::Device::Cpu && precision == Precision::F32 && !is("libtorch"),
            gpu: device != tch::Device::Cpu,
            step_tokens: sequences * u64::from(number("sequence", max_length)),
            predicting: sequences * u64::from(number("sequence", max_length)) / 2,
            micro_batch_tokens: number("micro", 8192),
            workers: if device == tch::Device::Cpu { u64::from(number("threads", 2)) } else { 1 },
            checkpointing: is("checkpointing"),
        },
    );
    println!(
        "{}",
        serde_json::json!({
            "reference_seconds": reference_seconds, "training_seconds": training_seconds, "tokens": tokens,
            "tokens_per_second": tokens as f64 / training_seconds, "processor_seconds": processor() - processor_before,
            "peak_bytes": peak(), "device_bytes": used, "predicted_state_bytes": predicted.state,
            "predicted_bytes": predicted.total(), "first_loss": losses.first(), "last_loss": losses.last(),
        })
    );
    Ok(())
}
