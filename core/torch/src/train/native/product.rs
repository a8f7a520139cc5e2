//! Matrix products of training: any operand may be transposed, and the result may be added to what is there.
//!
//! The right operand is copied, 32 columns at a time, into a panel that is read in the order of use; the left one is read
//! where it lies. Every output is a chain of fused multiply-adds over the inputs in their order, cut every [`DEPTH`]
//! inputs, so it depends neither on the other rows and columns of the product nor on the processor.

use crate::generate::{
    simd::{Floats, LANES, Level, Vector, multiversion},
    tiles::{Into, PANEL, rows},
};

/// Inputs after which a partial sum is added to the output: what of a panel stays in the second cache.
const DEPTH: usize = 512;

/// A matrix in memory: element (i, j) lies at `i · row + j · column`, and one of the two is 1.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that lie `stride` floats apart.
    pub fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, row: stride, column: 1 }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// Whether it has `rows` times `columns` elements.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Sixteen rows of sixteen floats, turned into columns.
pub(crate) trait Transpose: Vector {
    /// Column `i` of the block at `from` (rows `stride` floats apart) becomes row `i` at `to` (rows `to_stride` apart).
    ///
    /// # Safety
    /// Both blocks are there, and the processor has the instructions.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..LANES {
            for j in 0..LANES {
                // SAFETY: inside of the two blocks.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * stride + j) };
            }
        }
    }
}

impl Transpose for [f32; LANES] {}

#[cfg(target_arch = "x86_64")]
impl Transpose for crate::generate::simd::x86::Pair {}

#[cfg(target_arch = "x86_64")]
impl Transpose for std::arch::x86_64::__m512 {
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise. Pairs, fours, eights and halves of rows are interleaved in turn.
        unsafe {
            let zero = _mm512_setzero_ps();
            let (mut a, mut b) = ([zero; 16], [zero; 16]);
            for (i, a) in a.iter_mut().enumerate() {
                *a = _mm512_loadu_ps(from.add(i * stride));
            }
            for i in 0..8 {
                b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
            }
            for i in 0..4 {
                for half in 0..2 {
                    let x = _mm512_castps_pd(b[4 * i + half]);
                    let y = _mm512_castps_pd(b[4 * i + half + 2]);
                    a[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                    a[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
                }
            }
            // a[4 g + c] holds, in quarter q, rows 4 g .. 4 g + 4 of column 4 q + c.
            for c in 0..4 {
                let low = _mm512_shuffle_f32x4::<0x88>(a[c], a[4 + c]);
                let high = _mm512_shuffle_f32x4::<0xDD>(a[c], a[4 + c]);
                let low2 = _mm512_shuffle_f32x4::<0x88>(a[8 + c], a[12 + c]);
                let high2 = _mm512_shuffle_f32x4::<0xDD>(a[8 + c], a[12 + c]);
                _mm512_storeu_ps(to.add(c * to_stride), _mm512_shuffle_f32x4::<0x88>(low, low2));
                _mm512_storeu_ps(to.add((4 + c) * to_stride), _mm512_shuffle_f32x4::<0x88>(high, high2));
                _mm512_storeu_ps(to.add((8 + c) * to_stride), _mm512_shuffle_f32x4::<0xDD>(low, low2));
                _mm512_storeu_ps(to.add((12 + c) * to_stride), _mm512_shuffle_f32x4::<0xDD>(high, high2));
            }
        }
    }
}

/// Copies columns `from .. from + 32` of `b` (`k` rows, `n` columns) into `out`, `[k, 32]`; columns past `n` are 0.
#[inline(always)]
unsafe fn pack_body<V: Transpose>(k: usize, n: usize, b: Matrix<'_>, from: usize, out: &mut [f32]) {
    let width = PANEL.min(n - from);
    assert!(b.holds(k, n) && out.len() >= k * PANEL);
    let (data, to) = (b.data.as_ptr(), out.as_mut_ptr());
    // SAFETY: the assertion; blocks and rows are cut to what is there.
    unsafe {
        if b.column == 1 {
            for p in 0..k {
                let (row, to) = (data.add(p * b.row + from), to.add(p * PANEL));
                if width == PANEL {
                    V::load(row).store(to);
                    V::load(row.add(LANES)).store(to.add(LANES));
                } else {
                    for j in 0..PANEL {
                        *to.add(j) = if j < width { *row.add(j) } else { 0.0 };
                    }
                }
            }
            return;
        }
        for half in [0, LANES] {
            let columns = width.saturating_sub(half).min(LANES);
            let mut p = 0;
            while columns == LANES && p + LANES <= k {
                V::transpose(data.add((from + half) * b.column + p), b.column, to.add(p * PANEL + half), PANEL);
                p += LANES;
            }
            for p in p..k {
                for j in 0..LANES {
                    let value = if j < columns { *data.add((from + half + j) * b.column + p) } else { 0.0 };
                    *to.add(p * PANEL + half + j) = value;
                }
            }
        }
    }
}
multiversion! {
    fn pack_panel(k: usize, n: usize, b: Matrix<'_>, from: usize, out: &mut [f32]) = pack_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn panel_body<V: Vector>(
    m: usize,
    k: usize,
    a: Matrix<'_>,
    panel: &[f32],
    out: &mut [f32],
    out_stride: usize,
    width: usize,
    into: Into,
) {
    if m == 0 || width == 0 {
        return;
    }
    assert!(a.holds(m, k) && panel.len() >= k * PANEL && width <= PANEL);
    assert!(out.len() >= (m - 1) * out_stride + width && (a.row == 1 || a.column == 1));
    let across = a.column != 1;
    let stride = if across { a.column } else { a.row };
    let (mut start, bias) = (0, std::ptr::null());
    // SAFETY: the assertions above give `rows` what it asks for.
    unsafe {
        loop {
            let depth = DEPTH.min(k - start);
            let into = if start == 0 { into } else { Into::Add };
            let from = a.data.as_ptr().add(start * a.column);
            let panel = panel.as_ptr().add(start * PANEL);
            let to = out.as_mut_ptr();
            if across {
                rows::<V, true>(m, from, stride, panel, depth, bias, to, out_stride, width, into);
            } else {
                rows::<V, false>(m, from, stride, panel, depth, bias, to, out_stride, width, into);
            }
            start += depth;
            if start >= k {
                break;
            }
        }
    }
}
multiversion! {
    fn panel_product(
        m: usize,
        k: usize,
        a: Matrix<'_>,
        panel: &[f32],
        out: &mut [f32],
        out_stride: usize,
        width: usize,
        into: Into,
    ) = panel_body
}

/// The right operand of several products, packed once: `[n / 32, k, 32]`.
#[derive(Default)]
pub(crate) struct Panels {
    data: Floats,
    k: usize,
    n: usize,
}

impl Panels {
    /// Packs `b`, which has `k` rows and `n` columns.
    ///
    /// # Panics
    /// When the matrix is smaller than that.
    pub fn pack(&mut self, level: Level, k: usize, n: usize, b: Matrix<'_>) {
        (self.k, self.n) = (k, n);
        self.data.grow(n.div_ceil(PANEL) * k * PANEL);
        for (panel, from) in self.data.chunks_exact_mut((k * PANEL).max(1)).zip((0..n).step_by(PANEL)) {
            pack_panel(level, k, n, b, from, panel);
        }
    }

    /// `out = a b`, or `out += a b`, for the columns `from ..` (a multiple of [`PANEL`]) `to` of `b` and its rows
    /// `first .. first + k`. Column `from` of the product is column 0 of `out`.
    ///
    /// # Panics
    /// When a slice is too short.
    #[allow(clippy::too_many_arguments)]
    pub fn product(
        &self,
        level: Level,
        m: usize,
        (first, k): (usize, usize),
        (from, to): (usize, usize),
        a: Matrix<'_>,
        out: &mut [f32],
        out_stride: usize,
        into: Into,
    ) {
        assert!(from.is_multiple_of(PANEL) && to <= self.n && first + k <= self.k);
        for column in (from..to).step_by(PANEL) {
            let panel = &self.data[(column / PANEL * self.k + first) * PANEL..][..k * PANEL];
            let out = &mut out[column - from..];
            panel_product(level, m, k, a, panel, out, out_stride, PANEL.min(to - column), into);
        }
    }
}

/// `out = a b`, or `out += a b`: `a` has `m` rows and `k` columns, `b` `k` rows and `n` columns; rows of `out` lie
/// `out_stride` floats apart. `scratch` holds a panel.
///
/// # Panics
/// When a slice is too short.
#[allow(clippy::too_many_arguments)]
pub(crate) fn product(
    level: Level,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    out_stride: usize,
    into: Into,
    scratch: &mut Floats,
) {
    if m == 0 {
        return;
    }
    scratch.grow(k * PANEL);
    for from in (0..n).step_by(PANEL) {
        pack_panel(level, k, n, b, from, scratch);
        let width = PANEL.min(n - from);
        panel_product(level, m, k, a, scratch, &mut out[from..], out_stride, width, into);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::generate::rounding::{noise, same_bits};

    fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn right_and_the_same_bits_on_every_level_and_for_transposed_operands(
            m in 1usize..40, n in 1usize..70, k in 1usize..40, deep: bool, seed: u64, add: bool,
        ) {
            let k = if deep { k + DEPTH } else { k };
            let (a, b) = (noise(m * k, seed), noise(k * n, seed ^ 1));
            let (at, bt) = (turned(&a, m, k), turned(&b, k, n));
            let stride = n + 3;
            let into = if add { Into::Add } else { Into::Set };
            let mut scratch = Floats::default();
            let mut run = |level, a: Matrix<'_>, b: Matrix<'_>| {
                let mut out = vec![0.5; m * stride];
                product(level, (m, n, k), a, b, &mut out, stride, into, &mut scratch);
                out
            };
            let plain = run(Level::detect(), Matrix::new(&a, k), Matrix::new(&b, n));
            for i in 0..m {
                for j in 0..n {
                    let chain = |from: usize| {
                        (from..k.min(from + DEPTH)).fold(0.0f32, |sum, p| a[i * k + p].mul_add(b[p * n + j], sum))
                    };
                    let first = chain(0) + if add { 0.5 } else { 0.0 };
                    let expected = (DEPTH..k).step_by(DEPTH).fold(first, |sum, from| chain(from) + sum);
                    prop_assert_eq!(expected.to_bits(), plain[i * stride + j].to_bits());
                }
                prop_assert!(plain[i * stride + n..(i + 1) * stride].iter().all(|v| *v == 0.5));
            }
            for level in Level::available() {
                for a in [Matrix::new(&a, k), Matrix::new(&at, m).t()] {
                    for b in [Matrix::new(&b, n), Matrix::new(&bt, k).t()] {
                        let other = run(level, a, b);
                        prop_assert!(same_bits(&plain, &other), "{:?}", level);
                    }
                }
            }
            // A part of the columns and of the rows of a packed matrix.
            let mut panels = Panels::default();
            panels.pack(Level::detect(), k, n, Matrix::new(&b, n));
            let mut out = vec![0.5; m * stride];
            panels.product(Level::detect(), m, (0, k), (0, n), Matrix::new(&a, k), &mut out, stride, into);
            prop_assert!(same_bits(&plain, &out));
        }
    }
}
