//! AdamW, as `torch.optim.AdamW`, on any range of the flat layout and in several number formats.

use std::ops::Range;

use metareward_api::{OptimizerState, TrainSettings, WeightUpdates};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    eight_bit::{self, Code, DeviceCode},
    fused,
    native::{Elements, Moments, Slopes, Update, Weights, elements_of, update},
    parameters::Layout,
    rounding::{Draws, Use, apart_all, at_random_all, together_all},
};
use crate::error::{Result, TorchError};

/// Elements updated at a time by libtorch's operations: bounds the memory for f32 forms and intermediate results, some
/// eight tensors of this length. It divides 2³², which blocks therefore never cross.
const BLOCK: i64 = 1 << 22;

/// What an optimizer's range must begin at a multiple of: a block of the 8-bit code. With that, its bits and its state are
/// those of the same elements in any other range.
pub(crate) const ALIGN: i64 = eight_bit::BLOCK as i64;

/// Decoupled weight decay and bias-corrected moments (Loshchilov and Hutter 2019; Kingma and Ba 2015).
///
/// It updates the elements `range` of a layout: all of them, or the share of one process of a group. The weights and the
/// gradient are the caller's and come as flat tensors of just these elements; the moments, and what is kept beside bf16
/// weights, are the optimizer's own. Arithmetic is f32 whatever the forms, a block at a time.
pub(crate) struct AdamW {
    range: Range<i64>,
    decayed: i64,
    beside: Beside,
    mean: Moment,
    square: Moment,
    /// Updates made.
    pub steps: u32,
    seed: u64,
    /// Threads of our own kernels; `None` where libtorch's operations compute.
    threads: Option<usize>,
}

/// What is kept beside the weights that the forward pass reads.
enum Beside {
    /// Nothing: they are f32.
    Nothing,
    /// The f32 numbers that they are rounded from.
    Masters(Tensor),
    /// What rounding took, in 16-bit integers.
    Remainders(Tensor),
    /// Nothing: they are rounded at random.
    Chance,
    /// Nothing: they are rounded to the nearest, and what that takes is lost.
    Loss,
}

/// One of the two moments.
enum Moment {
    /// f32.
    Single(Tensor),
    /// bf16, rounded at random. To the nearest, an average that decays by 1/1000 a step would not decay at all: half of a
    /// unit in the last place is 1/512 to 1/256.
    Half(Tensor, Use),
    /// Codes and scales, of roots for the second moment.
    Eight { codes: Tensor, scales: Tensor, code: &'static Code, on_device: DeviceCode, roots: bool },
}

impl Moment {
    fn zeros(form: OptimizerState, length: i64, second: bool, device: Device) -> Result<Self> {
        Ok(match form {
            OptimizerState::F32 => Self::Single(Tensor::f_zeros([length], (Kind::Float, device))?),
            OptimizerState::Bf16 => {
                let what = if second { Use::Square } else { Use::Mean };
                Self::Half(Tensor::f_zeros([length], (Kind::BFloat16, device))?, what)
            }
            OptimizerState::EightBit => {
                let code = if second { Code::unsigned() } else { Code::signed() };
                let blocks = (length + ALIGN - 1) / ALIGN;
                Self::Eight {
                    codes: Tensor::f_full([length], i64::from(code.nearest(0.0)), (Kind::Uint8, device))?,
                    scales: Tensor::f_zeros([blocks], (Kind::Float, device))?,
                    code,
                    on_device: DeviceCode::new(code, device)?,
                    roots: second,
                }
            }
        })
    }

    /// The elements from `start` on in f32: a view of them, or a new tensor.
    fn open(&self, start: i64, length: i64) -> Result<Tensor> {
        match self {
            Self::Single(all) => Ok(all.f_narrow(0, start, length)?),
            Self::Half(all, _) => Ok(all.f_narrow(0, start, length)?.f_to_kind(Kind::Float)?),
            Self::Eight { codes, scales, on_device, roots, .. } => {
                let scales = scales.f_narrow(0, start / ALIGN, (length + ALIGN - 1) / ALIGN)?;
                let mut numbers = on_device.decode(&codes.f_narrow(0, start, length)?, &scales)?;
                if *roots {
                    let _ = numbers.f_square_()?;
                }
                Ok(numbers)
            }
        }
    }

    /// Keeps `numbers`, what became of [`Moment::open`]'s answer.
    fn close(&self, mut numbers: Tensor, start: i64, draws: Option<&Tensor>) -> Result<()> {
        let length = numbers.numel() as i64;
        match self {
            Self::Single(_) => {}
            Self::Half(all, what) => {
                let draws = draws.ok_or_else(bug)?;
                all.f_narrow(0, start, length)?.f_copy_(&at_random_all(&numbers, draws, *what)?)?;
            }
            Self::Eight { codes, scales, on_device, roots, .. } => {
                if *roots {
                    let _ = numbers.f_sqrt_()?;
                }
                let (found, scale) = on_device.encode(&numbers)?;
                codes.f_narrow(0, start, length)?.f_copy_(&found)?;
                scales.f_narrow(0, start / ALIGN, scale.numel() as i64)?.f_copy_(&scale)?;
            }
        }
        Ok(())
    }

    fn slices(&mut self) -> Result<Moments<'_>> {
        Ok(match self {
            Self::Single(all) => Moments::Single(elements_of(all, Kind::Float)?),
            Self::Half(all, _) => Moments::Half(elements_of(all, Kind::BFloat16)?),
            Self::Eight { codes, scales, code, roots, .. } => {
                Moments::Eight(elements_of(codes, Kind::Uint8)?, elements_of(scales, Kind::Float)?, code, *roots)
            }
        })
    }

    fn tensors(&self, names: [&'static str; 2]) -> Vec<(&'static str, Tensor)> {
        match self {
            Self::Single(all) | Self::Half(all, _) => vec![(names[0], all.shallow_clone())],
            Self::Eight { codes, scales, .. } => {
                vec![(names[0], codes.shallow_clone()), (names[1], scales.shallow_clone())]
            }
        }
    }
}

fn bug() -> TorchError {
    TorchError::Machine("the optimizer's tensors do not fit together: this is a bug".to_owned())
}

impl AdamW {
    /// Zero moments for the elements `range` of `layout`, in the forms that `settings` ask for. `weights` are these
    /// elements as the forward pass reads them, f32 or bf16, flat. Random rounding is decided by `seed`. On the CPU,
    /// `threads` asks for our own kernels.
    ///
    /// # Errors
    /// When there is no memory; when `range` does not begin at a multiple of [`ALIGN`].
    pub fn new(
        settings: &TrainSettings,
        layout: &Layout,
        range: Range<i64>,
        weights: &Tensor,
        seed: u64,
        threads: Option<usize>,
    ) -> Result<Self> {
        let length = range.end - range.start;
        if range.start % ALIGN != 0 || range.end > layout.length() || weights.size() != [length] {
            return Err(bug());
        }
        let device = weights.device();
        let beside = match (weights.kind(), settings.weights) {
            (Kind::Float, _) => Beside::Nothing,
            (_, WeightUpdates::Masters) => Beside::Masters(weights.f_detach()?.f_to_kind(Kind::Float)?),
            (_, WeightUpdates::Compensated) => Beside::Remainders(Tensor::f_zeros([length], (Kind::Int16, device))?),
            (_, WeightUpdates::Stochastic) => Beside::Chance,
            (_, WeightUpdates::Nearest) => Beside::Loss,
        };
        Ok(Self {
            decayed: layout.decayed(),
            beside,
            mean: Moment::zeros(settings.optimizer_state, length, false, device)?,
            square: Moment::zeros(settings.optimizer_state, length, true, device)?,
            steps: 0,
            seed,
            threads: threads.filter(|_| device == Device::Cpu),
            range,
        })
    }

    /// One update of `weights` by `clip` times `gradient` at learning rate `rate`, with weight decay on the layout's
    /// matrices only. Both are flat and hold the elements of the range; the gradient is f32 or bf16, and is not changed.
    ///
    /// # Errors
    /// When a tensor has another length, or there is no memory for a block.
    pub fn step(
        &mut self,
        weights: &mut Tensor,
        gradient: &mut Tensor,
        clip: f64,
        rate: f64,
        settings: &TrainSettings,
    ) -> Result<()> {
        let length = self.range.end - self.range.start;
        if weights.size() != [length] || gradient.size() != [length] {
            return Err(bug());
        }
        self.steps += 1;
        match self.threads {
            Some(threads) => self.step_native(weights, gradient, clip, rate, settings, threads),
            None => no_grad(|| self.step_tensors(weights, gradient, clip, rate, settings)),
        }
    }

    fn step_native(
        &mut self,
        weights: &mut Tensor,
        gradient: &mut Tensor,
        clip: f64,
        rate: f64,
        settings: &TrainSettings,
        threads: usize,
    ) -> Result<()> {
        let (beta1, beta2) = (settings.adam_beta1, settings.adam_beta2);
        let steps = f64::from(self.steps);
        let constants = Update {
            clip: clip as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            decay: (1.0 - rate * settings.weight_decay) as f32,
            decayed: self.decayed as usize,
            rate: (rate / (1.0 - beta1.powf(steps))) as f32,
            correction: (1.0 / (1.0 - beta2.powf(steps)).sqrt()) as f32,
            epsilon: settings.adam_epsilon as f32,
        };
        let elements = Elements {
            start: self.range.start as usize,
            weights: match &mut self.beside {
                Beside::Nothing => Weights::Single(elements_of(weights, Kind::Float)?),
                Beside::Masters(masters) => {
                    Weights::Masters(elements_of(weights, Kind::BFloat16)?, elements_of(masters, Kind::Float)?)
                }
                Beside::Remainders(rests) => {
                    Weights::Compensated(elements_of(weights, Kind::BFloat16)?, elements_of(rests, Kind::Int16)?)
                }
                Beside::Chance => Weights::Stochastic(elements_of(weights, Kind::BFloat16)?),
                Beside::Loss => Weights::Nearest(elements_of(weights, Kind::BFloat16)?),
            },
            mean: self.mean.slices()?,
            square: self.square.slices()?,
            gradient: match gradient.kind() {
                Kind::BFloat16 => Slopes::Half(elements_of(gradient, Kind::BFloat16)?),
                _ => Slopes::Single(elements_of(gradient, Kind::Float)?),
            },
        };
        update(constants, Draws::new(self.seed, self.steps), elements, threads);
        Ok(())
    }

    fn step_tensors(
        &mut self,
        weights: &Tensor,
        gradient: &Tensor,
        clip: f64,
        rate: f64,
        settings: &TrainSettings,
    ) -> Result<()> {
        let device = weights.device();
        let steps = Tensor::f_full([1], f64::from(self.steps), (Kind::Float, device))?;
        let draws = Draws::new(self.seed, self.steps);
        let drawn = matches!(self.beside, Beside::Chance) || matches!(self.mean, Moment::Half(..));
        let Range { start: first, end } = self.range;
        let mut place = first;
        while place < end {
            let length = (BLOCK - place % BLOCK).min(end - place);
            let start = place - first;
            let mut slope = gradient.f_narrow(0, start, length)?.f_to_kind(Kind::Float)?;
            if clip != 1.0 {
                slope = slope.f_mul_scalar(clip)?;
            }
            let draws = if drawn { Some(draws.tensor(place, length, device)?) } else { None };
            let read = weights.f_narrow(0, start, length)?;
            let full = match &self.beside {
                Beside::Nothing => read.shallow_clone(),
                Beside::Masters(masters) => masters.f_narrow(0, start, length)?,
                Beside::Remainders(rests) => together_all(&read, &rests.f_narrow(0, start, length)?)?,
                Beside::Chance | Beside::Loss => read.f_to_kind(Kind::Float)?,
            };
            let (mean, square) = (self.mean.open(start, length)?, self.square.open(start, length)?);
            let decayed = (self.decayed - place).clamp(0, length);
            for (from, to, decay) in [(0, decayed, settings.weight_decay), (decayed, length, 0.0)] {
                if from < to {
                    let part = |tensor: &Tensor| tensor.f_narrow(0, from, to - from);
                    let (weights, gradient) = (part(&full)?, part(&slope)?);
                    let (mean, square) = (part(&mean)?, part(&square)?);
                    let block = fused::Block {
                        weights: &weights,
                        gradient: &gradient,
                        mean: &mean,
                        square: &square,
                        steps: &steps,
                    };
                    fused::step(&block, rate, decay, settings)?;
                }
            }
            self.mean.close(mean, start, draws.as_ref())?;
            self.square.close(square, start, draws.as_ref())?;
            let mut read = read;
            match &self.beside {
                Beside::Nothing => {}
                Beside::Masters(_) | Beside::Loss => read.f_copy_(&full)?,
                Beside::Remainders(rests) => {
                    let (upper, rest) = apart_all(&full)?;
                    read.f_copy_(&upper)?;
                    rests.f_narrow(0, start, length)?.f_copy_(&rest)?;
                }
                Beside::Chance => {
                    let draws = draws.as_ref().ok_or_else(bug)?;
                    read.f_copy_(&at_random_all(&full, draws, Use::Weight)?)?;
                }
            }
            place += length;
        }
        Ok(())
    }

    /// All that training goes on from, by name and in the order of the state file: the weights (`weights`, or the masters
    /// in their place), what else is kept beside them, and the moments. They share memory with the optimizer and with
    /// `weights`, so what is written to them is loaded; call [`AdamW::loaded`] after that.
    ///
    /// Every tensor is flat and holds one entry per element, but for the scales of 8-bit moments, which hold one per
    /// [`ALIGN`] elements. So the tensors of ranges that follow each other, joined, are those of the whole range.
    pub fn state(&self, weights: &Tensor) -> Vec<(&'static str, Tensor)> {
        let mut tensors = match &self.beside {
            Beside::Masters(masters) => vec![("weights", masters.shallow_clone())],
            Beside::Remainders(rests) => {
                vec![("weights", weights.shallow_clone()), ("remainders", rests.shallow_clone())]
            }
            Beside::Nothing | Beside::Chance | Beside::Loss => vec![("weights", weights.shallow_clone())],
        };
        tensors.extend(self.mean.tensors(["exp_avg", "exp_avg_scales"]));
        tensors.extend(self.square.tensors(["exp_avg_sq", "exp_avg_sq_scales"]));
        tensors
    }

    /// After the tensors of [`AdamW::state`] were written to: makes the forward pass read what was loaded.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn loaded(&mut self, weights: &mut Tensor, steps: u32) -> Result<()> {
        self.steps = steps;
        if let Beside::Masters(masters) = &self.beside {
            no_grad(|| weights.f_copy_(masters))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
