//! Time and memory of training on several processes, or on one, with a model of random weights.
//!
//! ```text
//! cargo build --release -p metareward-torch --example group_training
//! torchrun --no-python --nproc-per-node 2 target/release/examples/group_training FOLDER \
//!     [sharding=none] [hidden=512] [layers=8] [steps=6] [batch=16] [words=120] [threads=1] [dtype=f32] [libtorch] \
//!     [checkpointing]
//! ```
//!
//! FOLDER is made, and has to be on a disk that all processes see. Process 0 prints one line of JSON: the median seconds of
//! a step without the first one, the last loss, and of every process the largest memory it had and what of that training
//! added. Without torchrun it is one process.

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::Arc, sync::Mutex};

use metareward_api::{
    EngineError, Example, GradientSum, LearningRateSchedule, Message, OptimizerState, Progress, SftData, StepMetrics,
    TrainData, TrainJob, TrainSettings, Trainer, Watch, WeightUpdates,
};
use metareward_torch::{
    DeviceChoice, Group, Precision,
    create::{ModelShape, create_model},
    group::Member,
    train::{Sharding, TorchTrainer, TrainerOptions},
};

struct Texts(Vec<Example>);

impl SftData for Texts {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn example(&self, index: u32) -> Result<Example, EngineError> {
        Ok(self.0[index as usize].clone())
    }
}

#[derive(Default)]
struct Times(Mutex<Vec<(f64, f64)>>);

impl Watch for Times {
    fn progress(&self, _: Progress) {}

    fn step(&self, metrics: &StepMetrics, seconds: f64) {
        if let Ok(mut times) = self.0.lock() {
            times.push((seconds, metrics.loss));
        }
    }

    fn stop(&self) -> bool {
        false
    }
}

/// Texts of words drawn from 4000, the small numbers more often: SplitMix64.
fn texts(count: usize, words: usize) -> Texts {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) >> 11
    };
    let mut word = || {
        let unit = next() as f64 / (1u64 << 53) as f64;
        format!("w{}", (unit * unit * 4000.0) as u64)
    };
    let mut text = |words: usize| (0..words).map(|_| word()).collect::<Vec<_>>().join(" ");
    let examples = (0..count).map(|index| Example {
        id: format!("e{index}"),
        messages: vec![Message::user(text(words / 4))],
        completion: text(words - words / 4),
    });
    Texts(examples.collect())
}

/// A field of /proc/self/status in megabytes.
fn memory(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("a FOLDER is missing")?);
    let rest: Vec<String> = arguments.collect();
    let given: BTreeMap<&str, &str> = rest.iter().map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
    let number = |name: &str, usual: usize| given.get(name).map_or(Ok(usual), |value| value.parse());
    let (steps, batch, words) = (number("steps", 6)?, number("batch", 16)?, number("words", 120)?);
    let sharding = match given.get("sharding").copied().unwrap_or("none") {
        "none" => Sharding::None,
        "optimizer" => Sharding::Optimizer,
        "gradients" => Sharding::Gradients,
        "parameters" => Sharding::Parameters,
        other => return Err(format!("unknown sharding {other}").into()),
    };
    let precision: Precision = given.get("dtype").copied().unwrap_or("f32").parse()?;
    let member = Member::of_process()?;
    let device = DeviceChoice::Auto.resolve_for(member.as_ref().map_or(0, |member| member.local_rank))?;
    let choice = match device {
        tch::Device::Cuda(index) => DeviceChoice::Cuda(index),
        _ => DeviceChoice::Cpu,
    };
    let group = Group::from_env(device)?.map(Arc::new);
    let rank = group.as_ref().map_or(0, |group| group.rank());
    let data = texts(steps * batch, words);
    let model = folder.join("model");
    if rank == 0 {
        let hidden = number("hidden", 512)?;
        let shape = ModelShape {
            hidden_size: hidden,
            num_hidden_layers: number("layers", 8)?,
            num_attention_heads: hidden / 64,
            num_key_value_heads: hidden / 64,
            intermediate_size: 3 * hidden,
            max_position_embeddings: 2 * words + 64,
            ..ModelShape::default()
        };
        let all = data.0.iter().flat_map(|example| [example.messages[0].content.as_str(), example.completion.as_str()]);
        create_model(&model, &shape, all, 7)?;
    }
    if let Some(group) = &group {
        group.barrier()?;
    }
    let options = TrainerOptions {
        device: choice,
        precision,
        threads: number("threads", 1)? as u32,
        kernels: !given.contains_key("libtorch"),
        sharding,
        ..TrainerOptions::default()
    };
    let mut trainer = match &group {
        Some(group) => TorchTrainer::in_group(options, Arc::clone(group)),
        None => TorchTrainer::new(options),
    };
    let settings = TrainSettings {
        learning_rate: 1e-4,
        lr_schedule: LearningRateSchedule::Constant,
        warmup_steps: 0,
        schedule_steps: steps as u32,
        weight_decay: 0.0,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        max_grad_norm: 1.0,
        max_length: 4096,
        micro_batch_tokens: 1024,
        activation_checkpointing: given.contains_key("checkpointing"),
        lora: None,
        save_steps: 0,
        weights: WeightUpdates::default(),
        optimizer_state: OptimizerState::default(),
        gradients: GradientSum::default(),
    };
    let indices: Vec<u32> = (0..(steps * batch) as u32).collect();
    let job = TrainJob {
        model,
        folder: folder.join(format!("run-{}", std::process::id())),
        fingerprint: "group_training".to_owned(),
        iteration: 0,
        data: TrainData::Sft(&data),
        epochs: vec![indices.chunks(batch).map(<[u32]>::to_vec).collect()],
        validation: Vec::new(),
        settings,
    };
    let before = memory("VmRSS");
    let times = Times::default();
    trainer.train(&job, &times)?;
    let held = (memory("VmHWM"), memory("VmHWM") - before);
    let held = match &group {
        None => vec![held],
        Some(group) => {
            let all = group.gather_bytes(0, &serde_json::to_vec(&held)?)?;
            let Some(all) = all else { return Ok(()) };
            all.iter().map(|bytes| serde_json::from_slice(bytes)).collect::<Result<Vec<(f64, f64)>, _>>()?
        }
    };
    let times = times.0.into_inner()?;
    let mut seconds: Vec<f64> = times.iter().skip(1).map(|(seconds, _)| *seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let parameters = metareward_torch::inspect(&job.model, precision)?.parameters;
    println!(
        "{}",
        serde_json::json!({
            "processes": held.len(),
            "sharding": sharding,
            "parameters": parameters,
            "step_seconds": seconds.get(seconds.len() / 2),
            "last_loss": times.last().map(|(_, loss)| *loss),
            "largest_megabytes": held.iter().map(|(largest, _)| largest.round()).collect::<Vec<_>>(),
            "added_megabytes": held.iter().map(|(_, added)| added.round()).collect::<Vec<_>>(),
        })
    );
    Ok(())
}
