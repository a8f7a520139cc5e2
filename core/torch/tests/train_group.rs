//! Training on several processes against training on one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod processes;
mod train_support;

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metareward_api::{
    EngineError, GradientSum, Lora, Optimizer, OptimizerState, PairLogProbs, Plugin, PluginError, PluginInfo,
    PreferenceLoss, StepMetrics, TrainData, TrainReport, Trainer, WeightUpdates,
};
use metareward_torch::{
    DeviceChoice, Group, Precision,
    train::{Sharding, TorchTrainer, TrainerOptions},
};
use processes::{all_well, play, scene};
use serde::{Deserialize, Serialize};
use tch::Device;
use train_support::{Dpo, Steps, dpo_records, files, in_order, job, settings, sft_records};

const DPO: Dpo = Dpo { beta: 0.1 };

/// The weight of a pair whose loss is not a number.
const BROKEN: f64 = 3.5;

/// DPO, but for pairs of one weight, and as often as it lives.
struct Breaking {
    dpo: Dpo,
    /// Calls that are left.
    lives: AtomicU32,
}

impl Plugin for Breaking {
    fn info(&self) -> PluginInfo {
        self.dpo.info()
    }
}

impl Optimizer for Breaking {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        self.dpo.needs_reference()
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        self.dpo.loss_at_start()
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        if self.lives.fetch_sub(1, Ordering::SeqCst) == 0 {
            // As `kill -9` does: nothing is closed in good order.
            std::process::abort();
        }
        let mut loss = self.dpo.loss(pairs)?;
        for (value, pair) in loss.losses.iter_mut().zip(pairs) {
            if pair.weight == BROKEN {
                *value = f64::NAN;
            }
        }
        Ok(loss)
    }
}

const LIMIT: Duration = Duration::from_secs(120);

/// One training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Case {
    folder: PathBuf,
    pairs: bool,
    lora: bool,
    precision: Precision,
    sharding: Sharding,
    kernels: bool,
    checkpointing: bool,
    /// Steps after which the run is stopped; 0 never.
    stop_after: u32,
    weights: WeightUpdates,
    optimizer_state: OptimizerState,
    gradients: GradientSum,
    /// The rank that has little memory for activations.
    short_rank: Option<usize>,
    /// Whether the loss of one record is not a number.
    broken: bool,
    /// The rank that dies at the third micro-batch.
    dies: Option<usize>,
}

impl Case {
    fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            pairs: false,
            lora: false,
            precision: Precision::F32,
            sharding: Sharding::None,
            kernels: true,
            checkpointing: false,
            stop_after: 0,
            weights: WeightUpdates::Masters,
            optimizer_state: OptimizerState::F32,
            gradients: GradientSum::F32,
            short_rank: None,
            broken: false,
            dies: None,
        }
    }

    fn train(&self, group: Option<&Arc<Group>>) -> (Result<TrainReport, EngineError>, Steps) {
        let mut settings = settings();
        settings.activation_checkpointing = self.checkpointing;
        settings.micro_batch_tokens = 60;
        settings.weights = self.weights;
        settings.optimizer_state = self.optimizer_state;
        settings.gradients = self.gradients;
        if self.lora {
            let targets = ["q_proj", "v_proj", "down_proj"].map(str::to_owned).to_vec();
            settings.lora = Some(Lora { rank: 4, alpha: 8.0, targets });
        }
        let short = self.short_rank.is_some() && group.map(|group| group.rank()) == self.short_rank;
        let options = TrainerOptions {
            device: DeviceChoice::Cpu,
            precision: self.precision,
            threads: 1,
            intra_op: 1,
            kernels: self.kernels,
            sharding: self.sharding,
            // Several parts, also of a small model.
            bucket_bytes: 20_000,
            activation_bytes: if short { 55_000 } else { 0 },
            ..TrainerOptions::default()
        };
        let mut trainer = match group {
            Some(group) => TorchTrainer::in_group(options, Arc::clone(group)),
            None => TorchTrainer::new(options),
        };
        let watch = Steps::stop_after(self.stop_after);
        let report = if self.pairs {
            let mut data = dpo_records();
            if self.broken {
                data.0[2].id = "the broken one".to_owned();
                data.0[2].weight = BROKEN;
            }
            let dies = self.dies.is_some() && group.map(|group| group.rank()) == self.dies;
            let loss = Breaking { dpo: DPO, lives: AtomicU32::new(if dies { 2 } else { u32::MAX }) };
            let data = TrainData::Preference { data: &data, optimizer: &loss };
            let mut job = job("dpo-model", &self.folder, data, in_order(8, 5, 2), settings);
            job.validation = vec![7, 8, 9];
            trainer.train(&job, &watch)
        } else {
            let data = sft_records();
            let mut job = job("sft-model", &self.folder, TrainData::Sft(&data), in_order(8, 5, 2), settings);
            job.validation = vec![0, 3];
            trainer.train(&job, &watch)
        };
        (report, watch)
    }

    fn log(&self) -> Vec<StepMetrics> {
        let text = fs::read_to_string(self.folder.join("log.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The weights of the last epoch.
    fn weights(&self) -> BTreeMap<String, Vec<f32>> {
        let bytes = fs::read(self.folder.join("epoch-2/model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.iter()
            .map(|(name, view)| {
                let values = match view.dtype() {
                    safetensors::Dtype::BF16 => view
                        .data()
                        .chunks_exact(2)
                        .map(|two| f32::from_bits(u32::from(u16::from_le_bytes(two.try_into().unwrap())) << 16))
                        .collect(),
                    _ => view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect(),
                };
                (name.to_owned(), values)
            })
            .collect()
    }
}

/// The cases of a scene, which are in the file that the environment names.
fn cases() -> Vec<Case> {
    serde_json::from_str(&fs::read_to_string(env::var("METAREWARD_TEST_CASES").unwrap()).unwrap()).unwrap()
}

fn play_cases(scene: &str, size: usize, cases: &[Case]) -> Vec<processes::Ended> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.json");
    fs::write(&path, serde_json::to_string(cases).unwrap()).unwrap();
    play(scene, size, &[("METAREWARD_TEST_CASES", path.to_string_lossy().into_owned())], LIMIT)
}

/// What a process of a scene does.
#[test]
#[ignore = "started by the other tests"]
fn worker() {
    tch::set_num_threads(1);
    let group = Arc::new(Group::from_env(Device::Cpu).unwrap().expect("started as one of several"));
    match scene().as_deref() {
        Some("train") => {
            for case in cases() {
                let (report, watch) = case.train(Some(&group));
                let report = match report {
                    Err(EngineError::Stopped) if case.stop_after > 0 => continue,
                    report => report.unwrap_or_else(|error| panic!("{case:?}: {error}")),
                };
                assert_eq!(report.epochs.len(), if group.rank() == 0 { 2 } else { 0 });
                assert_eq!(watch.metrics.lock().unwrap().is_empty(), group.rank() > 0);
            }
            group.barrier().unwrap();
        }
        Some("bytes") => {
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
                .with_ansi(false)
                .init();
            cases().iter().for_each(|case| {
                case.train(Some(&group)).0.unwrap();
            });
            group.barrier().unwrap();
        }
        Some("fail") => {
            for case in cases() {
                let (report, _) = case.train(Some(&group));
                println!("failed with: {}", report.unwrap_err());
                if case.dies.is_some() {
                    return;
                }
            }
            group.barrier().unwrap();
        }
        other => panic!("no scene {other:?}"),
    }
}

/// How far two runs may be apart, of one number format: in a loss, relatively; in a weight, on average and at most, in
/// units of what one step at the largest learning rate moves it by.
struct Apart {
    loss: f64,
    norm: f64,
    mean: f64,
    most: f64,
}

/// In f32 the sums of a gradient's n terms are taken in another order: a relative error of about n · 2⁻²⁴. AdamW divides
/// by the gradient's own size, so a weight whose gradient is all rounding may move by a step either way, and few do. In
/// bf16 every micro-batch's gradient is rounded to 2⁻⁹ of itself, and micro-batches are others.
fn apart(precision: Precision) -> Apart {
    match precision {
        Precision::F32 => Apart { loss: 1e-6, norm: 1e-5, mean: 5e-5, most: 2e-2 },
        Precision::Bf16 => Apart { loss: 5e-3, norm: 2e-2, mean: 0.1, most: 8.0 },
    }
}

fn same_but_for_rounding(case: &Case, alone: &Case) {
    let Apart { loss, norm, mean, most } = apart(case.precision);
    let (found, expected) = (case.log(), alone.log());
    assert_eq!(found.len(), expected.len(), "{case:?}");
    let close = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance * b.abs().max(1.0);
    for (found, expected) in found.iter().zip(&expected) {
        let place = format!("step {}: {found:?} {expected:?} {case:?}", expected.step);
        assert!(close(found.loss, expected.loss, loss), "{place}");
        assert!(close(found.gradient_norm, expected.gradient_norm, norm), "{place}");
        assert_eq!((found.learning_rate, found.tokens), (expected.learning_rate, expected.tokens), "{place}");
        assert_eq!(found.accuracy.is_some(), case.pairs);
    }
    let rate = settings().learning_rate;
    let (left, right) = (case.weights(), alone.weights());
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    let (mut sum, mut count, mut largest) = (0.0, 0.0, 0.0f64);
    for (name, left) in &left {
        assert_eq!(left.len(), right[name].len(), "{name}");
        for (a, b) in left.iter().zip(&right[name]) {
            let difference = f64::from((a - b).abs()) / rate;
            // A bf16 weight has neighbours further apart than a step.
            let grain = if case.precision == Precision::Bf16 { f64::from(b.abs()) / 128.0 / rate } else { 0.0 };
            largest = largest.max(difference - grain);
            sum += difference;
            count += 1.0;
        }
    }
    let model = if case.pairs { "dpo-model" } else { "sft-model" };
    let start = train_support::tensors(&train_support::fixture(model).join("model.safetensors"));
    assert!(start.iter().any(|(name, start)| start != &left[name]), "nothing was learned: {case:?}");
    println!(
        "{:?} {:?} pairs {} lora {}: mean {:.2e}, most {largest:.2e} steps",
        case.precision,
        case.sharding,
        case.pairs,
        case.lora,
        sum / count
    );
    assert!(sum / count <= mean && largest <= most, "mean {} most {largest}: {case:?}", sum / count);
}

/// Every way of sharing out, on 2 and 3 processes: full and adapters, examples and pairs, f32 and bf16, our own kernels and
/// libtorch's.
#[test]
fn loss_and_weights_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut alone = Vec::new();
    for (pairs, lora) in [(false, false), (true, false), (false, true), (true, true)] {
        for precision in [Precision::F32, Precision::Bf16] {
            let case =
                Case { pairs, lora, precision, ..Case::new(folder.path().join(format!("alone-{}", alone.len()))) };
            case.train(None).0.unwrap();
            alone.push(case);
        }
    }
    for size in [2, 3] {
        let mut cases = Vec::new();
        for (index, one) in alone.iter().enumerate() {
            for sharding in [Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Parameters] {
                // Three processes: what differs from two is how things are shared out.
                let differs = size == 2 || sharding == Sharding::Optimizer || sharding == Sharding::Parameters;
                if one.lora && sharding == Sharding::Parameters || !differs {
                    continue;
                }
                let folder = folder.path().join(format!("{size}-{index}-{sharding:?}"));
                let checkpointing = sharding == Sharding::Gradients;
                cases.push(Case { sharding, folder, checkpointing, ..one.clone() });
            }
        }
        // libtorch's operations where our own kernels could.
        let folder = folder.path().join(format!("{size}-libtorch"));
        cases.push(Case { kernels: false, folder, ..alone[0].clone() });
        all_well(&play_cases("train", size, &cases));
        for case in &cases {
            let same = |one: &&Case| (one.pairs, one.lora, one.precision) == (case.pairs, case.lora, case.precision);
            same_but_for_rounding(case, alone.iter().find(same).unwrap());
        }
    }
}

/// The same files whatever the number of processes and the sharding; a second run gives the same bytes.
#[test]
fn a_run_leaves_what_one_process_leaves_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Case::new(folder.path().join("alone"));
    alone.train(None).0.unwrap();
    let names: Vec<String> = files(&alone.folder).into_keys().collect();
    let case = |name: &str, sharding| Case { sharding, ..Case::new(folder.path().join(name)) };
    let cases = [
        case("first", Sharding::Gradients),
        case("second", Sharding::Gradients),
        case("third", Sharding::None),
        case("fourth", Sharding::None),
        case("fifth", Sharding::Parameters),
        case("sixth", Sharding::Parameters),
    ];
    all_well(&play_cases("train", 2, &cases));
    for case in &cases {
        let found = files(&case.folder);
        assert_eq!(found.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        for name in ["config.json", "tokenizer.json"] {
            let name = format!("epoch-2/{name}");
            assert_eq!(found[&name], files(&alone.folder)[&name]);
        }
    }
    for two in cases.chunks(2) {
        assert!(files(&two[0].folder) == files(&two[1].folder), "{:?}", two[0].sharding);
    }
}

/// Stopped on 2 processes, the run goes on with 1, with 3, and with another sharding; and the other way round.
#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let forms = [
        (Precision::F32, WeightUpdates::Masters, OptimizerState::F32),
        (Precision::Bf16, WeightUpdates::Masters, OptimizerState::F32),
        (Precision::Bf16, WeightUpdates::Compensated, OptimizerState::EightBit),
    ];
    for (index, (precision, weights, optimizer_state)) in forms.into_iter().enumerate() {
        let base = |name: &str| Case {
            precision,
            weights,
            optimizer_state,
            ..Case::new(folder.path().join(format!("{index}-{name}")))
        };
        let alone = base("alone");
        alone.train(None).0.unwrap();
        let case = |name: &str, sharding, stop_after| Case { sharding, stop_after, ..base(name) };
        let stopped = [
            case("to-one", Sharding::Gradients, 2),
            case("to-three", Sharding::Optimizer, 2),
            case("to-none", Sharding::None, 3),
            case("of-weights", Sharding::Parameters, 2),
        ];
        all_well(&play_cases("train", 2, &stopped));
        for case in &stopped {
            assert_eq!(case.log().len(), case.stop_after as usize);
        }
        case("to-one", Sharding::None, 0).train(None).0.unwrap();
        // From one process to three.
        let single = case("from-one", Sharding::None, 1);
        assert_eq!(single.train(None).0, Err(EngineError::Stopped));
        let goes_on = [
            case("to-three", Sharding::Gradients, 0),
            case("to-none", Sharding::Optimizer, 0),
            case("from-one", Sharding::Gradients, 0),
            case("of-weights", Sharding::Parameters, 0),
        ];
        all_well(&play_cases("train", 3, &goes_on));
        for case in goes_on.iter().chain(&[case("to-one", Sharding::None, 0)]) {
            same_but_for_rounding(case, &alone);
        }
    }
}

/// A rank without enough memory makes all of them take smaller micro-batches; the result is the same.
#[test]
fn one_without_memory_makes_all_take_less() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Case::new(folder.path().join("alone"));
    alone.train(None).0.unwrap();
    let cases =
        [0, 1].map(|rank| Case { short_rank: Some(rank), ..Case::new(folder.path().join(format!("short-{rank}"))) });
    let ended = play_cases("train", 2, &cases);
    all_well(&ended);
    for case in &cases {
        let state = &files(&case.folder)["state/training.safetensors"];
        assert!(String::from_utf8_lossy(state).contains("micro_batch_tokens"), "the memory was enough");
        same_but_for_rounding(case, &alone);
    }
}

/// A process that dies in the middle of a step is an error in the others, at once, and the run goes on from what was saved.
#[test]
fn a_process_that_dies_ends_the_others_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Case { pairs: true, ..Case::new(folder.path().join("alone")) };
    alone.train(None).0.unwrap();
    for (rank, sharding) in [(1, Sharding::None), (2, Sharding::Gradients), (0, Sharding::Parameters)] {
        let case = Case { sharding, folder: folder.path().join(format!("{sharding:?}")), ..alone.clone() };
        let ended = play_cases("fail", 3, &[Case { dies: Some(rank), ..case.clone() }]);
        for (other, process) in ended.iter().enumerate() {
            assert_eq!(process.status.success(), other != rank, "process {other}: {}", process.said);
            let said = process.said.contains("failed with: process group: another process is gone");
            assert_eq!(said, other != rank, "process {other}: {}", process.said);
            assert!(process.seconds < 30.0, "{} s", process.seconds);
        }
        all_well(&play_cases("train", 2, std::slice::from_ref(&case)));
        same_but_for_rounding(&case, &alone);
    }
}

/// What a process holds of weights, gradient and optimizer state: all of it, or its part. The bytes per parameter are those
/// that `plan` counts with.
#[test]
fn what_is_shared_out_a_process_holds_a_part_of() {
    let folder = tempfile::tempdir().unwrap();
    let shardings = [Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Parameters];
    // Weights to compute with; the gradient; masters in f32 where the weights are not, and moments.
    let precisions = [(Precision::F32, [4.0, 4.0, 8.0]), (Precision::Bf16, [2.0, 4.0, 12.0])];
    let mut cases = Vec::new();
    let mut expected = Vec::new();
    for (precision, [weights, gradient, optimizer]) in precisions {
        for sharding in shardings {
            cases.push(Case { precision, sharding, ..Case::new(folder.path().join(cases.len().to_string())) });
            let part = |from: Sharding| if sharding >= from { 0.5 } else { 1.0 };
            let each = weights * part(Sharding::Parameters) + gradient * part(Sharding::Gradients);
            expected.push(each + optimizer * part(Sharding::Optimizer));
        }
    }
    let ended = play_cases("bytes", 2, &cases);
    all_well(&ended);
    for process in &ended {
        let field = |line: &str, name: &str| -> Option<f64> {
            line.split_once(&format!("{name}="))?.1.split_whitespace().next()?.parse().ok()
        };
        let found: Vec<(f64, f64)> = process
            .said
            .lines()
            .filter_map(|line| Some((field(line, "state_bytes")?, field(line, "parameters")?)))
            .collect();
        assert_eq!(found.len(), expected.len(), "{}", process.said);
        for ((bytes, parameters), expected) in found.into_iter().zip(&expected) {
            // Shares begin where a block of 256 elements does.
            let most = 18.0 * 256.0;
            assert!((bytes - expected * parameters).abs() <= most, "{bytes} {expected} {parameters}");
        }
    }
}

/// Adapters and shared weights do not go together, and every process says so.
#[test]
fn what_does_not_go_together_is_refused_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let case = Case { lora: true, sharding: Sharding::Parameters, ..Case::new(folder.path().join("adapters")) };
    let ended = play_cases("fail", 2, &[case]);
    all_well(&ended);
    for process in &ended {
        assert!(process.said.contains("failed with: train.sharding: adapters leave"), "{}", process.said);
    }
}

/// Examples of which one cannot be used, wherever it is computed.
#[test]
fn a_failure_in_one_process_is_the_same_error_in_all() {
    let folder = tempfile::tempdir().unwrap();
    let sharded = [Sharding::None, Sharding::Gradients, Sharding::Parameters];
    let cases: Vec<Case> = sharded
        .into_iter()
        .map(|sharding| Case {
            broken: true,
            pairs: true,
            sharding,
            ..Case::new(folder.path().join(format!("{sharding:?}")))
        })
        .collect();
    let ended = play_cases("fail", 3, &cases);
    all_well(&ended);
    let said = |rank: usize| -> Vec<&str> {
        ended[rank].said.lines().filter_map(|line| line.split_once("failed with: ").map(|(_, error)| error)).collect()
    };
    assert_eq!(said(0).len(), 3, "{}", ended[0].said);
    assert!(
        said(0).iter().all(|error| error.contains("at step 1") && error.contains("the broken one")),
        "{:?}",
        said(0)
    );
    assert!(said(0) == said(1) && said(1) == said(2));
}
