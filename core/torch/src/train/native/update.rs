//! The gradient's norm, clipping and AdamW in one pass each over flat memory on the CPU.

use tch::{Device, Kind, Tensor};

use super::elements::Elements;
use crate::{
    error::{Result, TorchError},
    generate::simd::{Level, Vector, multiversion},
    train::{
        eight_bit,
        rounding::{self, Draws, Use},
    },
};

/// Elements whose squares are summed up in f32 before they are added up in f64.
const BLOCK: usize = 4096;

/// The constants of one AdamW step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    /// What the gradient is multiplied by: clipping.
    pub clip: f32,
    /// 1 − β₁.
    pub rest1: f32,
    /// β₂.
    pub beta2: f32,
    /// 1 − β₂.
    pub rest2: f32,
    /// 1 − learning rate · weight decay, for the leading elements.
    pub decay: f32,
    /// Elements at the front of the layout that decay.
    pub decayed: usize,
    /// Learning rate / (1 − β₁ᵗ).
    pub rate: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub correction: f32,
    /// ε.
    pub epsilon: f32,
}

/// The numbers of a flat tensor of number format `kind`.
///
/// # Errors
/// When the tensor is another, not contiguous or not on the CPU.
pub(crate) fn elements_of<T: Number>(tensor: &mut Tensor, kind: Kind) -> Result<&mut [T]> {
    if tensor.device() != Device::Cpu || tensor.kind() != kind || !tensor.is_contiguous() || !T::KINDS.contains(&kind) {
        return Err(TorchError::Machine(format!("flat memory is not {kind:?} on the CPU: this is a bug")));
    }
    // A share of nothing has no memory.
    if tensor.numel() == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the tensor is contiguous and holds that many numbers of T's size, of which any bits are one; the borrow is
    // exclusive, and no worker computes.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) })
}

/// What a tensor's memory can be read as: any bits are a value of it.
pub(crate) trait Number {
    /// The number formats that have its size.
    const KINDS: &'static [Kind];
}

impl Number for f32 {
    const KINDS: &'static [Kind] = &[Kind::Float];
}

impl Number for u16 {
    const KINDS: &'static [Kind] = &[Kind::BFloat16];
}

impl Number for i16 {
    const KINDS: &'static [Kind] = &[Kind::Int16];
}

impl Number for u8 {
    const KINDS: &'static [Kind] = &[Kind::Uint8];
}

#[inline(always)]
unsafe fn squares_body<V: Vector>(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let mut lanes = [0.0f32; 16];
        let mut chunks = block.chunks_exact(16);
        for chunk in &mut chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = x.mul_add(*x, *lane);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = x.mul_add(*x, *lane);
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
}
multiversion! {
    fn squares(values: &[f32]) -> f64 = squares_body
}

#[inline(always)]
unsafe fn adamw_body<V: Vector>(
    update: Update,
    weights: &mut [f32],
    mean: &mut [f32],
    square: &mut [f32],
    gradient: &[f32],
    decay: f32,
) {
    let Update { clip, rest1, beta2, rest2, rate, correction, epsilon, .. } = update;
    for (((weight, mean), square), gradient) in weights.iter_mut().zip(mean).zip(square).zip(gradient) {
        let gradient = gradient * clip;
        *mean += rest1 * (gradient - *mean);
        *square = *square * beta2 + rest2 * (gradient * gradient);
        let size = square.sqrt() * correction + epsilon;
        *weight = *weight * decay - rate * (*mean / size);
    }
}
multiversion! {
    fn adamw(
        update: Update,
        weights: &mut [f32],
        mean: &mut [f32],
        square: &mut [f32],
        gradient: &[f32],
        decay: f32,
    ) = adamw_body
}

/// The Euclidean norm of a flat gradient. Its bits do not depend on `threads`.
///
/// # Errors
/// When it is not f32 on the CPU.
pub(crate) fn gradient_norm(gradient: &mut Tensor, threads: usize) -> Result<f64> {
    let level = Level::detect();
    let values: &[f32] = elements_of(gradient, Kind::Float)?;
    let parts: Vec<&[f32]> = values.chunks(256 * BLOCK).collect();
    let mut sums = vec![0.0; parts.len()];
    let each = parts.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let mut jobs: Vec<_> = parts.chunks(each).zip(sums.chunks_mut(each)).collect();
        let own = jobs.pop();
        let work = |(parts, sums): (&[&[f32]], &mut [f64])| {
            for (part, sum) in parts.iter().zip(sums) {
                *sum = squares(level, part);
            }
        };
        for job in jobs {
            scope.spawn(move || work(job));
        }
        if let Some(job) = own {
            work(job);
        }
    });
    Ok(sums.iter().sum::<f64>().sqrt())
}

#[inline(always)]
unsafe fn fill_body<V: Vector>(draws: &mut [u32], keys: [u32; 2], start: u32) {
    for (index, draw) in draws.iter_mut().enumerate() {
        *draw = rounding::draw(keys, start.wrapping_add(index as u32));
    }
}
multiversion! {
    fn fill(draws: &mut [u32], keys: [u32; 2], start: u32) = fill_body
}

#[inline(always)]
unsafe fn open_body<V: Vector>(elements: &mut Elements<'_>, scratch: &mut Scratch) {
    let Elements { weights, mean, square, gradient, .. } = elements;
    weights.open(&mut scratch.weights);
    mean.open(&mut scratch.mean);
    square.open(&mut scratch.square);
    gradient.open(&mut scratch.gradient);
}
multiversion! {
    fn open(elements: &mut Elements<'_>, scratch: &mut Scratch) = open_body
}

#[inline(always)]
unsafe fn close_body<V: Vector>(elements: &mut Elements<'_>, scratch: &mut Scratch) {
    elements.weights.close(&scratch.weights, &scratch.draws);
    elements.mean.close(&mut scratch.mean, &scratch.draws, Use::Mean);
    elements.square.close(&mut scratch.square, &scratch.draws, Use::Square);
}
multiversion! {
    fn close(elements: &mut Elements<'_>, scratch: &mut Scratch) = close_body
}

/// Elements updated at a time: their f32 forms and random bits stay in the first-level cache.
const CHUNK: usize = 4 * eight_bit::BLOCK;

/// A chunk's numbers, where they are not kept in f32.
struct Scratch {
    weights: [f32; CHUNK],
    mean: [f32; CHUNK],
    square: [f32; CHUNK],
    gradient: [f32; CHUNK],
    draws: [u32; CHUNK],
}

/// One step of AdamW on `elements`, on this thread.
fn work(level: Level, constants: Update, draws: Draws, mut elements: Elements<'_>) {
    let zeros = [0.0; CHUNK];
    let mut scratch = Scratch { weights: zeros, mean: zeros, square: zeros, gradient: zeros, draws: [0; CHUNK] };
    let mut left = elements.len();
    while left > 0 {
        let length = left.min(CHUNK);
        let (mut chunk, rest) = elements.split(length);
        (elements, left) = (rest, left - length);
        if chunk.drawn() {
            fill(level, &mut scratch.draws[..length], draws.keys(chunk.start as u64), chunk.start as u32);
        }
        open(level, &mut chunk, &mut scratch);
        let decayed = constants.decayed.saturating_sub(chunk.start).min(length);
        let Elements { weights, mean, square, gradient, .. } = &mut chunk;
        let (weights, mean) = (weights.opened(&mut scratch.weights), mean.opened(&mut scratch.mean));
        let (square, gradient) = (square.opened(&mut scratch.square), gradient.opened(&scratch.gradient));
        for (part, decay) in [(0..decayed, constants.decay), (decayed..length, 1.0)] {
            let (weights, mean) = (&mut weights[part.clone()], &mut mean[part.clone()]);
            adamw(level, constants, weights, mean, &mut square[part.clone()], &gradient[part], decay);
        }
        close(level, &mut chunk, &mut scratch);
    }
}

/// One step of AdamW on `elements`. Its bits depend neither on `threads` nor on how many elements are given at a time.
pub(crate) fn update(constants: Update, draws: Draws, elements: Elements<'_>, threads: usize) {
    let level = Level::detect();
    // Pieces of a size that starting a thread is worth.
    let piece = elements.len().div_ceil(threads.max(1)).max(1 << 16).next_multiple_of(CHUNK);
    std::thread::scope(|scope| {
        let mut rest = elements;
        while rest.len() > piece {
            let (first, others) = rest.split(piece);
            scope.spawn(move || work(level, constants, draws, first));
            rest = others;
        }
        work(level, constants, draws, rest);
    });
}
