//! What the training tests share: fixtures, records in memory, a small DPO, a watch that stops.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use metareward_api::{
    EngineError, Example, GradientSum, Kind, LearningRateSchedule, Message, Optimizer, OptimizerState, PairLogProbs,
    Plugin, PluginError, PluginInfo, PreferenceData, PreferenceExample, PreferenceLoss, Progress, SftData, StepMetrics,
    TrainData, TrainJob, TrainSettings, Watch, WeightUpdates,
};
use metareward_torch::{
    DeviceChoice, Precision,
    train::{TorchTrainer, TrainerOptions},
};

/// A file or folder made by `fixtures/make_train.py`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/train").join(name)
}

/// A JSON fixture.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// A trainer on the CPU in f32 with this many threads, one per operation.
pub fn trainer(threads: u32) -> TorchTrainer {
    trainer_in(threads, Precision::F32)
}

/// The same in another precision.
pub fn trainer_in(threads: u32, precision: Precision) -> TorchTrainer {
    let options =
        TrainerOptions { device: DeviceChoice::Cpu, precision, threads, intra_op: 1, ..TrainerOptions::default() };
    TorchTrainer::new(options)
}

/// DPO (Rafailov et al. 2023): −log σ(β Δ).
pub struct Dpo {
    pub beta: f64,
}

impl Plugin for Dpo {
    fn info(&self) -> PluginInfo {
        PluginInfo {
            kind: Kind::Optimizer,
            name: "dpo-in-test".to_owned(),
            version: "0.0.0".to_owned(),
            summary: String::new(),
        }
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
        let mut loss = PreferenceLoss {
            losses: Vec::new(),
            chosen_gradient: Vec::new(),
            rejected_gradient: Vec::new(),
            chosen_rewards: Vec::new(),
            rejected_rewards: Vec::new(),
            metrics: BTreeMap::from([("pairs".to_owned(), pairs.len() as f64)]),
        };
        for pair in pairs {
            let chosen = self.beta * (pair.policy_chosen - pair.reference_chosen);
            let rejected = self.beta * (pair.policy_rejected - pair.reference_rejected);
            let margin = chosen - rejected;
            let slope = -self.beta * pair.weight / (1.0 + margin.exp());
            loss.losses.push(pair.weight * (-margin).exp().ln_1p());
            loss.chosen_gradient.push(slope);
            loss.rejected_gradient.push(-slope);
            loss.chosen_rewards.push(chosen);
            loss.rejected_rewards.push(rejected);
        }
        Ok(loss)
    }
}

/// Examples in memory.
pub struct Examples(pub Vec<Example>);

impl SftData for Examples {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn example(&self, index: u32) -> Result<Example, EngineError> {
        Ok(self.0[index as usize].clone())
    }
}

/// Pairs in memory.
pub struct Pairs(pub Vec<PreferenceExample>);

impl PreferenceData for Pairs {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        Ok(self.0[index as usize].clone())
    }
}

/// One user turn and its answer.
pub fn example(id: impl Into<String>, prompt: &str, completion: &str) -> Example {
    Example { id: id.into(), messages: vec![Message::user(prompt)], completion: completion.to_owned() }
}

/// The records of `sft.json`.
pub fn sft_records() -> Examples {
    let fixture = json("sft.json");
    let records = fixture["records"].as_array().unwrap().iter().enumerate();
    Examples(
        records
            .map(|(index, record)| {
                example(format!("e{index}"), record["prompt"].as_str().unwrap(), record["completion"].as_str().unwrap())
            })
            .collect(),
    )
}

/// The records of `dpo.json`, with reference log-probabilities from the model that they start from.
pub fn dpo_records() -> Pairs {
    use metareward_api::Trainer;
    let fixture_json = json("dpo.json");
    let mut pairs = Vec::new();
    let mut measured = Vec::new();
    for (index, record) in fixture_json["records"].as_array().unwrap().iter().enumerate() {
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        for key in ["chosen", "rejected"] {
            measured.push(example(format!("p{index}"), &text("prompt"), &text(key)));
        }
        pairs.push(PreferenceExample {
            id: format!("p{index}"),
            messages: vec![Message::user(text("prompt"))],
            chosen: text("chosen"),
            rejected: text("rejected"),
            reference_chosen: 0.0,
            reference_rejected: 0.0,
            weight: 1.0,
        });
    }
    let found = trainer(1).log_probabilities(&fixture("dpo-model"), &measured, 64, &Steps::default()).unwrap();
    for (pair, found) in pairs.iter_mut().zip(found.chunks_exact(2)) {
        (pair.reference_chosen, pair.reference_rejected) = (found[0].sum, found[1].sum);
    }
    Pairs(pairs)
}

/// Keeps what it is told, and asks to stop after some steps.
#[derive(Default)]
pub struct Steps {
    pub metrics: Mutex<Vec<StepMetrics>>,
    /// Steps after which to stop, counted in this call; 0 never.
    pub stop_after: u32,
    /// Looks at `stop` after which to stop; 0 never.
    pub stop_at_look: u32,
    taken: AtomicU32,
    looks: AtomicU32,
}

impl Steps {
    pub fn stop_after(steps: u32) -> Self {
        Self { stop_after: steps, ..Self::default() }
    }

    pub fn stop_at_look(look: u32) -> Self {
        Self { stop_at_look: look, ..Self::default() }
    }
}

impl Watch for Steps {
    fn progress(&self, _: Progress) {}

    fn step(&self, metrics: &StepMetrics, _: f64) {
        self.metrics.lock().unwrap().push(metrics.clone());
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    fn stop(&self) -> bool {
        let look = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        (self.stop_after > 0 && self.taken.load(Ordering::SeqCst) >= self.stop_after)
            || (self.stop_at_look > 0 && look >= self.stop_at_look)
    }
}

/// The settings of the fixtures' runs.
pub fn settings() -> TrainSettings {
    TrainSettings {
        learning_rate: 5e-4,
        lr_schedule: LearningRateSchedule::Cosine,
        warmup_steps: 2,
        schedule_steps: 20,
        weight_decay: 0.1,
        adam_beta1: 0.9,
        adam_beta2: 0.95,
        adam_epsilon: 1e-8,
        max_grad_norm: 0.5,
        max_length: 64,
        micro_batch_tokens: 96,
        activation_checkpointing: false,
        lora: None,
        save_steps: 0,
        weights: WeightUpdates::default(),
        optimizer_state: OptimizerState::default(),
        gradients: GradientSum::default(),
    }
}

/// `count` records in order, `batch` per step, in one epoch per `epochs`.
pub fn in_order(count: u32, batch: u32, epochs: usize) -> Vec<Vec<Vec<u32>>> {
    let all: Vec<u32> = (0..count).collect();
    let steps: Vec<Vec<u32>> = all.chunks(batch as usize).map(<[u32]>::to_vec).collect();
    vec![steps; epochs]
}

/// A job on the fixture model `model`.
pub fn job<'a>(
    model: &str,
    folder: &Path,
    data: TrainData<'a>,
    epochs: Vec<Vec<Vec<u32>>>,
    settings: TrainSettings,
) -> TrainJob<'a> {
    TrainJob {
        model: fixture(model),
        folder: folder.to_owned(),
        fingerprint: "fixture".to_owned(),
        iteration: 0,
        data,
        epochs,
        validation: Vec::new(),
        settings,
    }
}

/// All files under `folder`, by their relative paths.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The f32 tensors of a safetensors file.
pub fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let values = view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
            (name.to_owned(), values.collect())
        })
        .collect()
}

/// Largest difference between two sets of tensors with the same names.
pub fn largest_difference(left: &BTreeMap<String, Vec<f32>>, right: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    left.iter()
        .flat_map(|(name, values)| {
            assert_eq!(values.len(), right[name].len(), "{name}");
            values.iter().zip(&right[name]).map(|(a, b)| (a - b).abs())
        })
        .fold(0.0, f32::max)
}
