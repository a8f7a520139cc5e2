//! The small kernels between the matrix products: RMS norm, rotary positions, SwiGLU.
//!
//! Rows of activations are padded to whole vectors; what pads them is 0 and stays 0.

use super::simd::{LANES, Level, Vector, exp, multiversion};

#[inline(always)]
unsafe fn rms_norm_body<V: Vector>(x: &[f32], weight: &[f32], width: usize, epsilon: f32, out: &mut [f32]) {
    let n = weight.len();
    assert!(x.len() == n && out.len() == n && n.is_multiple_of(LANES));
    // SAFETY: the three slices hold `n` floats, whole vectors.
    unsafe {
        let mut squares = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            let v = V::load(x.as_ptr().add(i));
            squares = v.fma(v, squares);
        }
        let scale = V::splat(1.0 / (squares.sum() / width as f32 + epsilon).sqrt());
        for i in (0..n).step_by(LANES) {
            let v = V::load(x.as_ptr().add(i)).mul(scale);
            v.mul(V::load(weight.as_ptr().add(i))).store(out.as_mut_ptr().add(i));
        }
    }
}
multiversion! {
    /// out = weight · x / √(mean(x²) + ε), the mean over the `width` floats that are not padding.
    pub(crate) fn rms_norm(x: &[f32], weight: &[f32], width: usize, epsilon: f32, out: &mut [f32]) = rms_norm_body
}

/// RMS norm of one head in place (Qwen 3's q and k norms); `copy` is scratch.
pub(crate) fn rms_norm_in_place(
    level: Level,
    x: &mut [f32],
    weight: &[f32],
    width: usize,
    epsilon: f32,
    copy: &mut Vec<f32>,
) {
    copy.clear();
    copy.extend_from_slice(x);
    rms_norm(level, copy, weight, width, epsilon, x);
}

/// Turns each pair (x[i], x[i + half]) by the angle of the row's position, as transformers' `rotate_half` does.
/// `turn` holds `half` cosines and then `half` sines.
pub(crate) fn rotate(x: &mut [f32], turn: &[f32], half: usize) {
    let (cos, sin) = turn.split_at(half);
    let (low, rest) = x.split_at_mut(half);
    for (((a, b), cos), sin) in low.iter_mut().zip(&mut rest[..half]).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * cos - y * sin;
        *b = y * cos + x * sin;
    }
}

#[inline(always)]
unsafe fn swiglu_body<V: Vector>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = out.len();
    assert!(gate.len() == n && up.len() == n && n.is_multiple_of(LANES));
    // SAFETY: the three slices hold `n` floats, whole vectors.
    unsafe {
        let one = V::splat(1.0);
        let zero = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            let g = V::load(gate.as_ptr().add(i));
            let u = V::load(up.as_ptr().add(i));
            // exp of minus the size, so that it never overflows: sigmoid(g) is 1 / (1 + e) or e / (1 + e).
            let e = exp(g.min(zero.sub(g)));
            let positive = one.keep_at_least(g, zero);
            let numerator = positive.add(e.sub(e.mul(positive)));
            g.mul(numerator.div(one.add(e))).mul(u).store(out.as_mut_ptr().add(i));
        }
    }
}
multiversion! {
    /// out = silu(gate) · up.
    pub(crate) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::rounding::UNIT, *};

    proptest! {
        #[test]
        fn kernels_are_right_and_the_same_on_every_level(
            x in proptest::collection::vec(-30.0f32..30.0, 48), w in proptest::collection::vec(-2.0f32..2.0, 48),
        ) {
            let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 48.0;
            let mut first: Option<Vec<u32>> = None;
            for level in Level::available() {
                let (mut norm, mut glu) = (vec![0.0; 48], vec![0.0; 48]);
                rms_norm(level, &x, &w, 48, 1e-5, &mut norm);
                swiglu(level, &x, &w, &mut glu);
                for i in 0..48 {
                    let (x, w) = (f64::from(x[i]), f64::from(w[i]));
                    // The mean of squares and ε: 3 roundings in each lane, 4 of the lanes and 2. Its root has half of
                    // their error; then root, inverse and two products.
                    let exact = w * x / (mean + f64::from(1e-5f32)).sqrt();
                    prop_assert!((f64::from(norm[i]) - exact).abs() <= 9.0 * UNIT * exact.abs());
                    // Two units in the last place of the exponential; sum, quotient, two products.
                    let exact = x / (1.0 + (-x).exp()) * w;
                    prop_assert!((f64::from(glu[i]) - exact).abs() <= 10.0 * UNIT * exact.abs());
                }
                let bits: Vec<u32> = norm.iter().chain(&glu).map(|v| v.to_bits()).collect();
                let first = first.get_or_insert_with(|| bits.clone());
                prop_assert_eq!(first, &bits, "{:?}", level);
            }
        }

        #[test]
        fn turning_keeps_the_length_and_turns_back(x in proptest::collection::vec(-3.0f32..3.0, 8), angle in -3.0f32..3.0) {
            let turn = |a: f32| [[a.cos(); 4], [a.sin(); 4]].concat();
            let length = |v: &[f32], i: usize| f64::from(v[i]).hypot(f64::from(v[i + 4]));
            let (mut there, mut back) = (x.clone(), x.clone());
            rotate(&mut there, &turn(angle), 4);
            back.copy_from_slice(&there);
            rotate(&mut back, &turn(-angle), 4);
            for i in 0..4 {
                // A coordinate is off by two roundings and by those of sine and cosine: by 3.5 units of the pair's length.
                let most = 5.0 * UNIT * length(&x, i);
                prop_assert!((length(&x, i) - length(&there, i)).abs() <= most);
                prop_assert!([i, i + 4].iter().all(|i| f64::from(x[*i] - back[*i]).abs() <= 2.0 * most));
            }
        }
    }
}
