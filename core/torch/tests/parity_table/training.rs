//! Training: the first step of every architecture against transformers' own gradient; supervised fine-tuning, and every loss that
//! an optimizer plugin shares with TRL, against 20 steps of TRL's trainers.

use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};

use metareward_api::{
    EngineError, Example, GradientSum, LearningRateSchedule, Message, Optimizer, OptimizerState, PreferenceData,
    PreferenceExample, Progress, SftData, StepMetrics, TrainData, TrainJob, TrainSettings, Trainer, Watch,
    WeightUpdates,
};
use metareward_plugin::{FromOptions, read_options};
use metareward_torch::{
    DeviceChoice, Precision,
    train::{TorchTrainer, TrainerOptions},
};
use serde_json::Value;

use crate::{
    generation::Quiet,
    models::{Model, fixture, json, version},
    row::Row,
};

/// Steps that are the first ones.
const FIRST: usize = 5;

/// Keeps every step's metrics.
#[derive(Default)]
struct Steps(Mutex<Vec<StepMetrics>>);

impl Watch for Steps {
    fn progress(&self, _: Progress) {}
    fn step(&self, metrics: &StepMetrics, _: f64) {
        self.0.lock().unwrap().push(metrics.clone());
    }
    fn stop(&self) -> bool {
        false
    }
}

struct Examples(Vec<Example>);

impl SftData for Examples {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }
    fn example(&self, index: u32) -> Result<Example, EngineError> {
        Ok(self.0[index as usize].clone())
    }
}

struct Pairs(Vec<PreferenceExample>);

impl PreferenceData for Pairs {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }
    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        Ok(self.0[index as usize].clone())
    }
}

fn trainer() -> TorchTrainer {
    let options = TrainerOptions {
        device: DeviceChoice::Cpu,
        precision: Precision::F32,
        threads: 2,
        intra_op: 1,
        ..TrainerOptions::default()
    };
    TorchTrainer::new(options)
}

/// The settings that `make_train.py` and `make_optimizers.py` train with.
fn settings() -> TrainSettings {
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
        max_length: 2048,
        micro_batch_tokens: 96,
        activation_checkpointing: false,
        lora: None,
        save_steps: 0,
        weights: WeightUpdates::default(),
        optimizer_state: OptimizerState::default(),
        gradients: GradientSum::default(),
    }
}

/// Metrics of every step and the weights after the last.
fn train(model: &Path, data: TrainData<'_>, steps: Vec<Vec<u32>>) -> (Vec<StepMetrics>, BTreeMap<String, Vec<f32>>) {
    let scratch = tempfile::tempdir().unwrap();
    let job = TrainJob {
        model: model.to_owned(),
        folder: scratch.path().to_owned(),
        fingerprint: "parity".to_owned(),
        iteration: 0,
        data,
        epochs: vec![steps],
        validation: Vec::new(),
        settings: settings(),
    };
    let watch = Steps::default();
    let report = trainer().train(&job, &watch).unwrap();
    (watch.0.into_inner().unwrap(), tensors(&report.epochs[0].folder.join("model.safetensors")))
}

/// The f32 tensors of a safetensors file.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    file.iter().map(|(name, view)| (name.to_owned(), values(view.data()))).collect()
}

/// A difference, relative where the number is above 1.
fn relative(ours: f64, theirs: f64) -> f64 {
    (ours - theirs).abs() / theirs.abs().max(1.0)
}

/// All rows of training.
pub fn rows(models: &[Model]) -> Vec<Row> {
    let mut rows = first_steps(models);
    rows.extend(supervised());
    rows.extend(preferences());
    rows
}

fn first_steps(models: &[Model]) -> Vec<Row> {
    let transformers = format!("{}, autograd", version(&json("parity/variants.json"), "transformers"));
    let mut architectures: Vec<&str> = models.iter().map(Model::architecture).collect();
    architectures.dedup();
    let mut rows = Vec::new();
    for architecture in architectures {
        let what = format!("{architecture}: loss and gradient norm of one step, f32");
        let mut row = Row::new(what, &transformers, "relative above 1", 1e-5);
        for model in models.iter().filter(|model| model.architecture() == architecture) {
            let expected = &model.expected["one_step"];
            let example = |value: &Value| Example {
                id: "example".to_owned(),
                messages: vec![Message::user(value["prompt"].as_str().unwrap())],
                completion: value["completion"].as_str().unwrap().to_owned(),
            };
            let data = Examples(expected["examples"].as_array().unwrap().iter().map(example).collect());
            let (steps, _) = train(&model.folder, TrainData::Sft(&data), vec![vec![0, 1, 2]]);
            assert_eq!(steps[0].tokens, expected["tokens"].as_u64().unwrap(), "{}", model.name);
            row.add(&model.name, relative(steps[0].loss, expected["loss"].as_f64().unwrap()));
            row.add(&model.name, relative(steps[0].gradient_norm, expected["gradient_norm"].as_f64().unwrap()));
        }
        rows.push(row);
    }
    rows
}

/// `count` records in order, four to a step, again and again, for 20 steps.
fn in_order(count: u32) -> Vec<Vec<u32>> {
    (0..20).map(|step| (0..4).map(|place| (step * 4 + place) % count).collect()).collect()
}

type Figure = (&'static str, fn(&StepMetrics) -> Option<f64>);

const FIGURES: [Figure; 5] = [
    ("loss", |step| Some(step.loss)),
    ("gradient_norm", |step| Some(step.gradient_norm)),
    ("reward_chosen", |step| step.reward_chosen),
    ("reward_rejected", |step| step.reward_rejected),
    ("margin", |step| step.margin),
];

/// Two rows: the first steps, and all of them.
fn figures(name: &str, reference: &str, steps: &[StepMetrics], expected: &Value, left_out: &[&str]) -> [Row; 2] {
    let expected = expected.as_array().unwrap();
    assert_eq!(steps.len(), expected.len());
    let what = if steps[0].margin.is_some() && left_out.is_empty() {
        "loss, gradient norm, rewards, margin"
    } else {
        "loss, gradient norm"
    };
    let mut first = Row::new(format!("{name}: {what}, first {FIRST} steps"), reference, "relative above 1", 1e-5);
    let mut all = Row::new(format!("{name}: {what}, 20 steps"), reference, "relative above 1", 5e-5);
    for (index, (step, expected)) in steps.iter().zip(expected).enumerate() {
        for (figure, get) in FIGURES.iter().filter(|(figure, _)| !left_out.contains(figure)) {
            if let (Some(ours), Some(theirs)) = (get(step), expected[*figure].as_f64()) {
                let difference = relative(ours, theirs);
                all.add(&format!("{figure}, step {}", index + 1), difference);
                if index < FIRST {
                    first.add(&format!("{figure}, step {}", index + 1), difference);
                }
            }
        }
    }
    [first, all]
}

fn supervised() -> Vec<Row> {
    let expected = json("train/sft.json");
    let trl = format!("{}, SFTTrainer", version(&expected, "trl"));
    let example = |value: &Value| Example {
        id: "example".to_owned(),
        messages: vec![Message::user(value["prompt"].as_str().unwrap())],
        completion: value["completion"].as_str().unwrap().to_owned(),
    };
    let data = Examples(expected["records"].as_array().unwrap().iter().map(example).collect());
    let (steps, weights) = train(&fixture("train/sft-model"), TrainData::Sft(&data), in_order(data.len()));
    let mut rows = figures("SFT", &trl, &steps, &expected["steps"], &[]).to_vec();
    let mut rates = Row::new("SFT: learning rate of 20 steps, cosine with warm-up", &trl, "absolute", 1e-12);
    for (step, expected) in steps.iter().zip(expected["steps"].as_array().unwrap()) {
        rates.add(&format!("step {}", step.step), step.learning_rate - expected["learning_rate"].as_f64().unwrap());
    }
    let mut after = Row::new("SFT: weights after 20 steps", &trl, "absolute", 1e-4);
    for (name, theirs) in tensors(&fixture("train/sft.safetensors")) {
        for (ours, theirs) in weights[&name].iter().zip(theirs) {
            after.add(&name, f64::from(ours - theirs));
        }
    }
    rows.extend([rates, after]);
    rows
}

fn plugin(name: &str, options: &Value) -> Box<dyn Optimizer> {
    fn made<O: Optimizer + FromOptions + 'static>(options: &Value) -> Box<dyn Optimizer> {
        Box::new(O::from_options(read_options(options).unwrap()).unwrap())
    }
    match name {
        "dpo" => made::<optimizer_dpo::Dpo>(options),
        "cdpo" => made::<optimizer_cdpo::Cdpo>(options),
        "ipo" => made::<optimizer_ipo::Ipo>(options),
        "sppo" => made::<optimizer_sppo::Sppo>(options),
        "simpo" => made::<optimizer_simpo::Simpo>(options),
        "length-normalised" => made::<optimizer_length_normalised::LengthNormalised>(options),
        "orpo" => made::<optimizer_orpo::Orpo>(options),
        other => panic!("{other}"),
    }
}

/// The pairs of `train/dpo.json`, with log-probabilities of the model that they start from.
fn pairs() -> Pairs {
    let records = json("train/dpo.json")["records"].clone();
    let text = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
    let example = |record: &Value, key: &str| Example {
        id: "pair".to_owned(),
        messages: vec![Message::user(text(record, "prompt"))],
        completion: text(record, key),
    };
    let records = records.as_array().unwrap();
    let measured: Vec<Example> =
        records.iter().flat_map(|record| [example(record, "chosen"), example(record, "rejected")]).collect();
    let found = trainer().log_probabilities(&fixture("train/dpo-model"), &measured, 64, &Quiet).unwrap();
    let pair = |(record, found): (&Value, &[metareward_api::SequenceLogProb])| PreferenceExample {
        id: "pair".to_owned(),
        messages: vec![Message::user(text(record, "prompt"))],
        chosen: text(record, "chosen"),
        rejected: text(record, "rejected"),
        reference_chosen: found[0].sum,
        reference_rejected: found[1].sum,
        weight: 1.0,
    };
    Pairs(records.iter().zip(found.chunks_exact(2)).map(pair).collect())
}

fn preferences() -> Vec<Row> {
    let document = json("parity/optimizers.json");
    let trl = version(&document, "trl");
    let stride = document["stride"].as_u64().unwrap() as usize;
    let data = pairs();
    let start = tensors(&fixture("train/dpo-model/model.safetensors"));
    let mut rows = Vec::new();
    for case in document["cases"].as_array().unwrap() {
        let (name, options) = (case["plugin"].as_str().unwrap(), &case["options"]);
        let optimizer = plugin(name, options);
        let reference = format!("{trl}, {}", case["trl"].as_str().unwrap());
        let shown = format!("{name} {options}");
        let preference = TrainData::Preference { data: &data, optimizer: optimizer.as_ref() };
        let (steps, weights) = train(&fixture("train/dpo-model"), preference, in_order(data.len()));
        // TRL logs IPO's rewards without dividing them by the length.
        let left_out: &[&str] = if name == "ipo" { &["reward_chosen", "reward_rejected", "margin"] } else { &[] };
        rows.extend(figures(&shown, &reference, &steps, &case["steps"], left_out));
        let mut after = Row::new(format!("{shown}: weights after 20 steps"), &reference, "absolute", 1e-4);
        let mut moved = 0f64;
        for (tensor, theirs) in case["weights"].as_object().unwrap() {
            let theirs: Vec<f64> = serde_json::from_value(theirs.clone()).unwrap();
            let ours = weights[tensor].iter().step_by(stride);
            assert_eq!(ours.len(), theirs.len(), "{tensor}");
            for (ours, theirs) in ours.zip(&theirs) {
                after.add(tensor, f64::from(*ours) - theirs);
            }
            let before = start[tensor].iter().step_by(stride);
            moved = before.zip(&theirs).map(|(before, after)| (f64::from(*before) - after).abs()).fold(moved, f64::max);
        }
        // The comparison would say little if the weights had stayed where they were.
        assert!(moved > 1e-3, "{shown} moved the weights by {moved}");
        rows.push(after);
    }
    rows
}
