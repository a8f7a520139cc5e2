//! AdamW against `torch.optim.AdamW`, against itself in other forms and ranges, and against arithmetic in f64.

use metareward_api::{GradientSum, LearningRateSchedule};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::train::{
    parameters::{Flat, clip_factor, gradient_norm, squared_norm},
    schedule::learning_rate,
};

const WEIGHTS: [WeightUpdates; 4] =
    [WeightUpdates::Masters, WeightUpdates::Compensated, WeightUpdates::Stochastic, WeightUpdates::Nearest];
const STATES: [OptimizerState; 3] = [OptimizerState::F32, OptimizerState::Bf16, OptimizerState::EightBit];

/// Our own kernels on one thread and on three, and libtorch's operations.
const THREADS: [Option<usize>; 3] = [Some(1), Some(3), None];

fn settings(weights: WeightUpdates, optimizer_state: OptimizerState) -> TrainSettings {
    TrainSettings {
        learning_rate: 1e-3,
        lr_schedule: LearningRateSchedule::Constant,
        warmup_steps: 0,
        schedule_steps: 0,
        weight_decay: 0.1,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        max_grad_norm: 0.0,
        max_length: 0,
        micro_batch_tokens: 0,
        activation_checkpointing: false,
        lora: None,
        save_steps: 0,
        weights,
        optimizer_state,
        gradients: GradientSum::F32,
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap() as f32],
    }
}

fn put(flat: &Flat, slot: usize, values: &Value) {
    let view = &flat.views[slot];
    view.shallow_clone().copy_(&Tensor::from_slice(&numbers(values)).view(view.size().as_slice()));
}

fn close(view: &Tensor, expected: &Value) {
    let found = Vec::<f32>::try_from(view.contiguous().view(-1)).unwrap();
    for (found, expected) in found.iter().zip(numbers(expected)) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

/// Twelve steps of `torch.optim.AdamW` with `clip_grad_norm_` and transformers' schedules.
#[test]
fn equals_torch_with_clipping_and_schedules() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/train/optimizer.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let number = |name: &str| fixture[name].as_f64().unwrap();
    let mut clipped = 0;
    for (run, threads) in
        fixture["runs"].as_array().unwrap().iter().flat_map(|run| THREADS.map(|threads| (run, threads)))
    {
        let settings = TrainSettings {
            learning_rate: number("learning_rate"),
            lr_schedule: serde_json::from_value::<LearningRateSchedule>(run["schedule"].clone()).unwrap(),
            warmup_steps: run["warmup"].as_u64().unwrap() as u32,
            schedule_steps: run["total"].as_u64().unwrap() as u32,
            weight_decay: number("weight_decay"),
            adam_beta1: fixture["betas"][0].as_f64().unwrap(),
            adam_beta2: fixture["betas"][1].as_f64().unwrap(),
            adam_epsilon: number("epsilon"),
            max_grad_norm: number("clip"),
            ..settings(WeightUpdates::Masters, OptimizerState::F32)
        };
        let layout = Layout::new([("vector".to_owned(), vec![5]), ("matrix".to_owned(), vec![3, 4])]);
        assert_eq!(layout.slots()[0].name, "matrix");
        let mut weights = layout.zeros(Device::Cpu).unwrap();
        put(&weights, 0, &run["start"][0]);
        put(&weights, 1, &run["start"][1]);
        let mut adamw = AdamW::new(&settings, &layout, 0..layout.length(), &weights.all, 0, threads).unwrap();
        for (index, step) in run["steps"].as_array().unwrap().iter().enumerate() {
            let mut gradient = layout.zeros(Device::Cpu).unwrap();
            put(&gradient, 0, &step["gradients"][0]);
            put(&gradient, 1, &step["gradients"][1]);
            let norm = gradient_norm(&gradient).unwrap();
            assert!((norm - step["norm"].as_f64().unwrap()).abs() < 1e-5);
            assert!((squared_norm(&gradient.all).unwrap().sqrt() - norm).abs() < 1e-5);
            clipped += usize::from(norm > settings.max_grad_norm);
            let clip = clip_factor(norm, settings.max_grad_norm);
            let rate = learning_rate(&settings, index as u32 + 1);
            assert!((rate - step["rate"].as_f64().unwrap()).abs() < 1e-15, "step {index}");
            adamw.step(&mut weights.all, &mut gradient.all, clip, rate, &settings).unwrap();
            close(&weights.views[0], &step["matrix"]);
            close(&weights.views[1], &step["vector"]);
        }
    }
    assert!(clipped > 30, "the fixture clips in {clipped} steps");
}

/// A matrix and a vector of some thousand elements: two chunks of our own kernels, and a block of the 8-bit code that is
/// not full.
fn layout() -> Layout {
    Layout::new([("vector".to_owned(), vec![333]), ("matrix".to_owned(), vec![57, 31])])
}

/// Numbers of the size of weights and gradients, decided by `seed`.
fn noise(seed: u64, length: i64, size: f64) -> Tensor {
    let values: Vec<f32> = (0..length as u64)
        .map(|index| {
            let mut x = (seed << 32 ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((((x >> 40) as f64) / (1u64 << 23) as f64 - 1.0) * size) as f32
        })
        .collect();
    Tensor::from_slice(&values)
}

/// A tensor's bytes.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// The one range of an optimizer that has all elements.
fn all() -> Vec<Range<i64>> {
    std::iter::once(0..layout().length()).collect()
}

/// Weights and state after some steps, by name, of an optimizer for every range.
fn train(
    settings: &TrainSettings,
    kind: Kind,
    sums: Kind,
    ranges: &[Range<i64>],
    threads: Option<usize>,
    steps: u64,
) -> Vec<(&'static str, Vec<u8>)> {
    let layout = layout();
    let start = noise(1, layout.length(), 0.05).to_kind(kind);
    let mut joined: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for range in ranges {
        let mut weights = start.narrow(0, range.start, range.end - range.start);
        let mut adamw = AdamW::new(settings, &layout, range.clone(), &weights, 11, threads).unwrap();
        for step in 0..steps {
            let gradient = noise(2 + step, layout.length(), 1e-3).to_kind(sums);
            let mut gradient = gradient.narrow(0, range.start, range.end - range.start);
            adamw.step(&mut weights, &mut gradient, 0.5, 1e-3, settings).unwrap();
        }
        let state = adamw.state(&weights).into_iter().chain([("read", weights)]);
        for (index, (name, tensor)) in state.enumerate() {
            match joined.get_mut(index) {
                Some((known, found)) => {
                    assert_eq!(*known, name);
                    found.extend(bytes(&tensor));
                }
                None => joined.push((name, bytes(&tensor))),
            }
        }
    }
    joined
}

fn forms() -> impl Iterator<Item = (TrainSettings, Kind, Kind)> {
    let all = WEIGHTS.into_iter().flat_map(|weights| STATES.map(|state| settings(weights, state)));
    all.flat_map(|settings| {
        let single = (settings.weights == WeightUpdates::Masters).then(|| (settings.clone(), Kind::Float, Kind::Float));
        let half = [Kind::Float, Kind::BFloat16].map(|sums| (settings.clone(), Kind::BFloat16, sums));
        single.into_iter().chain(half)
    })
}

#[test]
fn the_shares_of_a_group_are_the_whole_to_the_last_bit() {
    let length = layout().length();
    for (settings, kind, sums) in forms() {
        for threads in THREADS {
            let whole = train(&settings, kind, sums, &all(), threads, 3);
            for cuts in [vec![256], vec![512, 1792], vec![0, 768]] {
                let starts = [vec![0], cuts.clone()].concat();
                let ends = [cuts, vec![length]].concat();
                let ranges: Vec<Range<i64>> = starts.into_iter().zip(ends).map(|(start, end)| start..end).collect();
                let parts = train(&settings, kind, sums, &ranges, threads, 3);
                assert!(whole == parts, "{settings:?} {kind:?} {sums:?} {threads:?} {ranges:?}");
            }
        }
        let one = train(&settings, kind, sums, &all(), Some(1), 3);
        assert!(one == train(&settings, kind, sums, &all(), Some(3), 3), "{settings:?}");
    }
    let refused = AdamW::new(
        &settings(WeightUpdates::Masters, OptimizerState::F32),
        &layout(),
        16..272,
        &Tensor::zeros([256], (Kind::Float, Device::Cpu)),
        0,
        None,
    );
    assert!(refused.is_err());
}

/// State written out and read back, in every form, gives the steps that follow to the last bit.
#[test]
fn a_state_that_was_loaded_goes_on_as_it_would_have() {
    let layout = layout();
    for (settings, kind, sums) in forms() {
        for threads in [Some(2), None] {
            let step = |adamw: &mut AdamW, weights: &mut Tensor, step: u64| {
                let mut gradient = noise(50 + step, layout.length(), 1e-3).to_kind(sums);
                adamw.step(weights, &mut gradient, 1.0, 1e-3, &settings).unwrap();
            };
            let new =
                |weights: &Tensor| AdamW::new(&settings, &layout, 0..layout.length(), weights, 5, threads).unwrap();
            let mut weights = noise(3, layout.length(), 0.05).to_kind(kind);
            let mut adamw = new(&weights);
            (0..3).for_each(|index| step(&mut adamw, &mut weights, index));
            let mut other = Tensor::zeros([layout.length()], (kind, Device::Cpu));
            let mut again = new(&other);
            for ((name, mut to), (from, saved)) in again.state(&other).into_iter().zip(adamw.state(&weights)) {
                assert_eq!(name, from);
                to.copy_(&saved);
            }
            again.loaded(&mut other, adamw.steps).unwrap();
            (3..5).for_each(|index| step(&mut adamw, &mut weights, index));
            (3..5).for_each(|index| step(&mut again, &mut other, index));
            assert!(bytes(&weights) == bytes(&other), "{settings:?} {kind:?} {threads:?}");
            for ((_, a), (_, b)) in adamw.state(&weights).iter().zip(again.state(&other)) {
                assert!(bytes(a) == bytes(&b), "{settings:?} {kind:?} {threads:?}");
            }
        }
    }
}

fn part<'a>(state: &'a [(&'static str, Vec<u8>)], name: &str) -> &'a [u8] {
    &state.iter().find(|(found, _)| *found == name).unwrap().1
}

/// bf16 weights and their remainders are the f32 masters, bit for bit.
#[test]
fn compensated_weights_are_the_masters() {
    for state in STATES {
        for threads in THREADS {
            let run = |weights| train(&settings(weights, state), Kind::BFloat16, Kind::Float, &all(), threads, 20);
            let (masters, compensated) = (run(WeightUpdates::Masters), run(WeightUpdates::Compensated));
            let upper = part(&compensated, "weights").chunks_exact(2);
            let rests = part(&compensated, "remainders").chunks_exact(2);
            let masters = part(&masters, "weights").chunks_exact(4);
            for ((upper, rest), master) in upper.zip(rests).zip(masters) {
                let upper = u16::from_le_bytes(upper.try_into().unwrap());
                let rest = i16::from_le_bytes(rest.try_into().unwrap());
                let master = f32::from_le_bytes(master.try_into().unwrap());
                let found = crate::train::rounding::together(upper, rest);
                assert_eq!(found.to_bits(), master.to_bits(), "{state:?} {threads:?}");
            }
        }
    }
}

/// libtorch's fused kernel and ours: the arithmetic of one step is some ten roundings in f32, and a number that is rounded
/// after that can go to the neighbour of where the other's goes.
#[test]
fn our_kernels_and_libtorchs_agree() {
    for (settings, kind, sums) in forms() {
        let ours = train(&settings, kind, sums, &all(), Some(2), 1);
        let theirs = train(&settings, kind, sums, &all(), None, 1);
        let floats = |bytes: &[u8]| -> Vec<f32> {
            match kind {
                Kind::Float => bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect(),
                _ => bytes
                    .chunks_exact(2)
                    .map(|two| f32::from_bits(u32::from(two[1]) << 24 | u32::from(two[0]) << 16))
                    .collect(),
            }
        };
        let (ours_read, theirs_read) = (floats(part(&ours, "read")), floats(part(&theirs, "read")));
        for (a, b) in ours_read.iter().zip(&theirs_read) {
            // A weight is rounded twice on each side, and a step of 0.001 some ten times; or they are neighbours in bf16.
            let limit = match kind {
                Kind::Float => (4.0 * a.abs() + 20.0 * 1e-3) / (1 << 24) as f32,
                _ => a.abs().max(1e-2) / 128.0,
            };
            assert!((a - b).abs() <= limit, "{settings:?} {kind:?}: {a} {b}");
        }
        if settings.optimizer_state == OptimizerState::EightBit {
            let codes = part(&ours, "exp_avg").iter().zip(part(&theirs, "exp_avg"));
            assert!(codes.clone().all(|(a, b)| a.abs_diff(*b) <= 1), "{settings:?}");
            assert!(codes.filter(|(a, b)| a != b).count() < 20, "{settings:?}");
        }
    }
}

/// Weights of 1 that should move by the learning rate every step. Neighbours of 1 in bf16 are 2⁻⁷ above and 2⁻⁸ below, so
/// plain rounding never moves them. 4096 of them make the mean of random rounding exact enough: each has moved by a whole
/// number of 2⁻⁸, their mean has a standard deviation of at most √(m·2⁻⁸/4096) at a movement of m, and the limit is five.
#[test]
fn small_learning_rates_are_not_lost() {
    for (rate, steps) in [(5e-6, 400), (1e-6, 400)] {
        for state in STATES {
            for threads in [Some(2), None] {
                for weights in WEIGHTS {
                    let settings = TrainSettings { weight_decay: 0.0, ..settings(weights, state) };
                    let layout = Layout::new([("matrix".to_owned(), vec![64, 64])]);
                    let mut flat = Tensor::ones([4096], (Kind::BFloat16, Device::Cpu));
                    let mut gradient = Tensor::ones([4096], (Kind::Float, Device::Cpu));
                    let mut adamw = AdamW::new(&settings, &layout, 0..4096, &flat, 3, threads).unwrap();
                    for _ in 0..steps {
                        adamw.step(&mut flat, &mut gradient, 1.0, rate, &settings).unwrap();
                    }
                    let all = adamw.state(&flat);
                    let mean = match weights {
                        WeightUpdates::Compensated => {
                            together_all(&all[0].1, &all[1].1).unwrap().mean(Kind::Double).double_value(&[])
                        }
                        _ => all[0].1.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]),
                    };
                    let (moved, expected) = (1.0 - mean, rate * f64::from(steps));
                    let limit = match weights {
                        // A step is 2⁻²⁴ off at most, at the size of 1; a moment rounded at random by less than 1 %.
                        WeightUpdates::Masters | WeightUpdates::Compensated => {
                            f64::from(steps) * 6e-8 + if state == OptimizerState::F32 { 0.0 } else { 0.01 * expected }
                        }
                        WeightUpdates::Stochastic => 5.0 * (expected / 256.0 / 4096.0).sqrt() + 0.01 * expected,
                        WeightUpdates::Nearest => {
                            assert_eq!(moved, 0.0, "plain rounding moved: the test shows nothing");
                            continue;
                        }
                    };
                    assert!((moved - expected).abs() < limit, "{weights:?} {state:?} {rate}: {moved} of {expected}");
                }
            }
        }
    }
}

/// A gradient that fades to a tenth: in bf16 the second moment follows as in f32, because it is rounded at random. To the
/// nearest it would stay where it was; 8 bits follow since a block's scale does.
#[test]
fn moments_in_few_bits_follow_those_in_f32() {
    let layout = Layout::new([("matrix".to_owned(), vec![16, 64])]);
    let run = |state| {
        let settings = settings(WeightUpdates::Masters, state);
        let mut weights = Tensor::zeros([1024], (Kind::Float, Device::Cpu));
        let mut adamw = AdamW::new(&settings, &layout, 0..1024, &weights, 9, Some(1)).unwrap();
        for step in 0..1500 {
            let size = if step < 500 { 1e-3 } else { 1e-4 };
            adamw.step(&mut weights, &mut noise(step, 1024, size), 1.0, 0.0, &settings).unwrap();
        }
        adamw.square.open(0, 1024).unwrap()
    };
    let exact = run(OptimizerState::F32);
    for (state, low, high) in [(OptimizerState::Bf16, 0.99, 1.01), (OptimizerState::EightBit, 0.85, 1.15)] {
        let ratio = (run(state) / &exact).mean(Kind::Double).double_value(&[]);
        println!("{state:?}: the second moment is {ratio:.4} of what it is in f32");
        assert!((low..high).contains(&ratio), "{state:?}: {ratio}");
    }
}

/// The direction in which the weights move with moments in few bits, against that with f32 ones.
#[test]
fn few_bits_move_the_weights_alike() {
    let layout = Layout::new([("matrix".to_owned(), vec![64, 64])]);
    let scales = (noise(77, 4096, 4.0)).exp();
    let drift = noise(78, 4096, 0.3);
    let run = |state| {
        let settings = TrainSettings { weight_decay: 0.0, ..settings(WeightUpdates::Masters, state) };
        let mut weights = Tensor::zeros([4096], (Kind::Float, Device::Cpu));
        let mut adamw = AdamW::new(&settings, &layout, 0..4096, &weights, 9, Some(1)).unwrap();
        for step in 0..300 {
            let mut gradient = (noise(step, 4096, 1.0) + &drift) * &scales * 1e-5;
            adamw.step(&mut weights, &mut gradient, 1.0, 1e-5, &settings).unwrap();
        }
        weights
    };
    let exact = run(OptimizerState::F32);
    for (state, limit) in [(OptimizerState::Bf16, 0.9999), (OptimizerState::EightBit, 0.98)] {
        let moved = run(state);
        let product = |a: &Tensor, b: &Tensor| a.dot(b).double_value(&[]);
        let cosine = product(&moved, &exact) / (product(&moved, &moved) * product(&exact, &exact)).sqrt();
        println!("{state:?}: cosine {cosine:.5}");
        assert!(cosine > limit, "{state:?}: {cosine}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A thousand small updates of compensated weights against the same in f64. An update is computed in f32, some ten
    /// roundings of a number of the size of the rate; adding it to a weight below 2 rounds to 2⁻²⁴.
    #[test]
    fn compensated_sums_follow_f64(start in -2.0f64..2.0, rate in 1e-7f64..1e-5, slope in -3.0f64..3.0) {
        prop_assume!(slope.abs() > 1e-3);
        let settings = TrainSettings { weight_decay: 0.0, ..settings(WeightUpdates::Compensated, OptimizerState::F32) };
        let layout = Layout::new([("matrix".to_owned(), vec![4, 4])]);
        let mut weights = Tensor::full([16], start, (Kind::BFloat16, Device::Cpu));
        let start = weights.to_kind(Kind::Double).double_value(&[0]);
        let mut adamw = AdamW::new(&settings, &layout, 0..16, &weights, 0, Some(1)).unwrap();
        let (mut exact, mut mean, mut square) = (start, 0.0, 0.0);
        let steps = 1000;
        for step in 1..=steps {
            let slope = slope * (1.0 + 0.5 * f64::from(step).sin());
            let mut gradient = Tensor::full([16], slope, (Kind::Float, Device::Cpu));
            adamw.step(&mut weights, &mut gradient, 1.0, rate, &settings).unwrap();
            let (beta1, beta2) = (settings.adam_beta1, settings.adam_beta2);
            mean = beta1 * mean + (1.0 - beta1) * slope;
            square = beta2 * square + (1.0 - beta2) * slope * slope;
            let root = (square / (1.0 - beta2.powi(step))).sqrt() + settings.adam_epsilon;
            exact -= rate * mean / (1.0 - beta1.powi(step)) / root;
        }
        let state = adamw.state(&weights);
        let found = together_all(&state[0].1, &state[1].1).unwrap().to_kind(Kind::Double).double_value(&[0]);
        let unit = 1.0 / f64::from(1 << 24);
        // 1 − β₂ in f32 is off by 2⁻¹¹ of a thousandth … relative to the moment 3e-5 at most, and half of that to its root.
        let limit = f64::from(steps) * (unit * 2.0 + rate * (20.0 * unit + 2e-5));
        prop_assert!((found - exact).abs() < limit, "{found} {exact}: {} of {limit}", (found - exact).abs());
    }
}
