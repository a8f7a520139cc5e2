//! Properties of training: what must not matter does not, and what is wrong is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod train_support;

use std::{collections::BTreeMap, path::Path};

use metareward_api::{
    EngineError, Lora, Optimizer, PairLogProbs, Plugin, PluginError, PluginInfo, PreferenceLoss, StepMetrics,
    TrainData, TrainSettings, Trainer,
};
use metareward_torch::{
    DeviceChoice, Precision,
    train::{TorchTrainer, TrainerOptions},
};
use train_support::{
    Dpo, Examples, Steps, dpo_records, example, fixture, in_order, job, largest_difference, settings, sft_records,
    tensors, trainer, trainer_in,
};

const DPO: Dpo = Dpo { beta: 0.1 };

struct Outcome {
    steps: Vec<StepMetrics>,
    weights: BTreeMap<String, Vec<f32>>,
}

fn train(model: &str, data: TrainData<'_>, settings: TrainSettings) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let watch = Steps::default();
    let report = trainer(2).train(&job(model, folder.path(), data, in_order(24, 4, 1), settings), &watch).unwrap();
    let weights = tensors(&report.epochs[0].folder.join("model.safetensors"));
    Outcome { steps: watch.metrics.into_inner().unwrap(), weights }
}

fn agree(left: &Outcome, right: &Outcome, tolerance: f64) {
    for (left, right) in left.steps.iter().zip(&right.steps) {
        assert!((left.loss - right.loss).abs() < tolerance, "{left:?} {right:?}");
        assert!(
            (left.gradient_norm - right.gradient_norm).abs() < tolerance * left.gradient_norm,
            "{left:?} {right:?}"
        );
    }
    let off = largest_difference(&left.weights, &right.weights);
    assert!(f64::from(off) < 10.0 * tolerance, "{off}");
}

#[test]
fn activation_checkpointing_changes_nothing() {
    let (pairs, examples) = (dpo_records(), sft_records());
    for (model, data) in [
        ("dpo-model", TrainData::Preference { data: &pairs, optimizer: &DPO }),
        ("sft-model", TrainData::Sft(&examples)),
    ] {
        let plain = train(model, data, settings());
        let checkpointed = train(model, data, TrainSettings { activation_checkpointing: true, ..settings() });
        agree(&plain, &checkpointed, 1e-6);
    }
}

#[test]
fn the_size_of_a_micro_batch_does_not_matter() {
    let (pairs, examples) = (dpo_records(), sft_records());
    for (model, data) in [
        ("dpo-model", TrainData::Preference { data: &pairs, optimizer: &DPO }),
        ("sft-model", TrainData::Sft(&examples)),
    ] {
        let one_by_one = train(model, data, TrainSettings { micro_batch_tokens: 1, ..settings() });
        let together = train(model, data, TrainSettings { micro_batch_tokens: 100_000, ..settings() });
        agree(&one_by_one, &together, 2e-6);
    }
}

fn lora(rank: u32, targets: &[&str]) -> Option<Lora> {
    Some(Lora { rank, alpha: 16.0, targets: targets.iter().map(|&target| target.to_owned()).collect() })
}

/// The first step of adapters does not move the loss, later ones do, and the merged folder gives what the adapters gave.
#[test]
fn merged_adapters_give_the_adapters_log_probabilities() {
    let examples = sft_records();
    let scratch = tempfile::tempdir().unwrap();
    let targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "k_proj"];
    let settings = TrainSettings { lora: lora(4, &targets), learning_rate: 5e-3, warmup_steps: 0, ..settings() };
    let watch = Steps::default();
    let mut steps = in_order(4, 4, 8).concat();
    // The last step's rate is 0: its loss is that of the weights that are saved.
    let last = steps.len() as u32;
    let settings = TrainSettings { schedule_steps: last - 1, ..settings };
    steps.truncate(last as usize);
    let job = job("sft-model", scratch.path(), TrainData::Sft(&examples), vec![steps], settings);
    let report = trainer(2).train(&job, &watch).unwrap();
    let metrics = watch.metrics.into_inner().unwrap();
    assert_eq!(metrics.last().unwrap().learning_rate, 0.0);
    assert!(metrics.last().unwrap().loss < metrics[0].loss - 0.05, "{metrics:?}");
    let mean = |folder: &Path| {
        let found = trainer(1).log_probabilities(folder, &examples.0[..4], 64, &Steps::default()).unwrap();
        let tokens: u32 = found.iter().map(|found| found.tokens).sum();
        -found.iter().map(|found| found.sum).sum::<f64>() / f64::from(tokens)
    };
    assert!((mean(&fixture("sft-model")) - metrics[0].loss).abs() < 1e-6);
    let merged = &report.epochs[0].folder;
    assert!((mean(merged) - metrics.last().unwrap().loss).abs() < 1e-5);
    let (before, after) =
        (tensors(&fixture("sft-model/model.safetensors")), tensors(&merged.join("model.safetensors")));
    for (name, before) in &before {
        let adapted = targets.iter().any(|target| name.contains(target));
        assert_eq!(after[name] != *before, adapted, "{name}");
    }
}

#[test]
fn adapters_with_checkpointing_and_without_agree() {
    let examples = sft_records();
    // Layers' inputs carry no gradient before the first adapter.
    for targets in [&["q_proj"][..], &["down_proj", "v_proj"]] {
        let plain = TrainSettings { lora: lora(2, targets), ..settings() };
        let checkpointed = TrainSettings { activation_checkpointing: true, ..plain.clone() };
        let data = TrainData::Sft(&examples);
        agree(&train("sft-model", data, plain), &train("sft-model", data, checkpointed), 1e-6);
    }
}

#[test]
fn unknown_adapter_targets_are_named() {
    let examples = sft_records();
    let folder = tempfile::tempdir().unwrap();
    for (settings, words) in [
        (TrainSettings { lora: lora(4, &["q_prj"]), ..settings() }, "q_prj"),
        (TrainSettings { lora: lora(4, &[]), ..settings() }, "empty"),
        (TrainSettings { lora: lora(0, &["q_proj"]), ..settings() }, "0"),
    ] {
        let job = job("sft-model", folder.path(), TrainData::Sft(&examples), in_order(4, 4, 1), settings);
        let error = trainer(1).train(&job, &Steps::default()).unwrap_err().to_string();
        assert!(error.starts_with("lora.") && error.contains(words), "{error}");
    }
}

/// bf16 and f32 runs of the same job stay together, also at a learning rate whose updates bf16 weights cannot hold.
#[test]
fn bf16_follows_f32_at_small_learning_rates() {
    let examples = sft_records();
    let run = |precision| {
        let folder = tempfile::tempdir().unwrap();
        let settings = TrainSettings { learning_rate: 2e-5, warmup_steps: 0, schedule_steps: 4000, ..settings() };
        let epochs = vec![vec![(0..8).collect(); 150]];
        let job = job("sft-model", folder.path(), TrainData::Sft(&examples), epochs, settings);
        let watch = Steps::default();
        trainer_in(2, precision).train(&job, &watch).unwrap();
        let steps = watch.metrics.into_inner().unwrap();
        (steps[0].loss, steps.last().unwrap().loss)
    };
    let (single, half) = (run(Precision::F32), run(Precision::Bf16));
    println!("f32 {single:?}, bf16 {half:?}");
    let learned = single.0 - single.1;
    assert!(learned > 0.02, "{single:?}");
    assert!((half.0 - half.1 - learned).abs() < 0.25 * learned, "f32 {single:?}, bf16 {half:?}");
}

#[test]
fn long_completions_are_cut_and_long_prompts_refused() {
    let long = "w1 w2 w3 w4 w5 w6 w7 w8";
    let examples =
        Examples(vec![example("short", "w1", "w2"), example("cut", "w3", long), example("twice", "w4", long)]);
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings { max_length: 9, ..settings() };
    // The same record in two epochs is counted once.
    let first = job("sft-model", folder.path(), TrainData::Sft(&examples), in_order(3, 2, 2), settings.clone());
    let watch = Steps::default();
    assert_eq!(trainer(1).train(&first, &watch).unwrap().truncated, 2);
    // Prompts have 5 tokens; completions 2 (with the end token) and, cut, 4 each.
    let tokens: Vec<u64> = watch.metrics.into_inner().unwrap().iter().map(|step| step.tokens).collect();
    assert_eq!(tokens, [6, 4, 6, 4]);

    let measured = trainer(1).log_probabilities(&fixture("sft-model"), &examples.0, 9, &Steps::default()).unwrap();
    assert_eq!(measured.iter().map(|found| found.tokens).collect::<Vec<_>>(), [2, 4, 4]);

    let examples = Examples(vec![example("short", "w1", "w2"), example("too-long", long, "w1")]);
    let folder = tempfile::tempdir().unwrap();
    let job = job("sft-model", folder.path(), TrainData::Sft(&examples), in_order(2, 2, 1), settings);
    match trainer(1).train(&job, &Steps::default()) {
        Err(EngineError::Input { record, message }) => {
            assert_eq!(record, "too-long");
            assert!(message.contains("12 tokens") && message.contains("max_length"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// The batch that a sequence is in changes its log-probability by rounding only, and threads not at all.
#[test]
fn log_probabilities_do_not_depend_on_company() {
    let examples = sft_records();
    let folder = fixture("sft-model");
    let together = trainer(1).log_probabilities(&folder, &examples.0, 64, &Steps::default()).unwrap();
    let threads = trainer(3).log_probabilities(&folder, &examples.0, 64, &Steps::default()).unwrap();
    assert_eq!(together, threads);
    for (example, together) in examples.0.iter().zip(&together) {
        let alone =
            trainer(1).log_probabilities(&folder, std::slice::from_ref(example), 64, &Steps::default()).unwrap();
        assert_eq!(alone[0].tokens, together.tokens);
        assert!((alone[0].sum - together.sum).abs() < 1e-5, "{} {}", alone[0].sum, together.sum);
    }
    let stopped = trainer(1).log_probabilities(&folder, &examples.0, 64, &Steps::stop_at_look(1));
    assert_eq!(stopped, Err(EngineError::Stopped));
}

/// Answers as told.
struct Scripted(fn(&[PairLogProbs]) -> Result<PreferenceLoss, PluginError>);

impl Plugin for Scripted {
    fn info(&self) -> PluginInfo {
        PluginInfo { name: "scripted".to_owned(), ..DPO.info() }
    }
}

impl Optimizer for Scripted {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(false)
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(None)
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        (self.0)(pairs)
    }
}

fn with_optimizer(optimizer: &dyn Optimizer) -> EngineError {
    let pairs = dpo_records();
    let folder = tempfile::tempdir().unwrap();
    let data = TrainData::Preference { data: &pairs, optimizer };
    let job = job("dpo-model", folder.path(), data, in_order(8, 4, 1), settings());
    trainer(2).train(&job, &Steps::default()).unwrap_err()
}

#[test]
fn what_an_optimizer_gets_wrong_is_said() {
    let failing = with_optimizer(&Scripted(|_| Err(PluginError::at(0, "cannot count"))));
    match failing {
        EngineError::Plugin { plugin, message } => {
            assert_eq!(plugin, "scripted");
            assert!(message.starts_with('p') && message.ends_with(": cannot count"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let short = with_optimizer(&Scripted(|pairs| {
        let mut loss = DPO.loss(pairs)?;
        loss.rejected_gradient.pop();
        Ok(loss)
    }));
    assert!(short.to_string().contains("rejected_gradient"), "{short}");
    let infinite = with_optimizer(&Scripted(|pairs| {
        let mut loss = DPO.loss(pairs)?;
        loss.losses[0] = f64::NAN;
        Ok(loss)
    }));
    match infinite {
        EngineError::NotFinite { step, records, message } => {
            assert_eq!((step, records.len()), (1, 1));
            assert!(message.contains("losses"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// A learning rate that blows up ends at a step with its records, and the state saved before is still there.
#[test]
fn exploding_weights_end_the_run_and_keep_the_last_state() {
    let examples = sft_records();
    let folder = tempfile::tempdir().unwrap();
    let settings =
        TrainSettings { learning_rate: 1e38, warmup_steps: 3, save_steps: 1, max_grad_norm: 0.0, ..settings() };
    let job = job("sft-model", folder.path(), TrainData::Sft(&examples), in_order(40, 4, 1), settings);
    match trainer(2).train(&job, &Steps::default()) {
        Err(EngineError::NotFinite { step, records, .. }) => {
            assert!(step > 1 && !records.is_empty() && records.iter().all(|record| record.starts_with('e')));
        }
        other => panic!("{other:?}"),
    }
    assert!(folder.path().join("state/training.safetensors").is_file());
    assert!(!folder.path().join("epoch-1").exists());
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(std::sync::Arc<std::sync::atomic::AtomicU32>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().contains("train")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A reference that is not the start model is allowed, and said.
#[test]
fn a_first_loss_off_the_methods_own_is_warned_of() {
    for (shift, expected) in [(0.0, 0), (0.5, 1)] {
        let mut pairs = dpo_records();
        for pair in &mut pairs.0 {
            pair.reference_chosen += shift;
            pair.weight = 0.5;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = TrainData::Preference { data: &pairs, optimizer: &DPO };
        let job = job("dpo-model", folder.path(), data, in_order(8, 4, 1), settings());
        let warnings = Warnings::default();
        let report = tracing::subscriber::with_default(warnings.clone(), || trainer(2).train(&job, &Steps::default()));
        let off = (report.unwrap().first_loss - 0.5 * 2f64.ln()).abs();
        assert_eq!(warnings.0.load(std::sync::atomic::Ordering::SeqCst), expected);
        assert_eq!(off > 1e-4, expected == 1, "{off}");
    }
}

/// A trainer whose threads may hold this many bytes of activations.
fn limited(activation_bytes: u64) -> TorchTrainer {
    let options =
        TrainerOptions { device: DeviceChoice::Cpu, threads: 2, activation_bytes, ..TrainerOptions::default() };
    TorchTrainer::new(options)
}

/// Memory that does not do for a micro-batch does for smaller ones; memory that does not do for one record ends the run
/// with what to change.
#[test]
fn too_little_memory_is_tried_again_in_smaller_pieces_and_then_said() {
    let pairs = dpo_records();
    let settings = || TrainSettings { micro_batch_tokens: 100_000, ..settings() };
    let data = TrainData::Preference { data: &pairs, optimizer: &DPO };
    let together = train("dpo-model", data, settings());
    let run = |bytes: u64| {
        let folder = tempfile::tempdir().unwrap();
        let watch = Steps::default();
        let epochs = in_order(24, 4, 1);
        let report = limited(bytes).train(&job("dpo-model", folder.path(), data, epochs, settings()), &watch)?;
        let weights = tensors(&report.epochs[0].folder.join("model.safetensors"));
        Ok::<_, EngineError>(Outcome { steps: watch.metrics.into_inner().unwrap(), weights })
    };
    let warnings = Warnings::default();
    // What 100,000 tokens fit into is too much; the least that the run gets by with is found by halving.
    let mut bytes = 1 << 22;
    while tracing::subscriber::with_default(warnings.clone(), || run(bytes)).is_ok() {
        bytes /= 2;
    }
    let cut = run(2 * bytes).unwrap();
    assert!(warnings.0.load(std::sync::atomic::Ordering::SeqCst) > 0, "{bytes}: nothing was tried again");
    agree(&together, &cut, 2e-6);
    match run(bytes) {
        Err(EngineError::Machine(message)) => {
            for part in ["record, p", "tokens:", "MB", "activation_checkpointing"] {
                assert!(message.contains(part), "{message}");
            }
            assert_eq!(message.lines().count(), 1, "{message}");
        }
        other => panic!("{:?}", other.err()),
    }
    let measured = [example("a", "w1 w2", "w3"), example("b", "w4", "w5 w6")];
    let error = limited(100).log_probabilities(&fixture("dpo-model"), &measured, 64, &Steps::default()).unwrap_err();
    assert!(matches!(&error, EngineError::Machine(message) if message.contains("max_length")), "{error}");
}

/// Our own kernels and libtorch's operations give one training run.
#[test]
fn kernels_of_our_own_train_as_libtorch_does() {
    let (pairs, examples) = (dpo_records(), sft_records());
    for (model, data) in [
        ("dpo-model", TrainData::Preference { data: &pairs, optimizer: &DPO }),
        ("sft-model", TrainData::Sft(&examples)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let watch = Steps::default();
        let options =
            TrainerOptions { device: DeviceChoice::Cpu, kernels: false, threads: 2, ..TrainerOptions::default() };
        let job = job(model, folder.path(), data, in_order(24, 4, 1), settings());
        let report = TorchTrainer::new(options).train(&job, &watch).unwrap();
        let weights = tensors(&report.epochs[0].folder.join("model.safetensors"));
        let theirs = Outcome { steps: watch.metrics.into_inner().unwrap(), weights };
        agree(&train(model, data, settings()), &theirs, 2e-6);
    }
}
