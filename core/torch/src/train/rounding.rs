//! bf16 numbers from f32 ones: to the nearest, at random, or with what rounding took kept beside them.
//!
//! A bf16 number is the upper half of an f32 number, so all of it is arithmetic on bits. Each function exists twice, for
//! slices on the CPU and as libtorch's operations for any device, and both give the same bits.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The random numbers of one optimizer step: 32 bits for every element of the flat layout.
///
/// They depend on the seed, the step and the element's place in the layout. So a step that is taken again, in other chunks,
/// on another device, or for a part of the layout only, draws the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    seed: u64,
    step: u32,
}

/// What the bits of one draw are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The weight: the lower half.
    Weight,
    /// The first moment: the upper half.
    Mean,
    /// The second moment: the upper half of a product.
    Square,
}

const FIRST: u32 = 0x7feb_352d;
const SECOND: u32 = 0x846c_a68b;
const THIRD: u32 = 0x9e37_79b9;
const SQUARE: u32 = 0x85eb_ca6b;

impl Draws {
    /// The draws of step `step` of a run with this seed.
    pub fn new(seed: u64, step: u32) -> Self {
        Self { seed, step }
    }

    /// Two keys for the 2³² elements that element `start` is among (SplitMix64).
    pub fn keys(self, start: u64) -> [u32; 2] {
        let mut state = self.seed ^ (u64::from(self.step) << 32 | start >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
        [state as u32, (state >> 32) as u32]
    }

    /// The draws of elements `start .. start + length` as 32-bit integers. They must not cross a multiple of 2³².
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn tensor(self, start: i64, length: i64, device: Device) -> Result<Tensor> {
        let [low, high] = self.keys(start as u64);
        let constant = |value: u32| i64::from(value as i32);
        let mix = |x: &mut Tensor, shift: i64| -> Result<()> {
            let mut shifted = x.f_bitwise_right_shift_tensor_scalar(shift)?;
            let _ = shifted.f_bitwise_and_(constant(u32::MAX >> shift))?;
            let _ = x.f_bitwise_xor_tensor_(&shifted)?;
            Ok(())
        };
        let mut x = Tensor::f_arange(length, (Kind::Int, device))?;
        let _ = x.f_add_scalar_(constant(start as u32))?;
        let _ = x.f_bitwise_xor_(constant(low))?;
        mix(&mut x, 16)?;
        let _ = x.f_mul_scalar_(constant(FIRST))?;
        mix(&mut x, 15)?;
        let _ = x.f_mul_scalar_(constant(SECOND))?;
        let _ = x.f_bitwise_xor_(constant(high))?;
        mix(&mut x, 16)?;
        let _ = x.f_mul_scalar_(constant(THIRD))?;
        mix(&mut x, 15)?;
        Ok(x)
    }
}

/// The draw of the element whose place has the lower half `place`: lowbias32 (Wellons 2018), and one more round.
#[inline(always)]
pub(crate) fn draw(keys: [u32; 2], place: u32) -> u32 {
    let mut x = place ^ keys[0];
    x = (x ^ (x >> 16)).wrapping_mul(FIRST);
    x = (x ^ (x >> 15)).wrapping_mul(SECOND) ^ keys[1];
    x = (x ^ (x >> 16)).wrapping_mul(THIRD);
    x ^ (x >> 15)
}

/// The 16 bits of a draw that are for `what`.
#[inline(always)]
pub(crate) fn part(draw: u32, what: Use) -> u32 {
    match what {
        Use::Weight => draw & 0xffff,
        Use::Mean => draw >> 16,
        Use::Square => draw.wrapping_mul(SQUARE) >> 16,
    }
}

fn part_of(draws: &Tensor, what: Use) -> Result<Tensor> {
    let shifted = match what {
        Use::Weight => draws.f_bitwise_and(0xffff_i64)?,
        Use::Mean => draws.f_bitwise_right_shift_tensor_scalar(16)?,
        Use::Square => draws.f_mul_scalar(i64::from(SQUARE as i32))?.f_bitwise_right_shift_tensor_scalar(16)?,
    };
    Ok(shifted.f_bitwise_and(0xffff_i64)?)
}

/// A bf16 number in f32.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bf16 number; of two as near the even one.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// One of the two bf16 numbers around `value`: the farther from zero where the lower half of `value` and the 16 random
/// bits `random` together carry. So the mean over all `random` is `value`, exactly. Infinite numbers and the processor's
/// NaN stay what they are.
#[inline(always)]
pub(crate) fn at_random(value: f32, random: u32) -> u16 {
    (value.to_bits().wrapping_add(random) >> 16) as u16
}

/// The nearest bf16 number, of two as near the one farther from zero, and what is to be added to its bits to have those of
/// `value` again.
///
/// As `store_param_remainders` of NVIDIA Apex's `DistributedFusedAdam`. Sixteen bits would not do with the even one of two:
/// 65,537 f32 numbers go there.
#[inline(always)]
pub(crate) fn apart(value: f32) -> (u16, i16) {
    let bits = value.to_bits();
    let upper = bits.wrapping_add(0x8000) >> 16;
    (upper as u16, bits.wrapping_sub(upper << 16) as i16)
}

/// The f32 number that [`apart`] took apart.
#[inline(always)]
pub(crate) fn together(upper: u16, rest: i16) -> f32 {
    f32::from_bits((u32::from(upper) << 16).wrapping_add(i32::from(rest) as u32))
}

/// Signed 16-bit integers as the bf16 numbers with their bits.
fn as_bf16(upper: &Tensor) -> Result<Tensor> {
    Ok(upper.f_to_kind(Kind::Int16)?.f_view_dtype(Kind::BFloat16)?)
}

/// [`at_random`] of a contiguous f32 tensor, with the bits of `draws` that are for `what`.
pub(crate) fn at_random_all(values: &Tensor, draws: &Tensor, what: Use) -> Result<Tensor> {
    let mut bits = part_of(draws, what)?;
    let _ = bits.f_add_(&values.f_view_dtype(Kind::Int)?)?;
    as_bf16(&bits.f_bitwise_right_shift_tensor_scalar_(16)?)
}

/// [`apart`] of a contiguous f32 tensor: bf16, and 16-bit integers.
pub(crate) fn apart_all(values: &Tensor) -> Result<(Tensor, Tensor)> {
    let bits = values.f_view_dtype(Kind::Int)?;
    let upper = bits.f_add_scalar(0x8000)?.f_bitwise_right_shift_tensor_scalar_(16)?;
    let rest = bits.f_sub(&upper.f_bitwise_left_shift_tensor_scalar(16)?)?;
    Ok((as_bf16(&upper)?, rest.f_to_kind(Kind::Int16)?))
}

/// [`together`] of bf16 and 16-bit integers.
pub(crate) fn together_all(upper: &Tensor, rest: &Tensor) -> Result<Tensor> {
    let mut bits = upper.f_contiguous()?.f_view_dtype(Kind::Int16)?.f_to_kind(Kind::Int)?;
    let _ = bits.f_bitwise_left_shift_tensor_scalar_(16)?;
    let _ = bits.f_add_(&rest.f_to_kind(Kind::Int)?)?;
    Ok(bits.f_view_dtype(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finite() -> impl Strategy<Value = f32> {
        any::<u32>().prop_map(f32::from_bits).prop_filter("a number", |value| value.is_finite())
    }

    fn bf16_bits(tensor: &Tensor) -> Vec<u16> {
        let bits = Vec::<i16>::try_from(tensor.view_dtype(Kind::Int16)).unwrap();
        bits.into_iter().map(|bits| bits as u16).collect()
    }

    proptest! {
        /// The mean over every possible draw is the number itself.
        #[test]
        fn rounding_at_random_is_unbiased(value in finite()) {
            let (low, high) = (widen(at_random(value, 0)), widen(at_random(value, 0xffff)));
            let up = (0..=0xffff_u32).filter(|random| at_random(value, *random) != at_random(value, 0)).count();
            if high.is_finite() {
                // A number of 24 bits, times a count of 17, in 53: nothing is rounded here.
                let mean = (f64::from(low) * (65536.0 - up as f64) + f64::from(high) * up as f64) / 65536.0;
                prop_assert_eq!(mean, f64::from(value));
            }
            prop_assert!(low.abs() <= value.abs() && value.abs() <= high.abs());
        }

        #[test]
        fn what_is_taken_apart_comes_together(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            let (upper, rest) = apart(value);
            prop_assert_eq!(together(upper, rest).to_bits(), bits);
            if value.is_finite() && widen(upper).is_finite() {
                let nearest = f64::from(widen(nearest(value)));
                prop_assert_eq!((f64::from(widen(upper)) - f64::from(value)).abs(), (nearest - f64::from(value)).abs());
            }
        }

        /// libtorch's operations give the bits of the functions for slices.
        #[test]
        fn tensors_and_slices_agree(values in proptest::collection::vec(finite(), 1..200), seed: u64, step: u32, start in 0i64..1 << 40) {
            let start = start.min(start / (1 << 32) * (1 << 32) + (1 << 32) - 300);
            let draws = Draws::new(seed, step);
            let random = draws.tensor(start, values.len() as i64, Device::Cpu).unwrap();
            let keys = draws.keys(start as u64);
            let expected: Vec<u32> = (0..values.len()).map(|i| draw(keys, (start as u32).wrapping_add(i as u32))).collect();
            let found: Vec<u32> = Vec::<i32>::try_from(&random).unwrap().into_iter().map(|bits| bits as u32).collect();
            prop_assert_eq!(&found, &expected);
            let tensor = Tensor::from_slice(&values);
            for what in [Use::Weight, Use::Mean, Use::Square] {
                let found = bf16_bits(&at_random_all(&tensor, &random, what).unwrap());
                let each = values.iter().zip(&expected).map(|(value, draw)| at_random(*value, part(*draw, what)));
                prop_assert_eq!(found, each.collect::<Vec<u16>>());
            }
            let (upper, rest) = apart_all(&tensor).unwrap();
            let each: Vec<(u16, i16)> = values.iter().map(|value| apart(*value)).collect();
            let found = bf16_bits(&upper).into_iter().zip(Vec::<i16>::try_from(&rest).unwrap());
            prop_assert_eq!(found.collect::<Vec<_>>(), each);
            let back = Vec::<f32>::try_from(together_all(&upper, &rest).unwrap()).unwrap();
            prop_assert!(back.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
            let rounded = bf16_bits(&tensor.to_kind(Kind::BFloat16));
            prop_assert_eq!(rounded, values.iter().map(|value| nearest(*value)).collect::<Vec<u16>>());
        }
    }

    /// Draws of neighbouring elements, steps and uses do not go together: bits are set half of the time, and any two
    /// series agree in half of their bits. 2²⁰ bits: the standard deviation is 1/2048 of them, the limit five of it.
    #[test]
    fn draws_are_even_and_independent() {
        let count = 1 << 16;
        let series = |seed, step, offset: u32, what| -> Vec<u32> {
            let keys = Draws::new(seed, step).keys(0);
            (0..count).map(|i| part(draw(keys, i + offset), what)).collect()
        };
        let base = series(7, 3, 0, Use::Weight);
        let others = [
            vec![0; count as usize],
            series(7, 3, 1, Use::Weight),
            series(7, 3, 256, Use::Weight),
            series(7, 4, 0, Use::Weight),
            series(8, 3, 0, Use::Weight),
            series(7, 3, 0, Use::Mean),
            series(7, 3, 0, Use::Square),
        ];
        for (index, other) in others.iter().enumerate() {
            let same: u32 = base.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum();
            let share = f64::from(same) / f64::from(16 * count);
            assert!((share - 0.5).abs() < 5.0 / 2048.0, "series {index}: {share}");
        }
    }
}
