//! Attention of rows over keys and values that lie anywhere in the pool.
//!
//! A row's keys are found through its path: the slot of every position from the first to its own, whichever node of the
//! prefix tree owns them. Scores are computed key by key, the softmax and the weighted sum run over the positions in
//! order, so the result does not depend on where the keys lie, who shares them, or what else is in the batch.
//!
//! Rows whose paths begin alike go through the common keys together, a block at a time, while the block is in the nearest
//! cache. The order of every row's sums stays what it is alone.

use super::simd::{LANES, Vector, exp, multiversion};

/// Shape of the heads. Lengths are padded to whole vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key and value heads; each serves `queries / keys` query heads.
    pub(crate) keys: usize,
    /// Floats per head, padded.
    pub(crate) width: usize,
    /// Factor on the scores, 1 / √(head_dim) of the model.
    pub(crate) scale: f32,
}

/// Scores of `G` query heads against the keys of `path`, into `scores` [G, stride].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn score<V: Vector, const G: usize, const W: usize>(
    q: *const f32,
    width: usize,
    scale: f32,
    keys: *const f32,
    slot_stride: usize,
    path: &[u32],
    scores: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller gives G heads of queries, keys in every slot of the path, and G rows of scores.
    unsafe {
        if W > 0 {
            // The queries stay in registers; sixteen keys are summed up at once.
            let mut qs = [[V::splat(0.0); W]; G];
            for (g, qs) in qs.iter_mut().enumerate() {
                for (w, qs) in qs.iter_mut().enumerate() {
                    *qs = V::load(q.add(g * width + w * LANES));
                }
            }
            for (block, some) in path.chunks(LANES).enumerate() {
                // What fills up the last block is a key that is there; its scores are not used.
                let mut slots = [some[0]; LANES];
                slots[..some.len()].copy_from_slice(some);
                for (g, qs) in qs.iter().enumerate() {
                    let mut acc = [V::splat(0.0); LANES];
                    for (acc, slot) in acc.iter_mut().zip(&slots) {
                        let k = keys.add(*slot as usize * slot_stride);
                        for (w, q) in qs.iter().enumerate() {
                            *acc = q.fma(V::load(k.add(w * LANES)), *acc);
                        }
                    }
                    V::sums(&acc).mul(V::splat(scale)).store(scores.add(g * stride + block * LANES));
                }
            }
        } else {
            for (j, slot) in path.iter().enumerate() {
                let k = keys.add(*slot as usize * slot_stride);
                let mut acc = [V::splat(0.0); G];
                for w in (0..width).step_by(LANES) {
                    let k = V::load(k.add(w));
                    for (g, acc) in acc.iter_mut().enumerate() {
                        *acc = V::load(q.add(g * width + w)).fma(k, *acc);
                    }
                }
                for (g, acc) in acc.into_iter().enumerate() {
                    *scores.add(g * stride + j) = acc.sum() * scale;
                }
            }
        }
    }
}

/// Turns a row of scores into weights before division, in place; what they add up to is returned. `stride` floats are
/// there, and those past `count` become 0.
#[inline(always)]
unsafe fn soften<V: Vector>(scores: *mut f32, count: usize, stride: usize) -> f32 {
    // SAFETY: `stride` is a whole number of vectors of writable floats.
    unsafe {
        for j in count..stride {
            *scores.add(j) = f32::NEG_INFINITY;
        }
        let mut most = V::splat(f32::NEG_INFINITY);
        for j in (0..stride).step_by(LANES) {
            most = V::load(scores.add(j)).max(most);
        }
        let most = V::splat(most.largest());
        let mut total = V::splat(0.0);
        for j in (0..stride).step_by(LANES) {
            let e = exp(V::load(scores.add(j)).sub(most));
            e.store(scores.add(j));
            total = total.add(e);
        }
        total.sum()
    }
}

/// Weighted sums of the values for `G` query heads, `W` vectors of each head, added to what is in `out` unless it is
/// `fresh`, and divided by `totals` where there are some.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn mix<V: Vector, const G: usize, const W: usize>(
    weights: *const f32,
    stride: usize,
    fresh: bool,
    totals: Option<&[f32]>,
    values: *const f32,
    slot_stride: usize,
    path: &[u32],
    out: *mut f32,
    width: usize,
) {
    // SAFETY: the caller gives G rows of weights, values in every slot of the path, and G heads of output.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; G];
        if !fresh {
            for (g, acc) in acc.iter_mut().enumerate() {
                for (w, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(out.add(g * width + w * LANES));
                }
            }
        }
        for (j, slot) in path.iter().enumerate() {
            let v = values.add(*slot as usize * slot_stride);
            let mut vs = [V::splat(0.0); W];
            for (w, vs) in vs.iter_mut().enumerate() {
                *vs = V::load(v.add(w * LANES));
            }
            for (g, acc) in acc.iter_mut().enumerate() {
                let p = V::splat(*weights.add(g * stride + j));
                for w in 0..W {
                    acc[w] = p.fma(vs[w], acc[w]);
                }
            }
        }
        for (g, acc) in acc.iter().enumerate() {
            for (w, acc) in acc.iter().enumerate() {
                let acc = if let Some(totals) = totals { acc.div(V::splat(totals[g])) } else { *acc };
                acc.store(out.add(g * width + w * LANES));
            }
        }
    }
}

/// A row's place: where its queries and its output begin, and the slots that it attends to, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) q: usize,
    pub(crate) out: usize,
    pub(crate) path: &'a [u32],
}

/// Common keys that rows go through together before the next ones.
const BLOCK: usize = 64;

/// `G` query heads, from head `head` on, that share a key head. `scores` is [rows, G, stride].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn group<V: Vector, const G: usize>(
    heads: Heads,
    head: usize,
    q: *const f32,
    keys: *const f32,
    values: *const f32,
    rows: &[Row<'_>],
    shared: usize,
    scores: *mut f32,
    stride: usize,
    totals: &mut [f32],
    out: *mut f32,
) {
    let Heads { keys: key_heads, width, scale, .. } = heads;
    let slot_stride = key_heads * width;
    // SAFETY: the caller gives every row its heads of queries and of output, keys and values in every slot of its path,
    // and G rows of scores; `shared` is a whole number of vectors within every path.
    unsafe {
        // Macros: a closure would be compiled without the vector instructions.
        macro_rules! score_some {
            ($row:expr, $r:expr, $from:expr, $to:expr) => {{
                let (q, path) = (q.add($row.q + head * width), &$row.path[$from..$to]);
                let scores = scores.add($r * G * stride + $from);
                match width / LANES {
                    1 => score::<V, G, 1>(q, width, scale, keys, slot_stride, path, scores, stride),
                    2 => score::<V, G, 2>(q, width, scale, keys, slot_stride, path, scores, stride),
                    4 => score::<V, G, 4>(q, width, scale, keys, slot_stride, path, scores, stride),
                    _ => score::<V, G, 0>(q, width, scale, keys, slot_stride, path, scores, stride),
                }
            }};
        }
        for from in (0..shared).step_by(BLOCK) {
            for (r, row) in rows.iter().enumerate() {
                score_some!(row, r, from, (from + BLOCK).min(shared));
            }
        }
        for (r, row) in rows.iter().enumerate() {
            score_some!(row, r, shared, row.path.len());
            for g in 0..G {
                let count = row.path.len();
                let at = scores.add((r * G + g) * stride);
                totals[r * G + g] = soften::<V>(at, count, count.next_multiple_of(LANES));
            }
        }
        let mut w = 0;
        while w < width {
            let two = width - w >= 2 * LANES;
            macro_rules! mix_some {
                ($row:expr, $r:expr, $from:expr, $to:expr, $totals:expr) => {{
                    let weights = scores.add($r * G * stride + $from).cast_const();
                    let (values, path) = (values.add(w), &$row.path[$from..$to]);
                    let out = out.add($row.out + head * width + w);
                    if two {
                        mix::<V, G, 2>(weights, stride, $from == 0, $totals, values, slot_stride, path, out, width);
                    } else {
                        mix::<V, G, 1>(weights, stride, $from == 0, $totals, values, slot_stride, path, out, width);
                    }
                }};
            }
            for from in (0..shared).step_by(BLOCK) {
                for (r, row) in rows.iter().enumerate() {
                    mix_some!(row, r, from, (from + BLOCK).min(shared), None);
                }
            }
            for (r, row) in rows.iter().enumerate() {
                mix_some!(row, r, shared, row.path.len(), Some(&totals[r * G..(r + 1) * G]));
            }
            w += if two { 2 * LANES } else { LANES };
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_body<V: Vector>(
    heads: Heads,
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    rows: &[Row<'_>],
    shared: usize,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Heads { queries, keys: key_heads, width, .. } = heads;
    let slot_stride = key_heads * width;
    let longest = rows.iter().map(|row| row.path.len()).max().unwrap_or(0);
    let shortest = rows.iter().map(|row| row.path.len()).min().unwrap_or(0);
    let shared = shared.min(shortest) / LANES * LANES;
    let stride = longest.next_multiple_of(LANES);
    // The totals lie behind the scores.
    let (most_scores, most_totals) = (rows.len() * 4 * stride, rows.len() * 4);
    if scores.len() < most_scores + most_totals {
        scores.resize(most_scores + most_totals, 0.0);
    }
    let (scores, totals) = scores.split_at_mut(most_scores);
    assert!(width.is_multiple_of(LANES));
    for row in rows {
        let most = row.path.iter().copied().max().unwrap_or(0) as usize;
        assert!(q.len() >= row.q + queries * width && out.len() >= row.out + queries * width);
        assert!(keys.len() >= (most + 1) * slot_stride && values.len() >= (most + 1) * slot_stride);
    }
    let per_key = queries / key_heads;
    // SAFETY: heads, slots and scores were checked above.
    unsafe {
        for kv in 0..key_heads {
            let (k, v) = (keys.as_ptr().add(kv * width), values.as_ptr().add(kv * width));
            let mut g = 0;
            macro_rules! run {
                ($n:literal) => {{
                    let head = kv * per_key + g;
                    let (q, out, scores) = (q.as_ptr(), out.as_mut_ptr(), scores.as_mut_ptr());
                    group::<V, $n>(heads, head, q, k, v, rows, shared, scores, stride, totals, out);
                    g += $n;
                }};
            }
            while g < per_key {
                match per_key - g {
                    1 => run!(1),
                    2 | 3 => run!(2),
                    _ => run!(4),
                }
            }
        }
    }
}
multiversion! {
    /// softmax(scale · q Kᵀ) V for every query head of some rows: a row's queries and output are [queries · width],
    /// `keys` and `values` [slots, keys · width]. The first `shared` slots of all paths are the same. `scores` is scratch.
    ///
    /// # Panics
    /// When a slice is too short or a slot lies outside of the pool.
    pub(crate) fn attend(
        heads: Heads,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        rows: &[Row<'_>],
        shared: usize,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) = attend_body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            rounding::{UNIT, noise, same_bits},
            simd::Level,
        },
        *,
    };

    /// Softmax attention in f64, by the book, and how far rounding in f32 can be from it.
    fn reference(heads: Heads, q: &[f32], keys: &[f32], values: &[f32], path: &[u32]) -> (Vec<f64>, f64) {
        let Heads { queries, keys: kv, width, scale } = heads;
        let (mut out, mut most) = (vec![0.0; queries * width], 0.0f64);
        for h in 0..queries {
            let at = |pool: &[f32], slot: u32, i: usize| {
                f64::from(pool[(slot as usize * kv + h / (queries / kv)) * width + i])
            };
            let terms = |s: &u32| (0..width).map(|i| f64::from(q[h * width + i]) * at(keys, *s, i)).collect::<Vec<_>>();
            let score = |s: &u32| terms(s).iter().sum::<f64>() * f64::from(scale);
            let weights: Vec<f64> = path.iter().map(|s| score(s).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (s, w) in path.iter().zip(&weights) {
                for i in 0..width {
                    out[h * width + i] += w / total * at(values, *s, i);
                }
            }
            let sizes = path.iter().map(|s| terms(s).iter().map(|term| term.abs()).sum::<f64>() * f64::from(scale));
            most = most.max(sizes.fold(0.0, f64::max));
        }
        // A score is a dot product, times the scale, less the largest: no more than `score` units off. Its exponential adds
        // four (two in the last place), and so much does each weight and, at most, their sum differ; the sums of
        // weights and of weighted values add `count` each and the division one. No value is above 1.
        let (count, score) = (path.len() as f64, (width as f64 + 1.0) * 2.0 * most + 2.0 * most);
        (out, UNIT * (2.0 * (score + 4.0) + 2.0 * count + 1.0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn attention_is_right_and_where_keys_lie_changes_no_bit(
            keys in 1usize..4, per_key in 1usize..8, vectors in 1usize..6, count in 1usize..40, seed: u32,
        ) {
            let width = vectors * LANES;
            let heads = Heads { queries: keys * per_key, keys, width, scale: 0.25 };
            let slots = 64usize;
            let noise = |n: usize, salt: u64| noise(n, u64::from(seed) ^ salt << 32);
            let (q, k, v) = (noise(heads.queries * width, 1), noise(slots * keys * width, 2), noise(slots * keys * width, 3));
            let path: Vec<u32> = (0..count as u32).map(|i| (i * 13 + seed % 64) % 64).collect();
            let (exact, most) = reference(heads, &q, &k, &v, &path);
            let run = |level, k: &[f32], v: &[f32], path: &[u32]| {
                let (mut out, mut scores) = (vec![0.5; q.len()], vec![9.0; 7]);
                attend(level, heads, &q, k, v, &[Row { q: 0, out: 0, path }], 0, &mut scores, &mut out);
                out
            };
            let ours = run(Level::detect(), &k, &v, &path);
            prop_assert!(ours.iter().zip(&exact).all(|(a, b)| (f64::from(*a) - b).abs() <= most));
            for level in Level::available() {
                prop_assert!(same_bits(&ours, &run(level, &k, &v, &path)), "{:?}", level);
            }
            // The same keys and values, moved to slots 0, 1, 2 …
            let row = keys * width;
            let gather = |pool: &[f32]| -> Vec<f32> {
                path.iter().flat_map(|s| pool[*s as usize * row..(*s as usize + 1) * row].to_vec()).collect()
            };
            let moved = run(Level::detect(), &gather(&k), &gather(&v), &(0..count as u32).collect::<Vec<_>>());
            prop_assert!(same_bits(&ours, &moved));
        }

        #[test]
        fn rows_together_have_the_bits_that_they_have_alone(
            keys in 1usize..3, per_key in 1usize..6, vectors in 1usize..5, shared in 0usize..200,
            own in proptest::collection::vec(1usize..30, 1..6), seed: u32,
        ) {
            let width = vectors * LANES;
            let heads = Heads { queries: keys * per_key, keys, width, scale: 0.3 };
            let slots = 400usize;
            let noise = |n: usize, salt: u64| noise(n, u64::from(seed) ^ salt << 32);
            let size = heads.queries * width;
            let q = noise(own.len() * size, 1);
            let (k, v) = (noise(slots * keys * width, 2), noise(slots * keys * width, 3));
            let paths: Vec<Vec<u32>> = (0u32..)
                .zip(&own)
                .map(|(r, own)| (0..shared as u32).chain((0..*own as u32).map(|i| 200 + 31 * r + i)).collect())
                .collect();
            let rows: Vec<Row<'_>> =
                paths.iter().enumerate().map(|(r, path)| Row { q: r * size, out: r * size, path }).collect();
            for level in Level::available() {
                let (mut together, mut alone) = (vec![0.5; q.len()], vec![0.25; q.len()]);
                let mut scores = Vec::new();
                attend(level, heads, &q, &k, &v, &rows, shared, &mut scores, &mut together);
                for row in &rows {
                    attend(level, heads, &q, &k, &v, &[*row], 0, &mut scores, &mut alone);
                }
                prop_assert!(same_bits(&together, &alone), "{:?}", level);
            }
        }
    }
}
