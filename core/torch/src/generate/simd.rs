//! Sixteen `f32` lanes at a time, on whatever the processor has.
//!
//! Every kernel of the CPU path is written once, over [`Vector`], and compiled for AVX-512, AVX2 with FMA, and plain
//! Rust. The lanes, the order of sums and the fused multiply-add are the same in all three, so the bits are too: a
//! result depends on the numbers that go in and on nothing else.

/// What the processor can do, found at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit registers with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// No assumption. `mul_add` gives the same bits without the instruction, slowly.
    Portable,
}

impl Level {
    /// The best level of this processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Level::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// All levels that this processor can run.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                levels.push(Level::Avx512);
            }
        }
        levels
    }
}

/// Whether the processor multiplies pairs of bf16 numbers.
pub(crate) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Lanes of a [`Vector`].
pub(crate) const LANES: usize = 16;

/// `n` rounded up to whole vectors.
pub(crate) const fn padded(n: usize) -> usize {
    n.div_ceil(LANES) * LANES
}

/// Sixteen lanes.
///
/// # Safety
/// The methods of an implementation may only run on a processor that has its instructions; [`multiversion`] sees to it.
/// `load` and `store` need sixteen readable / writable floats behind the pointer.
pub(crate) trait Vector: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    unsafe fn store(self, at: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `self * a + b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `self` with an integer n added to the exponent's bits, where `magic` is [`MAGIC`] + n.
    unsafe fn scale_by_power(self, magic: Self) -> Self;
    /// `self` where `x >= limit`, else 0.
    unsafe fn keep_at_least(self, x: Self, limit: Self) -> Self;
    /// Sum of the lanes: halves are added until one is left.
    unsafe fn sum(self) -> f32;
    /// Largest lane.
    unsafe fn largest(self) -> f32;
    /// [`Vector::sum`] of sixteen vectors, one per lane of the result.
    #[inline(always)]
    unsafe fn sums(all: &[Self; LANES]) -> Self {
        // SAFETY: the caller's promise, passed on; `lanes` has room for a vector.
        unsafe {
            let lanes: [f32; LANES] = std::array::from_fn(|i| all[i].sum());
            Self::load(lanes.as_ptr())
        }
    }
}

/// 1.5 · 2²³: added to a small float it leaves the nearest integer in the last bits.
const MAGIC: f32 = 12_582_912.0;

/// e to the power of each lane, within two units in the last place; 0 below -87.3, the largest power at 88 above it.
///
/// The usual reduction x = n ln 2 + r with a polynomial for e^r (coefficients of Cephes' `expf`).
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller runs on a processor that has V's instructions.
    unsafe {
        let low = V::splat(-87.3);
        let clamped = x.max(low).min(V::splat(88.0));
        let magic = clamped.fma(V::splat(std::f32::consts::LOG2_E), V::splat(MAGIC));
        let n = magic.sub(V::splat(MAGIC));
        let r = n.fma(V::splat(-0.693_359_4), clamped);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.987_569_1e-4);
        p = p.fma(r, V::splat(1.398_199_9e-3));
        p = p.fma(r, V::splat(8.333_452e-3));
        p = p.fma(r, V::splat(4.166_579_6e-2));
        p = p.fma(r, V::splat(1.666_666_6e-1));
        p = p.fma(r, V::splat(0.5));
        let p = p.fma(r.mul(r), r).add(V::splat(1.0));
        p.scale_by_power(magic).keep_at_least(x, low)
    }
}

impl Vector for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: sixteen floats are readable, says the trait.
        unsafe { at.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: sixteen floats are writable, says the trait.
        unsafe { at.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] / other[i])
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|i| self[i].mul_add(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn scale_by_power(self, magic: Self) -> Self {
        std::array::from_fn(|i| {
            let n = magic[i].to_bits().wrapping_sub(MAGIC.to_bits());
            f32::from_bits(self[i].to_bits().wrapping_add(n << 23))
        })
    }
    #[inline(always)]
    unsafe fn keep_at_least(self, x: Self, limit: Self) -> Self {
        std::array::from_fn(|i| if x[i] >= limit[i] { self[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let a: [f32; 8] = std::array::from_fn(|i| self[i] + self[i + 8]);
        let b: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
        (b[0] + b[2]) + (b[1] + b[3])
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    use super::{MAGIC, Vector};

    // SAFETY (all blocks of this module): the trait's callers promise the instructions and the sixteen floats.

    impl Vector for __m512 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(at) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe { _mm512_storeu_ps(at, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { _mm512_sub_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { _mm512_mul_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { _mm512_div_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { _mm512_max_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { _mm512_min_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { _mm512_fmadd_ps(self, a, b) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(self, magic: Self) -> Self {
            unsafe {
                let n = _mm512_sub_epi32(_mm512_castps_si512(magic), _mm512_set1_epi32(MAGIC.to_bits() as i32));
                let bits = _mm512_add_epi32(_mm512_castps_si512(self), _mm512_slli_epi32::<23>(n));
                _mm512_castsi512_ps(bits)
            }
        }
        #[inline(always)]
        unsafe fn keep_at_least(self, x: Self, limit: Self) -> Self {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, limit), self) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe {
                let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self)));
                sum_256(_mm256_add_ps(_mm512_castps512_ps256(self), high))
            }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe { _mm512_reduce_max_ps(self) }
        }
        #[inline(always)]
        unsafe fn sums(all: &[Self; 16]) -> Self {
            // The same tree of additions as `sum`, for two vectors at a time in the halves of one.
            unsafe {
                let zero = _mm512_setzero_ps();
                let mut eight = [zero; 8];
                for (i, y) in eight.iter_mut().enumerate() {
                    let (a, b) = (all[i], all[i + 8]);
                    *y = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
                }
                // Quarters of four: vectors i, i + 4, i + 8, i + 12.
                let mut four = [zero; 4];
                for (i, y) in four.iter_mut().enumerate() {
                    let (a, b) = (eight[i], eight[i + 4]);
                    *y = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
                }
                let mut two = [zero; 2];
                for (i, y) in two.iter_mut().enumerate() {
                    let (a, b) = (four[i], four[i + 2]);
                    *y = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xEE>(a, b));
                }
                let (a, b) = (two[0], two[1]);
                let one = _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xDD>(a, b));
                // Lane 4 q + l holds vector 4 · [0, 2, 1, 3][q] + [0, 2, 1, 3][l], worked out from the shuffles above.
                let order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
                _mm512_permutexvar_ps(order, one)
            }
        }
    }

    #[inline(always)]
    unsafe fn sum_256(x: __m256) -> f32 {
        unsafe {
            let b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let c = _mm_add_ps(b, _mm_movehl_ps(b, b));
            _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps::<1>(c, c)))
        }
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Pair(__m256, __m256);

    impl Vector for Pair {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            unsafe { Pair(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe {
                _mm256_storeu_ps(at, self.0);
                _mm256_storeu_ps(at.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Pair(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Pair(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Pair(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Pair(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Pair(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Pair(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Pair(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(self, magic: Self) -> Self {
            unsafe { Pair(scale_256(self.0, magic.0), scale_256(self.1, magic.1)) }
        }
        #[inline(always)]
        unsafe fn keep_at_least(self, x: Self, limit: Self) -> Self {
            unsafe {
                Pair(
                    _mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_GE_OQ>(x.0, limit.0)),
                    _mm256_and_ps(self.1, _mm256_cmp_ps::<_CMP_GE_OQ>(x.1, limit.1)),
                )
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { sum_256(_mm256_add_ps(self.0, self.1)) }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe {
                let a = _mm256_max_ps(self.0, self.1);
                let b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let c = _mm_max_ps(b, _mm_movehl_ps(b, b));
                _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps::<1>(c, c)))
            }
        }
    }

    #[inline(always)]
    unsafe fn scale_256(x: __m256, magic: __m256) -> __m256 {
        unsafe {
            let n = _mm256_sub_epi32(_mm256_castps_si256(magic), _mm256_set1_epi32(MAGIC.to_bits() as i32));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32::<23>(n)))
        }
    }
}

/// Defines `$name`, which runs `$body::<V>` with the widest vectors of `level`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(level: $crate::generate::simd::Level, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: the function's target feature is what the vector type needs.
                    unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: the function's target features are what the vector type needs.
                    unsafe { $body::<$crate::generate::simd::x86::Pair>($($arg),*) }
                }
                match level {
                    // SAFETY: a level other than Portable is made only where the processor has it.
                    $crate::generate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::generate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::generate::simd::Level::Portable => {}
                }
            }
            // SAFETY: plain arrays need no particular processor.
            unsafe { $body::<[f32; $crate::generate::simd::LANES]>($($arg),*) }
        }
    };
}
pub(crate) use multiversion;

/// One cache line of floats: what [`Floats`] is made of, so that no vector crosses a line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A growable array of floats that starts on a cache line.
#[derive(Clone, Default)]
pub(crate) struct Floats {
    lines: Vec<Line>,
    len: usize,
}

impl Floats {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Floats { lines: vec![Line([0.0; LANES]); len.div_ceil(LANES)], len }
    }

    /// Makes it at least `len` long; new floats are 0.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.len {
            self.lines.resize(len.div_ceil(LANES), Line([0.0; LANES]));
            self.len = len;
        }
    }

    /// [`grow`](Self::grow) for what may be too much: whether there was memory for it. Takes no more than is asked for.
    pub(crate) fn try_grow(&mut self, len: usize) -> bool {
        let more = len.div_ceil(LANES).saturating_sub(self.lines.len());
        let there = self.lines.try_reserve_exact(more).is_ok();
        if there {
            self.grow(len);
        }
        there
    }
}

impl std::ops::Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a Line is sixteen floats without padding, and `len` floats are inside the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// dst = e^(scale · (x - shift)) for whole vectors; `x` and `dst` may be padded with anything.
#[inline(always)]
unsafe fn exp_scaled_body<V: Vector>(x: &[f32], shift: f32, scale: f32, dst: &mut [f32]) {
    debug_assert!(x.len() == dst.len() && x.len().is_multiple_of(LANES));
    // SAFETY: both slices hold whole vectors, and the caller's level has V's instructions.
    unsafe {
        let (shift, scale) = (V::splat(shift), V::splat(scale));
        for i in (0..x.len().min(dst.len()) / LANES * LANES).step_by(LANES) {
            exp(V::load(x.as_ptr().add(i)).sub(shift).mul(scale)).store(dst.as_mut_ptr().add(i));
        }
    }
}
multiversion! {
    /// dst = e^(scale · (x - shift)); both slices are of one length, a multiple of [`LANES`].
    pub(crate) fn exp_scaled(x: &[f32], shift: f32, scale: f32, dst: &mut [f32]) = exp_scaled_body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exp_is_right_and_the_same_on_every_level(xs in proptest::collection::vec(-100.0f32..87.0, 32)) {
            let mut reference = vec![0.0; 32];
            exp_scaled(Level::Portable, &xs, 0.0, 1.0, &mut reference);
            for (x, y) in xs.iter().zip(&reference) {
                let exact = f64::from(*x).exp();
                if *x > -87.0 {
                    prop_assert!((f64::from(*y) - exact).abs() <= 2.5e-7 * exact, "exp({x}) = {y}, not {exact}");
                } else {
                    prop_assert!(*y < 1.7e-38);
                }
            }
            for level in Level::available() {
                let mut other = vec![0.0; 32];
                exp_scaled(level, &xs, 0.0, 1.0, &mut other);
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&reference), bits(&other), "{:?}", level);
            }
        }
    }

    #[inline(always)]
    unsafe fn sums_body<V: Vector>(x: &[f32], out: &mut [f32], single: &mut [f32]) {
        assert!(x.len() == LANES * LANES && out.len() == LANES && single.len() == LANES);
        // SAFETY: the lengths were checked.
        unsafe {
            let all: [V; LANES] = std::array::from_fn(|i| V::load(x.as_ptr().add(i * LANES)));
            V::sums(&all).store(out.as_mut_ptr());
            for (single, v) in single.iter_mut().zip(all) {
                *single = v.sum();
            }
        }
    }
    multiversion! {
        fn sums(x: &[f32], out: &mut [f32], single: &mut [f32]) = sums_body
    }

    #[test]
    fn sixteen_sums_at_once_are_sixteen_sums() {
        let x: Vec<f32> = (0..256u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8).collect();
        let mut first = None;
        for level in Level::available() {
            let (mut out, mut single) = (vec![0.0; 16], vec![0.0; 16]);
            sums(level, &x, &mut out, &mut single);
            assert_eq!(out, single, "{level:?}");
            assert_eq!(first.get_or_insert(out.clone()), &out, "{level:?}");
        }
    }

    #[test]
    fn lines_are_aligned_and_grow_keeps() {
        let mut floats = Floats::zeros(5);
        floats[4] = 3.0;
        floats.grow(100);
        assert_eq!((floats.len(), floats[4], floats[99]), (100, 3.0, 0.0));
        assert_eq!(floats.as_ptr() as usize % 64, 0);
    }
}
