//! Matrix products with packed weights.
//!
//! Every output is one chain of fused multiply-adds over the inputs in their order, so it does not depend on the other
//! rows of the batch, on where the row stands in it, or on the processor. libtorch's products promise nothing of
//! the kind. Packed once, the weights are read in the order in which they are used.

use super::simd::{Floats, LANES, Vector, multiversion};

/// Output columns of a panel.
pub(crate) const PANEL: usize = 2 * LANES;

/// A weight matrix [outputs, inputs], as panels of 32 outputs: [outputs / 32, inputs, 32], with zeros to fill the last.
pub(crate) struct Packed {
    data: Floats,
    inputs: usize,
    outputs: usize,
}

impl Packed {
    /// Packs rows of `weights` [_, inputs]: `rows[o]` names the row that makes output `o`, `None` an output that is 0;
    /// `columns[i]` the column that input `i` meets, `None` an input that is ignored.
    pub(crate) fn new(weights: &[f32], width: usize, rows: &[Option<usize>], columns: &[Option<usize>]) -> Self {
        let (outputs, inputs) = (rows.len().next_multiple_of(PANEL), columns.len());
        let mut data = Floats::zeros(outputs * inputs);
        for (panel, rows) in data.chunks_exact_mut(inputs * PANEL).zip(rows.chunks(PANEL)) {
            for (o, row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                let row = &weights[row * width..(row + 1) * width];
                for (i, column) in columns.iter().enumerate() {
                    if let Some(column) = column {
                        panel[i * PANEL + o] = row[*column];
                    }
                }
            }
        }
        Packed { data, inputs, outputs }
    }

    /// Outputs, rounded up to whole panels: the least width of a row of output.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Copies the weights of one output: a token's embedding, where the embedding matrix is the output matrix.
    pub(crate) fn row(&self, output: usize, to: &mut [f32]) {
        let panel = &self.data[output / PANEL * PANEL * self.inputs..][..PANEL * self.inputs];
        for (to, weights) in to.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *to = weights[output % PANEL];
        }
    }
}

/// What happens to what is in the output already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    /// Overwritten.
    Set,
    /// Added to: the residual stream.
    Add,
}

/// Rows at a time on 32 registers, and on 16.
const WIDE: usize = 12;
const NARROW: usize = 6;

/// `R` rows against `C` vectors of columns of one panel.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<V: Vector, const R: usize, const C: usize>(
    x: *const f32,
    x_stride: usize,
    panel: *const f32,
    inputs: usize,
    bias: *const f32,
    out: *mut f32,
    out_stride: usize,
    into: Into,
) {
    // SAFETY: the caller gives R rows of `inputs` floats, a panel of `inputs` times 32 floats, and R rows of C vectors.
    unsafe {
        let mut acc = [[V::splat(0.0); C]; R];
        for k in 0..inputs {
            let mut w = [V::splat(0.0); C];
            for (c, w) in w.iter_mut().enumerate() {
                *w = V::load(panel.add(k * PANEL + c * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(*x.add(r * x_stride + k));
                for c in 0..C {
                    acc[c] = a.fma(w[c], acc[c]);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (c, acc) in acc.iter().enumerate() {
                let at = out.add(r * out_stride + c * LANES);
                let mut y = *acc;
                if !bias.is_null() {
                    y = y.add(V::load(bias.add(c * LANES)));
                }
                if into == Into::Add {
                    y = y.add(V::load(at));
                }
                y.store(at);
            }
        }
    }
}

/// All rows against one panel, `R` at a time, then what is left with ever smaller tiles.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rows<V: Vector, const C: usize>(
    most: usize,
    mut count: usize,
    mut x: *const f32,
    x_stride: usize,
    panel: *const f32,
    inputs: usize,
    bias: *const f32,
    mut out: *mut f32,
    out_stride: usize,
    into: Into,
) {
    macro_rules! run {
        ($n:literal) => {{
            tile::<V, $n, C>(x, x_stride, panel, inputs, bias, out, out_stride, into);
            x = x.add($n * x_stride);
            out = out.add($n * out_stride);
            count -= $n;
        }};
    }
    // SAFETY: `count` rows are behind both pointers, and they advance by the rows that were done.
    unsafe {
        if most == WIDE {
            while count >= 12 {
                run!(12);
            }
            if count >= 8 {
                run!(8);
            }
        }
        while count >= 6 {
            run!(6);
        }
        if count >= 4 {
            run!(4);
        }
        if count >= 2 {
            run!(2);
        }
        if count == 1 {
            run!(1);
        }
        let _ = (x, out, count);
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn product_body<V: Vector>(
    count: usize,
    x: &[f32],
    x_stride: usize,
    weights: &Packed,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_stride: usize,
    into: Into,
) {
    let (inputs, outputs) = (weights.inputs, weights.outputs);
    if count == 0 {
        return;
    }
    assert!(x.len() >= (count - 1) * x_stride + inputs && out.len() >= (count - 1) * out_stride + outputs);
    assert!(bias.is_none_or(|b| b.len() >= outputs));
    // SAFETY: the assertions above give `tile` what it asks for: whole rows in, whole panels out.
    unsafe {
        for (p, panel) in weights.data.chunks_exact(inputs * PANEL).enumerate() {
            let bias = bias.map_or(std::ptr::null(), |b| b.as_ptr().add(p * PANEL));
            let out = out.as_mut_ptr().add(p * PANEL);
            if size_of::<V>() == 64 && align_of::<V>() == 64 {
                rows::<V, 2>(WIDE, count, x.as_ptr(), x_stride, panel.as_ptr(), inputs, bias, out, out_stride, into);
            } else {
                for half in 0..2 {
                    let bias = if bias.is_null() { bias } else { bias.add(half * LANES) };
                    let (panel, out) = (panel.as_ptr().add(half * LANES), out.add(half * LANES));
                    rows::<V, 1>(NARROW, count, x.as_ptr(), x_stride, panel, inputs, bias, out, out_stride, into);
                }
            }
        }
    }
}
multiversion! {
    /// out = x Wᵀ (+ bias) for `count` rows, or out += it. Rows lie `x_stride` and `out_stride` floats apart; a row of
    /// `out` and the bias have at least `weights.outputs()` floats.
    ///
    /// # Panics
    /// When a slice is too short.
    pub(crate) fn product(
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::simd::Level, *};

    fn every(n: usize) -> Vec<Option<usize>> {
        (0..n).map(Some).collect()
    }

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32) / 8_388_608.0 - 1.0
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_row_alone_in_company_and_on_every_level_has_the_same_bits(
            count in 1usize..30, inputs in 1usize..70, outputs in 1usize..70, seed: u64, add: bool,
        ) {
            let (x, w, b) = (noise(count * inputs, seed), noise(outputs * inputs, seed ^ 1), noise(outputs, seed ^ 2));
            let packed = Packed::new(&w, inputs, &every(outputs), &every(inputs));
            let stride = packed.outputs();
            let mut bias = b.clone();
            bias.resize(stride, 0.0);
            let into = if add { Into::Add } else { Into::Set };
            let run = |level, rows: &[f32], count| {
                let mut out = vec![0.5; count * stride];
                product(level, count, rows, inputs, &packed, Some(&bias), &mut out, stride, into);
                out
            };
            let together = run(Level::detect(), &x, count);
            for level in Level::available() {
                let other = run(level, &x, count);
                prop_assert!(together.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            for r in 0..count {
                let row = &x[r * inputs..(r + 1) * inputs];
                let alone = run(Level::detect(), row, 1);
                prop_assert!(alone.iter().zip(&together[r * stride..]).all(|(a, b)| a.to_bits() == b.to_bits()));
                for o in 0..outputs {
                    let exact: f64 = row.iter().zip(&w[o * inputs..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let exact = exact + f64::from(b[o]) + if add { 0.5 } else { 0.0 };
                    prop_assert!((exact - f64::from(alone[o])).abs() < 1e-5 * (inputs as f64).sqrt().max(1.0) * 2.0);
                }
            }
        }
    }
}
