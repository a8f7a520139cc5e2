//! What the tests of the kernels measure with: numbers that look like noise, bits, and the unit of rounding.
//!
//! A limit on an error is worked out from it: a sum or a dot product of n terms in f32 is off by at most about
//! n · [`UNIT`] · Σ|terms|, in whatever order it is added up (Higham 2002, section 3.1).

/// Largest relative error of one rounding to f32, 2⁻²⁴.
pub(crate) const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// `n` numbers between -1 and 1.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Whether all numbers of `a` are in `b`, in this order, to the last bit.
pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() <= b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
