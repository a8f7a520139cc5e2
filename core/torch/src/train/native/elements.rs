//! The elements that an optimizer updates, as slices on the CPU, in every form that they are kept in.

use crate::train::{
    eight_bit::{BLOCK, Code},
    rounding::{Use, apart, at_random, nearest, part, together, widen},
};

/// Weights as the forward pass reads them, and what is kept beside them.
pub(crate) enum Weights<'a> {
    /// f32: the forward pass reads them as they are.
    Single(&'a mut [f32]),
    /// bf16, and the f32 numbers that they are rounded from.
    Masters(&'a mut [u16], &'a mut [f32]),
    /// bf16, and what rounding took.
    Compensated(&'a mut [u16], &'a mut [i16]),
    /// bf16, rounded at random.
    Stochastic(&'a mut [u16]),
    /// bf16, rounded to the nearest.
    Nearest(&'a mut [u16]),
}

/// One of the two moments.
pub(crate) enum Moments<'a> {
    /// f32.
    Single(&'a mut [f32]),
    /// bf16, rounded at random.
    Half(&'a mut [u16]),
    /// Codes, and a scale per block; of roots, where so said.
    Eight(&'a mut [u8], &'a mut [f32], &'static Code, bool),
}

/// The gradient.
pub(crate) enum Slopes<'a> {
    /// f32.
    Single(&'a [f32]),
    /// bf16.
    Half(&'a [u16]),
}

/// A run of elements that begins at a block of the 8-bit code.
pub(crate) struct Elements<'a> {
    /// Place of the first element in the layout.
    pub start: usize,
    pub weights: Weights<'a>,
    pub mean: Moments<'a>,
    pub square: Moments<'a>,
    pub gradient: Slopes<'a>,
}

impl<'a> Weights<'a> {
    fn split(self, at: usize) -> (Self, Self) {
        match self {
            Self::Single(all) => {
                let (a, b) = all.split_at_mut(at);
                (Self::Single(a), Self::Single(b))
            }
            Self::Masters(all, masters) => {
                let ((a, b), (c, d)) = (all.split_at_mut(at), masters.split_at_mut(at));
                (Self::Masters(a, c), Self::Masters(b, d))
            }
            Self::Compensated(all, rests) => {
                let ((a, b), (c, d)) = (all.split_at_mut(at), rests.split_at_mut(at));
                (Self::Compensated(a, c), Self::Compensated(b, d))
            }
            Self::Stochastic(all) => {
                let (a, b) = all.split_at_mut(at);
                (Self::Stochastic(a), Self::Stochastic(b))
            }
            Self::Nearest(all) => {
                let (a, b) = all.split_at_mut(at);
                (Self::Nearest(a), Self::Nearest(b))
            }
        }
    }

    /// Makes them in f32 in `scratch`, where they are not kept so.
    #[inline(always)]
    pub fn open(&self, scratch: &mut [f32]) {
        match self {
            Self::Single(_) | Self::Masters(..) => {}
            Self::Compensated(upper, rests) => {
                for ((x, upper), rest) in scratch.iter_mut().zip(&**upper).zip(&**rests) {
                    *x = together(*upper, *rest);
                }
            }
            Self::Stochastic(all) | Self::Nearest(all) => {
                scratch.iter_mut().zip(&**all).for_each(|(x, y)| *x = widen(*y));
            }
        }
    }

    /// They in f32, after [`Weights::open`].
    pub fn opened<'s>(&'s mut self, scratch: &'s mut [f32]) -> &'s mut [f32] {
        match self {
            Self::Single(all) | Self::Masters(_, all) => all,
            Self::Compensated(..) | Self::Stochastic(_) | Self::Nearest(_) => scratch,
        }
    }

    /// Keeps what became of them.
    #[inline(always)]
    pub fn close(&mut self, scratch: &[f32], draws: &[u32]) {
        match self {
            Self::Single(_) => {}
            Self::Masters(all, masters) => all.iter_mut().zip(&**masters).for_each(|(y, x)| *y = nearest(*x)),
            Self::Compensated(upper, rests) => {
                for ((upper, rest), x) in upper.iter_mut().zip(&mut **rests).zip(scratch) {
                    (*upper, *rest) = apart(*x);
                }
            }
            Self::Stochastic(all) => {
                for ((y, x), draw) in all.iter_mut().zip(scratch).zip(draws) {
                    *y = at_random(*x, part(*draw, Use::Weight));
                }
            }
            Self::Nearest(all) => all.iter_mut().zip(scratch).for_each(|(y, x)| *y = nearest(*x)),
        }
    }
}

impl<'a> Moments<'a> {
    fn split(self, at: usize) -> (Self, Self) {
        match self {
            Self::Single(all) => {
                let (a, b) = all.split_at_mut(at);
                (Self::Single(a), Self::Single(b))
            }
            Self::Half(all) => {
                let (a, b) = all.split_at_mut(at);
                (Self::Half(a), Self::Half(b))
            }
            Self::Eight(codes, scales, code, roots) => {
                let ((a, b), (c, d)) = (codes.split_at_mut(at), scales.split_at_mut(at.div_ceil(BLOCK)));
                (Self::Eight(a, c, code, roots), Self::Eight(b, d, code, roots))
            }
        }
    }

    /// Makes them in f32 in `scratch`, where they are not kept so.
    #[inline(always)]
    pub fn open(&self, scratch: &mut [f32]) {
        match self {
            Self::Single(_) => {}
            Self::Half(all) => scratch.iter_mut().zip(&**all).for_each(|(x, y)| *x = widen(*y)),
            Self::Eight(codes, scales, code, roots) => {
                let scratch = &mut scratch[..codes.len()];
                for ((numbers, codes), scale) in scratch.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(&**scales) {
                    code.decode(codes, *scale, numbers);
                }
                if *roots {
                    scratch.iter_mut().for_each(|x| *x *= *x);
                }
            }
        }
    }

    /// They in f32, after [`Moments::open`].
    pub fn opened<'s>(&'s mut self, scratch: &'s mut [f32]) -> &'s mut [f32] {
        match self {
            Self::Single(all) => all,
            Self::Half(_) | Self::Eight(..) => scratch,
        }
    }

    /// Keeps what became of them.
    #[inline(always)]
    pub fn close(&mut self, scratch: &mut [f32], draws: &[u32], what: Use) {
        match self {
            Self::Single(_) => {}
            Self::Half(all) => {
                for ((y, x), draw) in all.iter_mut().zip(scratch).zip(draws) {
                    *y = at_random(*x, part(*draw, what));
                }
            }
            Self::Eight(codes, scales, code, roots) => {
                let scratch = &mut scratch[..codes.len()];
                if *roots {
                    scratch.iter_mut().for_each(|x| *x = x.sqrt());
                }
                let blocks = scratch.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)).zip(&mut **scales);
                for ((numbers, codes), scale) in blocks {
                    *scale = code.encode(numbers, codes);
                }
            }
        }
    }
}

impl<'a> Slopes<'a> {
    fn split(self, at: usize) -> (Self, Self) {
        match self {
            Self::Single(all) => {
                let (a, b) = all.split_at(at);
                (Self::Single(a), Self::Single(b))
            }
            Self::Half(all) => {
                let (a, b) = all.split_at(at);
                (Self::Half(a), Self::Half(b))
            }
        }
    }

    /// Makes it in f32 in `scratch`, where it is not kept so.
    #[inline(always)]
    pub fn open(&self, scratch: &mut [f32]) {
        if let Self::Half(all) = self {
            scratch.iter_mut().zip(*all).for_each(|(x, y)| *x = widen(*y));
        }
    }

    /// It in f32, after [`Slopes::open`].
    pub fn opened<'s>(&'s self, scratch: &'s [f32]) -> &'s [f32] {
        match self {
            Self::Single(all) => all,
            Self::Half(_) => scratch,
        }
    }
}

impl Elements<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.gradient {
            Slopes::Single(all) => all.len(),
            Slopes::Half(all) => all.len(),
        }
    }

    /// Whether random bits are needed to keep them.
    pub fn drawn(&self) -> bool {
        matches!(self.weights, Weights::Stochastic(_))
            || [&self.mean, &self.square].iter().any(|moments| matches!(moments, Moments::Half(_)))
    }

    /// The first `at` of them, a multiple of [`BLOCK`], and the rest.
    pub fn split(self, at: usize) -> (Self, Self) {
        let Self { start, weights, mean, square, gradient } = self;
        let (weights, mean) = (weights.split(at), mean.split(at));
        let (square, gradient) = (square.split(at), gradient.split(at));
        (
            Self { start, weights: weights.0, mean: mean.0, square: square.0, gradient: gradient.0 },
            Self { start: start + at, weights: weights.1, mean: mean.1, square: square.1, gradient: gradient.1 },
        )
    }
}
