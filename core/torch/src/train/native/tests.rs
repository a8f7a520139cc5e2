//! Our own kernels against libtorch's autograd, tensor by tensor, on every architecture and variant.

use std::{collections::BTreeMap, path::Path};

use metareward_api::{
    GradientSum, LearningRateSchedule, Optimizer, OptimizerState, PairLogProbs, Plugin, PluginError, PluginInfo,
    PreferenceLoss, TrainSettings, WeightUpdates,
};
use tch::{Device, Kind};

use super::*;
use crate::{
    Precision,
    train::{step::Team, trainable::Trainable, worker::Worker},
};

const MODELS: [&str; 5] = ["llama-tied-llama3rope", "llama-untied", "mistral-window", "qwen2-biases", "qwen3-norms"];

fn load(name: &str) -> CausalLm {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name);
    CausalLm::load(&folder, Device::Cpu, Precision::F32).unwrap()
}

fn settings() -> TrainSettings {
    TrainSettings {
        learning_rate: 1e-3,
        lr_schedule: LearningRateSchedule::Constant,
        warmup_steps: 0,
        schedule_steps: 1,
        weight_decay: 0.0,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        max_grad_norm: 1.0,
        max_length: 512,
        micro_batch_tokens: 512,
        activation_checkpointing: false,
        lora: None,
        save_steps: 0,
        weights: WeightUpdates::default(),
        optimizer_state: OptimizerState::default(),
        gradients: GradientSum::default(),
    }
}

/// IPO-like: a loss whose gradient differs from pair to pair.
struct Squares;

impl Plugin for Squares {
    fn info(&self) -> PluginInfo {
        let (name, version, summary) = ("squares".to_owned(), "0.0.0".to_owned(), String::new());
        PluginInfo { kind: metareward_api::Kind::Optimizer, name, version, summary }
    }
}

impl Optimizer for Squares {
    fn needs_reference(&self) -> std::result::Result<bool, PluginError> {
        Ok(false)
    }

    fn loss_at_start(&self) -> std::result::Result<Option<f64>, PluginError> {
        Ok(None)
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> std::result::Result<PreferenceLoss, PluginError> {
        let off: Vec<f64> = pairs.iter().map(|pair| pair.policy_chosen - 0.5 * pair.policy_rejected - 1.0).collect();
        Ok(PreferenceLoss {
            losses: off.iter().map(|off| 0.05 * off * off).collect(),
            chosen_gradient: off.iter().map(|off| 0.1 * off).collect(),
            rejected_gradient: off.iter().map(|off| -0.05 * off).collect(),
            chosen_rewards: off.clone(),
            rejected_rewards: vec![0.0; off.len()],
            metrics: BTreeMap::new(),
        })
    }
}

/// Pairs of which some share their prompt, and some more than that; one text goes through several blocks of attention.
fn units() -> Vec<Unit> {
    let text = |seed: i64, length: i64| -> Vec<i64> { (0..length).map(|i| 6 + (i * i * seed + i) % 110).collect() };
    let pair = |id: usize, prompt: &[i64], chosen: Vec<i64>, rejected: Vec<i64>| Unit {
        id: format!("pair {id}"),
        sequences: [chosen, rejected].iter().map(|end| Sequence::new(prompt, end, 200, "r").unwrap()).collect(),
        reference: [-3.0, -4.0],
        weight: 1.0,
    };
    let (long, short) = (text(3, 67), text(5, 4));
    vec![
        pair(0, &long, text(7, 9), text(11, 70)),
        pair(1, &short, text(13, 3), text(13, 8)),
        pair(2, &long, [text(7, 5), text(2, 3)].concat(), text(17, 1)),
        pair(3, &long[..40], text(19, 6), text(23, 30)),
        pair(4, &short[..1], text(29, 2), text(31, 5)),
    ]
}

/// Gradient of a step and its sums, with our own kernels or libtorch's.
fn gradient(
    model: &str,
    objective: Objective<'_>,
    batches: &[Vec<usize>],
    native: bool,
    checkpointing: bool,
    threads: usize,
) -> (Vec<(String, Vec<f32>)>, Sums) {
    let trainable = Trainable::new(load(model), &settings(), "test").unwrap();
    let workers: Vec<Worker> = (0..threads).map(|_| trainable.worker(checkpointing, native, 0).unwrap()).collect();
    let mut gradient = trainable.layout.zeros(Device::Cpu).unwrap();
    let units = units();
    let batches: Vec<Vec<&Unit>> =
        batches.iter().map(|batch| batch.iter().map(|&unit| &units[unit]).collect()).collect();
    let mut team = Team::new(workers, 1);
    let sums = team.gradients(&batches, objective, &trainable.layout, &mut gradient, &|| false);
    let Ok(sums) = sums else { panic!("no gradient") };
    let slots = trainable.layout.slots().iter().zip(&gradient.views);
    let values = slots.map(|(slot, view)| {
        (slot.name.clone(), Vec::<f32>::try_from(view.to_kind(Kind::Float).contiguous().view(-1)).unwrap())
    });
    (values.collect(), sums)
}

fn objectives(tokens: usize) -> [Objective<'static>; 2] {
    [Objective::Sft { tokens }, Objective::Preference { pairs: 5, optimizer: &Squares }]
}

fn size(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// Largest difference of a tensor's gradient, relative to the tensor's gradient.
fn farthest(ours: &[(String, Vec<f32>)], theirs: &[(String, Vec<f32>)]) -> (f64, String) {
    let mut farthest = (0.0, String::new());
    assert_eq!(ours.len(), theirs.len());
    // A key's bias does not change a softmax: its gradient is rounding, and compared with the largest one.
    let whole = size(theirs.iter().flat_map(|(_, values)| values).map(|value| f64::from(*value)));
    for ((name, ours), (_, theirs)) in ours.iter().zip(theirs) {
        let off = size(ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let reference = size(theirs.iter().map(|value| f64::from(*value)));
        let reference = if name.ends_with("k_proj.bias") { whole } else { reference };
        assert!(reference > 0.0, "{name} has no gradient");
        if off / reference > farthest.0 {
            farthest = (off / reference, name.clone());
        }
    }
    farthest
}

/// Difference of all gradients together, relative to them.
fn whole(ours: &[(String, Vec<f32>)], theirs: &[(String, Vec<f32>)]) -> f64 {
    let all = |of: &[(String, Vec<f32>)]| of.iter().flat_map(|(_, values)| values.clone()).collect::<Vec<f32>>();
    let (ours, theirs) = (all(ours), all(theirs));
    let off = size(ours.iter().zip(&theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / size(theirs.iter().map(|value| f64::from(*value)))
}

#[test]
fn gradients_are_libtorchs() {
    for model in MODELS {
        for objective in objectives(134) {
            let theirs = gradient(model, objective, &[vec![0, 1, 2, 3, 4]], false, false, 1);
            for (batches, checkpointing) in [
                (vec![vec![0, 1, 2, 3, 4]], false),
                (vec![vec![4, 2], vec![1], vec![0, 3]], false),
                (vec![vec![0, 1, 2], vec![3, 4]], true),
            ] {
                let ours = gradient(model, objective, &batches, true, checkpointing, 2);
                let (off, name) = farthest(&ours.0, &theirs.0);
                let whole = whole(&ours.0, &theirs.0);
                println!("{model}: gradients differ by {whole:.1e} in all, and by {off:.1e} of {name}");
                assert!(whole < 5e-6 && off < 1e-5, "{model}: {whole:e} in all, {name} {off:e}");
                assert!((ours.1.loss - theirs.1.loss).abs() < 1e-5 * theirs.1.loss.abs());
                assert_eq!((ours.1.tokens, ours.1.pairs), (theirs.1.tokens, theirs.1.pairs));
            }
        }
    }
}

#[test]
fn checkpoints_and_threads_do_not_change_a_bit() {
    for model in ["llama-untied", "qwen3-norms"] {
        for objective in objectives(134) {
            let batches = vec![vec![4, 2], vec![1], vec![0], vec![3]];
            let expected = gradient(model, objective, &batches, true, false, 1).0;
            for (checkpointing, threads) in [(true, 1), (false, 2), (true, 3), (false, 4)] {
                let other = gradient(model, objective, &batches, true, checkpointing, threads).0;
                assert!(expected == other, "{model}: checkpointing {checkpointing}, {threads} threads");
            }
        }
    }
}

/// Sequences measured alone, together, and as libtorch measures them.
#[test]
fn log_probabilities_are_libtorchs_and_do_not_depend_on_company() {
    let units = units();
    let all: Vec<&Unit> = units.iter().collect();
    for name in MODELS {
        let model = load(name);
        let mut worker = NativeWorker::new(&model, &Layout::empty(), false, 0).unwrap();
        let together = worker.log_probs(&all).unwrap();
        let alone: Vec<f64> = all.iter().flat_map(|unit| worker.log_probs(&[unit]).unwrap()).collect();
        assert_eq!(together, alone, "{name}");
        let sequences: Vec<&Sequence> = all.iter().flat_map(|unit| &unit.sequences).collect();
        for (sequence, ours) in sequences.iter().zip(&together) {
            let (prompt, completion) = sequence.tokens.split_at(sequence.prompt);
            let theirs: f64 = crate::logprobs::token_logprobs(&model, prompt, completion).unwrap().iter().sum();
            assert!((ours - theirs).abs() < 1e-4, "{name}: {ours} {theirs}");
        }
    }
}
