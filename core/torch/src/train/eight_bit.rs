//! Moments in 8 bits: blocks of 256 numbers with one scale, and a code of 256 values between −1 and 1.
//!
//! Block-wise quantisation with the dynamic map of Dettmers et al. 2022 (8-bit Optimizers via Block-wise Quantization;
//! `create_dynamic_map` in bitsandbytes): a decade has twice the values of the one below it, seven decades in all. Two
//! things differ. The second moment is kept as its root, which halves its decades, and a root that is not zero never
//! becomes zero, since what divides by it would explode. And the scale of a block whose largest number is negative lets
//! the code's lowest value, −0.993, stand for it.

use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Numbers with one scale.
pub(crate) const BLOCK: usize = 256;

/// Smallest exponent that the table of [`Code::nearest`] tells apart; numbers below 2⁻²⁴ are nearest to zero or to the
/// code's smallest value.
const LEAST: u32 = (127 - 24) << 7;

/// Entries of that table for one sign: up to 1 in steps of 1/128 of the power of two below.
const ENTRIES: usize = ((127 << 7) - LEAST) as usize + 1;

/// 256 ascending values between −1 and 1, zero and one among them.
pub(crate) struct Code {
    /// The values.
    pub values: Vec<f32>,
    /// A number from `limits[i]` on is nearer to value `i + 1` than to value `i`.
    limits: Vec<f32>,
    /// The code of the lowest number of every interval of the table, for positive and negative numbers.
    table: [Vec<u8>; 2],
}

impl Code {
    /// For the first moment.
    pub fn signed() -> &'static Self {
        static CODE: OnceLock<Code> = OnceLock::new();
        CODE.get_or_init(|| Self::new(true))
    }

    /// For the root of the second moment.
    pub fn unsigned() -> &'static Self {
        static CODE: OnceLock<Code> = OnceLock::new();
        CODE.get_or_init(|| Self::new(false))
    }

    fn new(signed: bool) -> Self {
        let mut values = vec![0.0, 1.0];
        for decade in 0..7 {
            let count = if signed { 1 << decade } else { 2 << decade };
            let width = 0.9 / f64::from(count);
            for index in 0..count {
                let mean = 0.1 + width * (f64::from(index) + 0.5);
                let value = (mean * 10f64.powi(decade - 6)) as f32;
                values.push(value);
                if signed {
                    values.push(-value);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let mut limits: Vec<f32> = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        if !signed {
            limits[0] = f32::from_bits(1);
        }
        let mut code = Self { values, limits, table: [Vec::new(), Vec::new()] };
        let interval = |index: usize| f32::from_bits((LEAST + index as u32) << 16);
        let ascend = |x| code.ascend(0, x);
        let positive = (0..ENTRIES).map(|index| ascend(if index == 0 { 0.0 } else { interval(index) })).collect();
        let negative = (0..ENTRIES).map(|index| ascend(-interval(index + 1))).collect();
        code.table = [positive, negative];
        code
    }

    /// The code from `code` on that is nearest to `x`.
    #[inline(always)]
    fn ascend(&self, mut code: u8, x: f32) -> u8 {
        while let Some(limit) = self.limits.get(usize::from(code)) {
            if x < *limit || x.is_nan() {
                break;
            }
            code += 1;
        }
        code
    }

    /// The code of the value nearest to `x`; of two as near, the higher one.
    #[inline(always)]
    pub fn nearest(&self, x: f32) -> u8 {
        let interval = ((x.to_bits() & 0x7fff_ffff) >> 16).saturating_sub(LEAST) as usize;
        let table = &self.table[usize::from(x.is_sign_negative())];
        self.ascend(table[interval.min(ENTRIES - 1)], x)
    }

    /// How far a negative number may be below zero where the scale is 1.
    fn depth(&self) -> f32 {
        -self.values[0]
    }

    /// Puts `numbers`, at most [`BLOCK`], into `codes` and returns their scale.
    #[inline(always)]
    pub fn encode(&self, numbers: &[f32], codes: &mut [u8]) -> f32 {
        let (lowest, highest) =
            numbers.iter().fold((0f32, 0f32), |(lowest, highest), x| (lowest.min(*x), highest.max(*x)));
        // An unsigned code has no negative values: its depth is 0, and so is `lowest`.
        let scale = if lowest < 0.0 { highest.max(-lowest / self.depth()) } else { highest };
        let divisor = if scale > 0.0 { scale } else { 1.0 };
        for (x, code) in numbers.iter().zip(codes) {
            *code = self.nearest(x / divisor);
        }
        scale
    }

    /// The numbers that `codes` and `scale` stand for.
    #[inline(always)]
    pub fn decode(&self, codes: &[u8], scale: f32, numbers: &mut [f32]) {
        for (code, x) in codes.iter().zip(numbers) {
            *x = self.values[usize::from(*code)] * scale;
        }
    }
}

/// A [`Code`] on a device.
pub(crate) struct DeviceCode {
    values: Tensor,
    limits: Tensor,
    depth: f64,
}

impl DeviceCode {
    /// `code` on `device`.
    pub fn new(code: &Code, device: Device) -> Result<Self> {
        Ok(Self {
            values: Tensor::f_from_slice(&code.values)?.f_to_device(device)?,
            limits: Tensor::f_from_slice(&code.limits)?.f_to_device(device)?,
            depth: f64::from(code.depth()),
        })
    }

    /// [`Code::encode`] of a flat f32 tensor that begins with a block: codes, and a scale per block.
    pub fn encode(&self, numbers: &Tensor) -> Result<(Tensor, Tensor)> {
        let (codes, scales): (Vec<_>, Vec<_>) = blocks(numbers)?
            .into_iter()
            .map(|numbers| {
                let highest = numbers.f_amax([1i64].as_slice(), true)?.f_clamp_min(0.0)?;
                let scale = if self.depth > 0.0 {
                    let lowest = numbers.f_amin([1i64].as_slice(), true)?.f_clamp_max(0.0)?;
                    highest.f_maximum(&lowest.f_neg()?.f_div_scalar(self.depth)?)?
                } else {
                    highest
                };
                let divisor = scale.f_where_self(&scale.f_gt(0.0)?, &scale.f_ones_like()?)?;
                let codes = numbers.f_div(&divisor)?.f_bucketize(&self.limits, true, true)?;
                Ok((codes.f_to_kind(Kind::Uint8)?.f_view(-1)?, scale.f_view(-1)?))
            })
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        Ok((Tensor::f_cat(&codes, 0)?, Tensor::f_cat(&scales, 0)?))
    }

    /// [`Code::decode`] of flat tensors.
    pub fn decode(&self, codes: &Tensor, scales: &Tensor) -> Result<Tensor> {
        let mut numbers = self.values.f_index_select(0, &codes.f_to_kind(Kind::Int)?)?;
        let mut scales = scales.shallow_clone();
        for part in blocks(&numbers)? {
            let count = part.size2()?.0;
            let scale = scales.f_narrow(0, 0, count)?.f_unsqueeze(1)?;
            scales = scales.f_narrow(0, count, scales.size1()? - count)?;
            let _ = part.shallow_clone().f_mul_(&scale)?;
        }
        numbers = numbers.f_contiguous()?;
        Ok(numbers)
    }
}

/// A flat tensor as rows of [`BLOCK`] and, where something is left, one shorter row.
fn blocks(numbers: &Tensor) -> Result<Vec<Tensor>> {
    let length = numbers.size1()?;
    let whole = length / BLOCK as i64 * BLOCK as i64;
    let mut parts = Vec::new();
    if whole > 0 {
        parts.push(numbers.f_narrow(0, 0, whole)?.f_view([-1, BLOCK as i64])?);
    }
    if length > whole {
        parts.push(numbers.f_narrow(0, whole, length - whole)?.f_view([1, -1])?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// bitsandbytes' `create_dynamic_map`: number of values, and some of them.
    #[test]
    fn the_codes_are_the_dynamic_map() {
        let (signed, unsigned) = (Code::signed(), Code::unsigned());
        for code in [signed, unsigned] {
            assert_eq!(code.values.len(), 256);
            assert!(code.values.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(code.values.contains(&0.0) && code.values[255] == 1.0);
        }
        for (found, expected) in [
            (signed.values[0], -0.992_968_8),
            (signed.values[1], -0.978_906_3),
            (signed.values[126], -5.5e-7),
            (signed.values[128], 5.5e-7),
            (unsigned.values[1], 3.25e-7),
            (unsigned.values[2], 7.75e-7),
            (unsigned.values[254], 0.996_484_4),
        ] {
            assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
        }
    }

    proptest! {
        /// Every number goes to the nearest value, and so is off by half of the gap between two at most.
        #[test]
        fn the_nearest_value_is_found(x in prop_oneof![-1.0f32..=1.0, -1e-5f32..1e-5, Just(0.0), Just(1.0), Just(-1.0)]) {
            for code in [Code::signed(), Code::unsigned()] {
                let found = code.values[usize::from(code.nearest(x))];
                let nearest = code.values.iter().map(|value| (value - x).abs()).fold(f32::MAX, f32::min);
                let never_zero = std::ptr::eq(code, Code::unsigned()) && x > 0.0 && x < code.values[1];
                prop_assert!((found - x).abs() <= nearest || never_zero && found == code.values[1], "{x}: {found}");
            }
        }

        /// What comes back is off by half of a gap at most, and the widest gap is 0.9/64 of the scale, which is at most
        /// 1/0.993 of the largest number: 0.0071 of that, and so 7.1 % of a number in the decade at the top.
        #[test]
        fn a_block_comes_back_within_the_codes_gaps(
            numbers in proptest::collection::vec(-1e3f32..1e3, 1..=BLOCK), power in -20i32..10,
        ) {
            let numbers: Vec<f32> = numbers.iter().map(|x| x * 10f32.powi(power)).collect();
            for code in [Code::signed(), Code::unsigned()] {
                let numbers: Vec<f32> = match std::ptr::eq(code, Code::signed()) {
                    true => numbers.clone(),
                    false => numbers.iter().map(|x| x.abs()).collect(),
                };
                let largest = numbers.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                let (mut codes, mut back) = (vec![0; numbers.len()], vec![0.0; numbers.len()]);
                let scale = code.encode(&numbers, &mut codes);
                code.decode(&codes, scale, &mut back);
                for (x, y) in numbers.iter().zip(&back) {
                    prop_assert!((x - y).abs() <= 0.0072 * largest, "{x} {y} of {largest}");
                    if x.abs() > 0.1 * largest {
                        prop_assert!((x - y).abs() <= 0.072 * x.abs(), "{x} {y}");
                    }
                    prop_assert!(*x != 0.0 || *y == 0.0);
                }
            }
        }

        #[test]
        fn tensors_and_slices_agree(numbers in proptest::collection::vec(-1f32..1.0, 1..700), power in -30i32..10) {
            let numbers: Vec<f32> = numbers.iter().map(|x| x * 10f32.powi(power)).collect();
            for (code, numbers) in [
                (Code::signed(), numbers.clone()),
                (Code::unsigned(), numbers.iter().map(|x| x.abs()).collect()),
            ] {
                let device = DeviceCode::new(code, Device::Cpu).unwrap();
                let (codes, scales) = device.encode(&Tensor::from_slice(&numbers)).unwrap();
                let mut expected = vec![0; numbers.len()];
                let all: Vec<f32> = numbers.chunks(BLOCK).zip(expected.chunks_mut(BLOCK))
                    .map(|(numbers, codes)| code.encode(numbers, codes)).collect();
                prop_assert_eq!(Vec::<f32>::try_from(&scales).unwrap(), all.clone());
                prop_assert_eq!(Vec::<u8>::try_from(&codes).unwrap(), expected.clone());
                let mut back = vec![0.0; numbers.len()];
                for ((codes, scale), back) in expected.chunks(BLOCK).zip(&all).zip(back.chunks_mut(BLOCK)) {
                    code.decode(codes, *scale, back);
                }
                prop_assert_eq!(Vec::<f32>::try_from(device.decode(&codes, &scales).unwrap()).unwrap(), back);
            }
        }
    }
}
