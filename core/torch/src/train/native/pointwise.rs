//! What lies between the matrix products, forward and backward: norms, rotary positions, SwiGLU, softmax.
//!
//! Rows may have any length; what is missing of a last vector counts as 0.

use crate::generate::simd::{LANES, Vector, exp, multiversion};

/// Sixteen floats, or as many as there are.
#[inline(always)]
unsafe fn load<V: Vector>(at: *const f32, left: usize) -> V {
    // SAFETY: the caller has `left` floats at `at`.
    unsafe {
        if left >= LANES {
            return V::load(at);
        }
        let mut lanes = [0.0; LANES];
        for (j, lane) in lanes.iter_mut().enumerate().take(left) {
            *lane = *at.add(j);
        }
        V::load(lanes.as_ptr())
    }
}

/// Writes as many lanes as there is room for.
#[inline(always)]
unsafe fn store<V: Vector>(v: V, at: *mut f32, left: usize) {
    // SAFETY: the caller has room for `left` floats at `at`.
    unsafe {
        if left >= LANES {
            return v.store(at);
        }
        let mut lanes = [0.0; LANES];
        v.store(lanes.as_mut_ptr());
        for (j, lane) in lanes.iter().enumerate().take(left) {
            *at.add(j) = *lane;
        }
    }
}

#[inline(always)]
unsafe fn norm_body<V: Vector>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    let n = weight.len();
    assert!(x.len() >= n && out.len() >= n);
    // SAFETY: the three slices hold `n` floats.
    unsafe {
        let mut squares = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            let v = load::<V>(x.as_ptr().add(i), n - i);
            squares = v.fma(v, squares);
        }
        let scale = 1.0 / (squares.sum() / n as f32 + epsilon).sqrt();
        let factor = V::splat(scale);
        for i in (0..n).step_by(LANES) {
            let v = load::<V>(x.as_ptr().add(i), n - i).mul(factor);
            store(v.mul(load(weight.as_ptr().add(i), n - i)), out.as_mut_ptr().add(i), n - i);
        }
        scale
    }
}
multiversion! {
    /// out = weight · x · s with s = 1 / √(mean(x²) + ε), which is returned.
    pub(crate) fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> f32 = norm_body
}

#[inline(always)]
unsafe fn norm_back_body<V: Vector>(
    gradient: &[f32],
    x: &[f32],
    weight: &[f32],
    scale: f32,
    add: Option<&[f32]>,
    out: &mut [f32],
    weight_gradient: &mut [f32],
) {
    let n = weight.len();
    assert!(gradient.len() >= n && x.len() >= n && out.len() >= n && weight_gradient.len() >= n);
    assert!(add.is_none_or(|add| add.len() >= n));
    // SAFETY: all slices hold `n` floats.
    unsafe {
        let mut dot = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            let g = load::<V>(gradient.as_ptr().add(i), n - i).mul(load(weight.as_ptr().add(i), n - i));
            dot = g.fma(load(x.as_ptr().add(i), n - i), dot);
        }
        let along = V::splat(-scale * scale * scale * dot.sum() / n as f32);
        let scale = V::splat(scale);
        for i in (0..n).step_by(LANES) {
            let left = n - i;
            let (g, x) = (load::<V>(gradient.as_ptr().add(i), left), load::<V>(x.as_ptr().add(i), left));
            let sum: V = load(weight_gradient.as_ptr().add(i), left);
            store(g.mul(x).fma(scale, sum), weight_gradient.as_mut_ptr().add(i), left);
            let mut y = g.mul(load(weight.as_ptr().add(i), left)).fma(scale, along.mul(x));
            if let Some(add) = add {
                y = y.add(load(add.as_ptr().add(i), left));
            }
            store(y, out.as_mut_ptr().add(i), left);
        }
    }
}
multiversion! {
    /// Gradient of [`norm`]: `out` gets that of `x` (plus `add`), `weight_gradient` is added to. `scale` is what
    /// [`norm`] returned.
    pub(crate) fn norm_back(
        gradient: &[f32],
        x: &[f32],
        weight: &[f32],
        scale: f32,
        add: Option<&[f32]>,
        out: &mut [f32],
        weight_gradient: &mut [f32],
    ) = norm_back_body
}

/// Turns each pair (x[i], x[i + half]) by the angle whose cosines and then sines `turn` holds, or, `back`, through the
/// transposed matrix: the gradient's way.
pub(crate) fn rotate(x: &mut [f32], turn: &[f32], half: usize, back: bool) {
    let (cos, sin) = turn.split_at(half);
    let (low, high) = x.split_at_mut(half);
    let sign = if back { -1.0 } else { 1.0 };
    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (x, y, sin) = (*a, *b, sign * sin);
        *a = x * cos - y * sin;
        *b = y * cos + x * sin;
    }
}

/// 1 / (1 + e^-x), without overflow.
#[inline(always)]
unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller runs on a processor that has V's instructions.
    unsafe {
        let (one, zero) = (V::splat(1.0), V::splat(0.0));
        let e = exp(x.min(zero.sub(x)));
        let positive = one.keep_at_least(x, zero);
        positive.add(e.sub(e.mul(positive))).div(one.add(e))
    }
}

#[inline(always)]
unsafe fn swiglu_body<V: Vector>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = out.len();
    assert!(gate.len() >= n && up.len() >= n);
    // SAFETY: the three slices hold `n` floats.
    unsafe {
        for i in (0..n).step_by(LANES) {
            let g = load::<V>(gate.as_ptr().add(i), n - i);
            let y = g.mul(sigmoid(g)).mul(load(up.as_ptr().add(i), n - i));
            store(y, out.as_mut_ptr().add(i), n - i);
        }
    }
}
multiversion! {
    /// out = silu(gate) · up.
    pub(crate) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_body
}

#[inline(always)]
unsafe fn swiglu_back_body<V: Vector>(gradient: &mut [f32], gate: &mut [f32], up: &mut [f32]) {
    let n = gradient.len();
    assert!(gate.len() >= n && up.len() >= n);
    // SAFETY: the three slices hold `n` floats.
    unsafe {
        let one = V::splat(1.0);
        for i in (0..n).step_by(LANES) {
            let left = n - i;
            let (d, g) = (load::<V>(gradient.as_ptr().add(i), left), load::<V>(gate.as_ptr().add(i), left));
            let u = load::<V>(up.as_ptr().add(i), left);
            let s = sigmoid(g);
            let silu = g.mul(s);
            store(silu.mul(u), gradient.as_mut_ptr().add(i), left);
            store(d.mul(silu), up.as_mut_ptr().add(i), left);
            let slope = s.mul(g.fma(one.sub(s), one));
            store(d.mul(u).mul(slope), gate.as_mut_ptr().add(i), left);
        }
    }
}
multiversion! {
    /// Gradient of [`swiglu`] in place: `gradient` becomes the output again, `gate` and `up` their gradients.
    pub(crate) fn swiglu_back(gradient: &mut [f32], gate: &mut [f32], up: &mut [f32]) = swiglu_back_body
}

#[inline(always)]
unsafe fn softmax_body<V: Vector>(row: &mut [f32], from: usize, to: usize, scale: f32) -> f32 {
    let n = row.len();
    assert!(from < to && to <= n);
    row[..from].fill(f32::NEG_INFINITY);
    row[to..].fill(f32::NEG_INFINITY);
    // SAFETY: the slice holds `n` floats; a last part is filled up with what does not change the result.
    unsafe {
        let factor = V::splat(scale);
        let mut most = V::splat(f32::NEG_INFINITY);
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            most = V::load(row.as_ptr().add(i)).mul(factor).max(most);
        }
        let mut most = most.largest();
        for x in &row[whole..] {
            most = most.max(x * scale);
        }
        let shift = V::splat(most);
        let mut total = V::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let e = exp(V::load(row.as_ptr().add(i)).mul(factor).sub(shift));
            e.store(row.as_mut_ptr().add(i));
            total = total.add(e);
        }
        if whole < n {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            lanes[..n - whole].copy_from_slice(&row[whole..]);
            let e = exp(V::load(lanes.as_ptr()).mul(factor).sub(shift));
            store(e, row.as_mut_ptr().add(whole), n - whole);
            total = total.add(e);
        }
        let total = total.sum();
        let inverse = V::splat(1.0 / total);
        for i in (0..n).step_by(LANES) {
            store(load::<V>(row.as_ptr().add(i), n - i).mul(inverse), row.as_mut_ptr().add(i), n - i);
        }
        most + libm::logf(total)
    }
}
multiversion! {
    /// Softmax of `scale · row[from..to]` in place, with 0 outside; ln Σ e^(scale · x) is returned.
    pub(crate) fn softmax(row: &mut [f32], from: usize, to: usize, scale: f32) -> f32 = softmax_body
}

#[inline(always)]
unsafe fn log_sum_body<V: Vector>(row: &[f32]) -> f32 {
    let n = row.len();
    // SAFETY: the slice holds `n` floats.
    unsafe {
        let whole = n / LANES * LANES;
        let mut most = V::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(LANES) {
            most = V::load(row.as_ptr().add(i)).max(most);
        }
        let most = row[whole..].iter().fold(most.largest(), |most, x| most.max(*x));
        let shift = V::splat(most);
        let mut total = V::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            total = total.add(exp(V::load(row.as_ptr().add(i)).sub(shift)));
        }
        let mut lanes = [f32::NEG_INFINITY; LANES];
        lanes[..n - whole].copy_from_slice(&row[whole..]);
        total = total.add(exp(V::load(lanes.as_ptr()).sub(shift)));
        most + libm::logf(total.sum())
    }
}
multiversion! {
    /// ln Σ e^x over the row. NaN where a value is NaN or all are infinite.
    pub(crate) fn log_sum(row: &[f32]) -> f32 = log_sum_body
}

#[inline(always)]
unsafe fn weighted_exp_body<V: Vector>(row: &mut [f32], scale: f32, shift: f32, weight: f32) {
    let n = row.len();
    // SAFETY: the slice holds `n` floats.
    unsafe {
        let (scale, shift, weight) = (V::splat(scale), V::splat(shift), V::splat(weight));
        for i in (0..n).step_by(LANES) {
            let x = load::<V>(row.as_ptr().add(i), n - i);
            store(exp(x.mul(scale).sub(shift)).mul(weight), row.as_mut_ptr().add(i), n - i);
        }
    }
}
multiversion! {
    /// row = weight · e^(scale · row − shift).
    pub(crate) fn weighted_exp(row: &mut [f32], scale: f32, shift: f32, weight: f32) = weighted_exp_body
}

#[inline(always)]
unsafe fn softmax_back_body<V: Vector>(probabilities: &[f32], gradient: &mut [f32], mean: f32, scale: f32) {
    let n = probabilities.len();
    assert!(gradient.len() >= n);
    // SAFETY: both slices hold `n` floats.
    unsafe {
        let (mean, scale) = (V::splat(mean), V::splat(scale));
        for i in (0..n).step_by(LANES) {
            let p = load::<V>(probabilities.as_ptr().add(i), n - i).mul(scale);
            let g = load::<V>(gradient.as_ptr().add(i), n - i).sub(mean);
            store(p.mul(g), gradient.as_mut_ptr().add(i), n - i);
        }
    }
}
multiversion! {
    /// gradient = scale · probabilities · (gradient − mean), `mean` being Σ probabilities · gradient.
    pub(crate) fn softmax_back(probabilities: &[f32], gradient: &mut [f32], mean: f32, scale: f32) = softmax_back_body
}

#[inline(always)]
unsafe fn dot_body<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len();
    assert!(b.len() >= n);
    // SAFETY: both slices hold `n` floats.
    unsafe {
        let mut sum = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            sum = load::<V>(a.as_ptr().add(i), n - i).fma(load(b.as_ptr().add(i), n - i), sum);
        }
        sum.sum()
    }
}
multiversion! {
    /// Σ a · b.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body
}

#[inline(always)]
unsafe fn add_body<V: Vector>(to: &mut [f32], what: &[f32]) {
    let n = to.len();
    assert!(what.len() >= n);
    // SAFETY: both slices hold `n` floats.
    unsafe {
        for i in (0..n).step_by(LANES) {
            let sum = load::<V>(to.as_ptr().add(i), n - i).add(load(what.as_ptr().add(i), n - i));
            store(sum, to.as_mut_ptr().add(i), n - i);
        }
    }
}
multiversion! {
    /// to += what.
    pub(crate) fn add(to: &mut [f32], what: &[f32]) = add_body
}
