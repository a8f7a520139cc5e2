//! The gradient's norm, clipping and AdamW in one pass each over flat memory on the CPU.

use tch::{Device, Kind, Tensor};

use crate::{
    error::{Result, TorchError},
    generate::simd::{Level, Vector, multiversion},
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
    /// Elements that decay.
    pub decayed: usize,
    /// Learning rate / (1 − β₁ᵗ).
    pub rate: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub correction: f32,
    /// ε.
    pub epsilon: f32,
}

/// The floats of a flat tensor.
///
/// # Errors
/// When it is not contiguous f32 on the CPU.
fn floats(tensor: &mut Tensor) -> Result<&mut [f32]> {
    if tensor.device() != Device::Cpu || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
        return Err(TorchError::Machine("flat memory is not f32 on the CPU: this is a bug".to_owned()));
    }
    // SAFETY: the tensor is contiguous and holds that many floats; the borrow is exclusive, and no worker computes.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) })
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
    let values = floats(gradient)?;
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

/// One step of AdamW on flat tensors, all of one length.
///
/// # Errors
/// When one is not f32 on the CPU.
pub(crate) fn update(
    constants: Update,
    weights: &mut Tensor,
    mean: &mut Tensor,
    square: &mut Tensor,
    gradient: &mut Tensor,
    threads: usize,
) -> Result<()> {
    let level = Level::detect();
    let (weights, mean) = (floats(weights)?, floats(mean)?);
    let (square, gradient) = (floats(square)?, &*floats(gradient)?);
    // Pieces of a size that starting a thread is worth; both parts, with decay and without, are cut alike.
    let piece = weights.len().div_ceil(threads.max(1)).next_multiple_of(16).max(1 << 16);
    let cut = constants.decayed.min(weights.len());
    let mut jobs = Vec::new();
    let (weights, mean, square) = (weights.split_at_mut(cut), mean.split_at_mut(cut), square.split_at_mut(cut));
    let gradient = gradient.split_at(cut);
    for (weights, mean, square, gradient, decay) in
        [(weights.0, mean.0, square.0, gradient.0, constants.decay), (weights.1, mean.1, square.1, gradient.1, 1.0)]
    {
        let parts = weights.chunks_mut(piece).zip(mean.chunks_mut(piece));
        let parts = parts.zip(square.chunks_mut(piece)).zip(gradient.chunks(piece));
        jobs.extend(parts.map(|(((weights, mean), square), gradient)| (weights, mean, square, gradient, decay)));
    }
    std::thread::scope(|scope| {
        let own = jobs.pop();
        let mut jobs = jobs.into_iter();
        if threads > 1 {
            for (weights, mean, square, gradient, decay) in jobs.by_ref() {
                scope.spawn(move || adamw(level, constants, weights, mean, square, gradient, decay));
            }
        }
        for (weights, mean, square, gradient, decay) in jobs.chain(own) {
            adamw(level, constants, weights, mean, square, gradient, decay);
        }
    });
    Ok(())
}
