//! Matrix products with packed weights.
//!
//! Every output is one chain of fused multiply-adds over the inputs in their order, so it does not depend on the other
//! rows of the batch, on where the row stands in it, or on the processor. libtorch's products promise nothing of
//! the kind. Packed once, the weights are read in the order in which they are used.
//!
//! In bf16 weights and inputs are rounded to it, two of them make one 32-bit lane, and a lane's two products are added to
//! an f32 sum by one instruction, where the processor has it. Elsewhere the rounded numbers are multiplied as f32, which
//! can differ in the last place.

#[cfg(target_arch = "x86_64")]
use super::tiles::Halves;
use super::{
    packed::{Form, Packed, bf16},
    simd::{Floats, Level, multiversion},
    tiles::{Into, PANEL, Sums, rows},
};

/// `x`: `count` rows of lanes that are multiplied with the panels' lanes.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn product_body<V: Sums>(
    count: usize,
    x: &[f32],
    x_stride: usize,
    weights: &Packed,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_stride: usize,
    into: Into,
) {
    let (lanes, outputs) = (weights.lanes(), weights.outputs());
    if count == 0 {
        return;
    }
    assert!(x.len() >= (count - 1) * x_stride + lanes && out.len() >= (count - 1) * out_stride + outputs);
    assert!(bias.is_none_or(|b| b.len() >= outputs));
    // SAFETY: the assertions above give `rows` what it asks for: whole rows in, whole panels out.
    unsafe {
        for (p, panel) in weights.panels().enumerate() {
            let bias = bias.map_or(std::ptr::null(), |b| b.as_ptr().add(p * PANEL));
            let out = out.as_mut_ptr().add(p * PANEL);
            rows::<V, false>(count, x.as_ptr(), x_stride, panel.as_ptr(), lanes, bias, out, out_stride, PANEL, into);
        }
    }
}
multiversion! {
    fn product_of_floats(
        count: usize,
        x: &[f32],
        x_stride: usize,
        weights: &Packed,
        bias: Option<&[f32]>,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
    ) = product_body
}

/// [`product_of_floats`] for lanes of two bf16 numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[allow(clippy::too_many_arguments)]
fn product_of_pairs(
    count: usize,
    x: &[f32],
    x_stride: usize,
    weights: &Packed,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_stride: usize,
    into: Into,
) {
    // SAFETY: the function's target features are what the lanes need.
    unsafe { product_body::<Halves>(count, x, x_stride, weights, bias, out, out_stride, into) }
}

/// out = x Wᵀ (+ bias) for `count` rows, or out += it. Rows lie `x_stride` and `out_stride` floats apart; a row of
/// `out` and the bias have at least `weights.outputs()` floats. `rounded` is scratch for inputs in bf16.
///
/// # Panics
/// When a slice is too short.
#[allow(clippy::too_many_arguments)]
pub(crate) fn product(
    level: Level,
    count: usize,
    x: &[f32],
    x_stride: usize,
    weights: &Packed,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_stride: usize,
    into: Into,
    rounded: &mut Floats,
) {
    match weights.form() {
        Form::Floats => product_of_floats(level, count, x, x_stride, weights, bias, out, out_stride, into),
        Form::Rounded => {
            let width = weights.lanes();
            rounded.grow(count * width);
            for (to, from) in rounded.chunks_exact_mut(width).zip(x.chunks(x_stride)).take(count) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = f32::from_bits(bf16(*from) << 16);
                }
            }
            product_of_floats(level, count, rounded, width, weights, bias, out, out_stride, into);
        }
        Form::Pairs => {
            let width = weights.lanes();
            rounded.grow(count * width);
            for (to, from) in rounded.chunks_exact_mut(width).zip(x.chunks(x_stride)).take(count) {
                for (to, from) in to.iter_mut().zip(from.chunks(2)) {
                    let high = from.get(1).map_or(0, |x| bf16(*x));
                    *to = f32::from_bits(bf16(from[0]) | high << 16);
                }
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: weights are packed in pairs only where `has_bf16` found the instructions.
            unsafe {
                product_of_pairs(count, rounded, width, weights, bias, out, out_stride, into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            packed::Source,
            rounding::{UNIT, noise, same_bits},
        },
        *,
    };
    use crate::Precision;

    /// A product of noise, with a bias.
    struct Case {
        x: Vec<f32>,
        w: Vec<f32>,
        bias: Vec<f32>,
        inputs: usize,
        packed: Packed,
        into: Into,
    }

    impl Case {
        fn new(precision: Precision, count: usize, inputs: usize, outputs: usize, seed: u64, add: bool) -> Self {
            let every = |n: usize| (0..n).map(Some).collect::<Vec<_>>();
            let w = noise(outputs * inputs, seed ^ 1);
            let source = Source::Floats(vec![&w]);
            let packed = Packed::new(precision, &source, inputs, &every(outputs), &every(inputs), 1).unwrap();
            let mut bias = noise(outputs, seed ^ 2);
            bias.resize(packed.outputs(), 0.0);
            let into = if add { Into::Add } else { Into::Set };
            Case { x: noise(count * inputs, seed), w, bias, inputs, packed, into }
        }

        /// The product of `rows`, which are whole rows of `x`, on top of halves.
        fn run(&self, level: Level, rows: &[f32]) -> Vec<f32> {
            let (count, stride) = (rows.len() / self.inputs, self.packed.outputs());
            let (mut out, scratch) = (vec![0.5; count * stride], &mut Floats::default());
            let bias = Some(self.bias.as_slice());
            product(level, count, rows, self.inputs, &self.packed, bias, &mut out, stride, self.into, scratch);
            out
        }

        /// Every row with the product of it alone, which is that in company.
        fn rows(&self) -> Result<impl Iterator<Item = (&[f32], Vec<f32>)>, TestCaseError> {
            let alone: Vec<_> = self.x.chunks_exact(self.inputs).map(|row| self.run(Level::detect(), row)).collect();
            let together = self.run(Level::detect(), &self.x);
            for (alone, together) in alone.iter().zip(together.chunks_exact(self.packed.outputs())) {
                prop_assert!(same_bits(alone, together));
            }
            Ok(self.x.chunks_exact(self.inputs).zip(alone))
        }

        fn before(&self) -> f32 {
            if self.into == Into::Add { 0.5 } else { 0.0 }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_product_is_a_chain_of_multiply_adds_whatever_the_company_and_the_level(
            count in 1usize..30, inputs in 1usize..70, outputs in 1usize..70, seed: u64, add: bool,
        ) {
            let case = Case::new(Precision::F32, count, inputs, outputs, seed, add);
            let detected = case.run(Level::detect(), &case.x);
            for level in Level::available() {
                prop_assert!(same_bits(&detected, &case.run(level, &case.x)), "{:?}", level);
            }
            for (row, found) in case.rows()? {
                for ((w, bias), found) in case.w.chunks_exact(inputs).zip(&case.bias).zip(found) {
                    let chain = row.iter().zip(w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
                    prop_assert_eq!((chain + bias + case.before()).to_bits(), found.to_bits());
                }
            }
        }

        #[test]
        fn bf16_products_are_those_of_rounded_numbers_whatever_the_company(
            count in 1usize..30, inputs in 1usize..70, outputs in 1usize..70, seed: u64, add: bool,
        ) {
            let case = Case::new(Precision::Bf16, count, inputs, outputs, seed, add);
            let round = |x: f32| f64::from(f32::from_bits(bf16(x) << 16));
            let mut weights = vec![0.0; inputs];
            case.packed.row(outputs - 1, &mut weights);
            let last = &case.w[(outputs - 1) * inputs..];
            prop_assert!(weights.iter().zip(last).all(|(a, b)| f64::from(*a) == round(*b)));
            for (row, found) in case.rows()? {
                for ((w, bias), found) in case.w.chunks_exact(inputs).zip(&case.bias).zip(found) {
                    let terms = row.iter().zip(w).map(|(x, w)| round(*x) * round(*w));
                    let others = [f64::from(*bias), f64::from(case.before())];
                    let terms: Vec<f64> = terms.chain(others).collect();
                    let (exact, size) = (terms.iter().sum::<f64>(), terms.iter().map(|term| term.abs()).sum::<f64>());
                    // Twice the unit: nobody promises that the instruction rounds to the nearest.
                    let most = 2.0 * UNIT * terms.len() as f64 * size;
                    prop_assert!((exact - f64::from(found)).abs() <= most);
                }
            }
        }
    }
}
