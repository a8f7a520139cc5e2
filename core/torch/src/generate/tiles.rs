//! The inner loop of every matrix product: some rows against a panel of 32 columns, with as many sums at a time as the
//! processor has registers.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_castps_si512, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_set1_ps,
    _mm512_storeu_ps,
};

use super::simd::{LANES, Vector};

/// Columns of a panel.
pub(crate) const PANEL: usize = 2 * LANES;

/// What happens to what is in the output already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    /// Overwritten.
    Set,
    /// Added to.
    Add,
}

/// Sixteen sums of products.
///
/// # Safety
/// As of [`Vector`].
pub(crate) trait Sums: Copy {
    /// Whether there are 32 registers of this size, and not 16 of half of it.
    const WIDE: bool;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    unsafe fn store(self, at: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// `sum` and the products of the lanes of both.
    unsafe fn products(self, other: Self, sum: Self) -> Self;
}

impl<V: Vector> Sums for V {
    const WIDE: bool = size_of::<V>() == 64 && align_of::<V>() == 64;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise, as in the other methods.
        unsafe { V::splat(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { V::load(at) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { V::store(self, at) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { V::add(self, other) }
    }
    #[inline(always)]
    unsafe fn products(self, other: Self, sum: Self) -> Self {
        // SAFETY: as above.
        unsafe { self.fma(other, sum) }
    }
}

/// Lanes that hold two bf16 numbers each where they are multiplied, and f32 sums where they are added.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Halves(__m512);

#[cfg(target_arch = "x86_64")]
impl Sums for Halves {
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise, as in the other methods.
        unsafe { Self(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { Self(_mm512_loadu_ps(at)) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(at, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn products(self, other: Self, sum: Self) -> Self {
        // SAFETY: as above; the transmutations are between 512-bit registers.
        unsafe {
            let pairs = |x: Self| std::mem::transmute::<__m512i, __m512bh>(_mm512_castps_si512(x.0));
            Self(_mm512_dpbf16_ps(sum.0, pairs(other), pairs(self)))
        }
    }
}

/// `R` rows against `C` vectors of columns of a panel; see [`rows`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<V: Sums, const R: usize, const C: usize, const ACROSS: bool>(
    a: *const f32,
    stride: usize,
    panel: *const f32,
    k: usize,
    bias: *const f32,
    out: *mut f32,
    out_stride: usize,
    width: usize,
    into: Into,
) {
    // SAFETY: the caller gives R rows of k lanes, k rows of a panel, and R rows of `width` floats to write.
    unsafe {
        let mut acc = [[V::splat(0.0); C]; R];
        for p in 0..k {
            let mut w = [V::splat(0.0); C];
            for (c, w) in w.iter_mut().enumerate() {
                *w = V::load(panel.add(p * PANEL + c * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(if ACROSS { *a.add(p * stride + r) } else { *a.add(r * stride + p) });
                for c in 0..C {
                    acc[c] = a.products(w[c], acc[c]);
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
                let left = width.saturating_sub(c * LANES);
                if left >= LANES {
                    if into == Into::Add {
                        y = y.add(V::load(at));
                    }
                    y.store(at);
                } else if left > 0 {
                    let mut lanes = [0.0; LANES];
                    y.store(lanes.as_mut_ptr());
                    for (j, lane) in lanes.iter().enumerate().take(left) {
                        *at.add(j) = if into == Into::Add { lane + *at.add(j) } else { *lane };
                    }
                }
            }
        }
    }
}

/// All rows against `C` vectors of a panel: as many at a time as the registers hold, then ever fewer.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn strips<V: Sums, const C: usize, const ACROSS: bool>(
    mut count: usize,
    mut a: *const f32,
    stride: usize,
    panel: *const f32,
    k: usize,
    bias: *const f32,
    mut out: *mut f32,
    out_stride: usize,
    width: usize,
    into: Into,
) {
    macro_rules! run {
        ($n:literal) => {{
            tile::<V, $n, C, ACROSS>(a, stride, panel, k, bias, out, out_stride, width, into);
            a = a.add(if ACROSS { $n } else { $n * stride });
            out = out.add($n * out_stride);
            count -= $n;
        }};
    }
    // SAFETY: `count` rows are behind both pointers, and they advance by the rows that were done.
    unsafe {
        if V::WIDE {
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
        match count {
            5 => run!(5),
            4 => run!(4),
            3 => run!(3),
            2 => run!(2),
            1 => run!(1),
            _ => {}
        }
        let _ = (a, out, count);
    }
}

/// `count` rows of `k` lanes against a panel [k, 32]: the first `width` sums of every row, and `bias` unless it is null, go
/// to `out`, whose rows lie `out_stride` apart. `ACROSS` says that the rows of `a` lie one lane apart and what is in a row
/// `stride`; else it is the other way round.
///
/// Every sum is a chain of V's products in their order: it does not depend on the rows beside it.
///
/// # Safety
/// All of that is there, the bias with 32 floats, and the processor has V's instructions.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn rows<V: Sums, const ACROSS: bool>(
    count: usize,
    a: *const f32,
    stride: usize,
    panel: *const f32,
    k: usize,
    bias: *const f32,
    out: *mut f32,
    out_stride: usize,
    width: usize,
    into: Into,
) {
    // SAFETY: the caller's promise; the second half is there where `width` reaches into it.
    unsafe {
        if !V::WIDE {
            strips::<V, 1, ACROSS>(count, a, stride, panel, k, bias, out, out_stride, width.min(LANES), into);
            if width > LANES {
                let bias = if bias.is_null() { bias } else { bias.add(LANES) };
                let (panel, out) = (panel.add(LANES), out.add(LANES));
                strips::<V, 1, ACROSS>(count, a, stride, panel, k, bias, out, out_stride, width - LANES, into);
            }
        } else if width > LANES {
            strips::<V, 2, ACROSS>(count, a, stride, panel, k, bias, out, out_stride, width, into);
        } else {
            strips::<V, 1, ACROSS>(count, a, stride, panel, k, bias, out, out_stride, width, into);
        }
    }
}
