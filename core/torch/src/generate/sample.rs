//! From logits to a token.
//!
//! Temperature, top-k, top-p and min-p in this order, each on what the one before left, with the meaning that transformers'
//! logits processors give them: top-k keeps ties with the k-th token; top-p keeps a token when those more
//! probable than it (of equal ones, those with a lower index) add up to less than p; min-p keeps a token when it has at
//! least `min_p` times the probability of the most probable one. A draw is the inverse of the cumulative distribution
//! over the kept tokens in the order of their indices.
//!
//! The random number of token `t` of a draw is a function of the draw's seed and `t` alone.

use metareward_api::Sampling;

use super::{
    schedule::{Wanted, not_finite},
    simd::{Floats, LANES, Level, Vector, exp_scaled, multiversion, padded},
};
use crate::TorchError;

/// A number in [0, 1) for token `step` of the draw with this seed: two rounds of the SplitMix64 finaliser
/// (Steele, Lea and Flood 2014) over seed and counter.
pub(crate) fn uniform(seed: u64, step: u64) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let counter = step.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mix(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_add(counter)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Tokens whose weights are added up together.
const BLOCK: usize = 64;

/// The distribution of one next token, ready to be drawn from many times. Buffers are reused from row to row.
#[derive(Default)]
pub(crate) struct Distribution {
    /// Weight of every token, 0 where it was dropped, or the greedy token alone.
    weights: Floats,
    blocks: Vec<f64>,
    total: f64,
    bits: Vec<u32>,
    heavy: Vec<f32>,
    vocabulary: usize,
}

/// Draws from rows of logits on the CPU; what a row's last draw worked out serves its next.
#[derive(Default)]
pub(crate) struct Drawer {
    distribution: Distribution,
}

impl Drawer {
    /// One token per wanted draw, added to `tokens`. `logits` gives those of an output.
    ///
    /// # Errors
    /// When logits are NaN or infinite.
    pub(crate) fn draw<'l>(
        &mut self,
        level: Level,
        logits: impl Fn(usize) -> &'l [f32],
        wanted: &[Wanted<'_>],
        tokens: &mut Vec<u32>,
    ) -> Result<(), TorchError> {
        let mut drawn: Option<(usize, &Sampling)> = None;
        let mut best: Option<(usize, u32)> = None;
        for Wanted { output, sampling, u } in wanted {
            if sampling.temperature > 0.0 {
                if !drawn.is_some_and(|(of, drawn)| of == *output && same_distribution(drawn, sampling)) {
                    self.distribution.set(level, logits(*output), sampling).map_err(|_| not_finite())?;
                    drawn = Some((*output, sampling));
                }
                tokens.push(self.distribution.token(*u));
            } else {
                let token = match best {
                    Some((of, token)) if of == *output => token,
                    _ => greedy(logits(*output)).map_err(|_| not_finite())?,
                };
                best = Some((*output, token));
                tokens.push(token);
            }
        }
        Ok(())
    }
}

/// Whether both make the same distribution of the same logits.
pub(crate) fn same_distribution(a: &Sampling, b: &Sampling) -> bool {
    (a.temperature, a.top_p, a.top_k, a.min_p) == (b.temperature, b.top_p, b.top_k, b.min_p)
}

/// The logits of a row are NaN or infinite: the model's weights are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFinite;

/// The most probable token; of equals, the one with the lowest index.
pub(crate) fn greedy(logits: &[f32]) -> Result<u32, NotFinite> {
    let (token, most) = highest(logits);
    if most.is_finite() { Ok(token) } else { Err(NotFinite) }
}

fn highest(logits: &[f32]) -> (u32, f32) {
    // Sixteen running maxima, so that the loop is one comparison wide; a NaN makes the result NaN.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut nan = 0.0f32;
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
            nan += *x * 0.0;
        }
    }
    let mut most = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for x in rest {
        most = most.max(*x);
        nan += *x * 0.0;
    }
    // An infinite or NaN logit makes `nan` NaN; minus infinity alone is a token that can never come.
    if nan.is_nan() && logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
        return (0, f32::NAN);
    }
    (logits.iter().position(|x| *x == most).unwrap_or(0) as u32, most)
}

/// Sum of a whole block, in lanes and then by halves.
#[inline(always)]
fn block_sum(block: &[f32; BLOCK]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for eight in block.as_chunks::<8>().0 {
        for (lane, w) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(*w);
        }
    }
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}

#[inline(always)]
unsafe fn add_up_body<V: Vector>(weights: &[f32], blocks: &mut Vec<f64>) -> f64 {
    let mut total = 0.0;
    for block in weights.as_chunks::<BLOCK>().0 {
        let sum = block_sum(block);
        blocks.push(sum);
        total += sum;
    }
    total
}
multiversion! {
    /// Sum of the weights; those of the blocks are pushed.
    fn add_up(weights: &[f32], blocks: &mut Vec<f64>) -> f64 = add_up_body
}

#[inline(always)]
unsafe fn sum_above_body<V: Vector>(weights: &[f32], least: f32) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for sixteen in weights.as_chunks::<LANES>().0 {
        for (lane, w) in lanes.iter_mut().zip(sixteen) {
            *lane += if *w > least { f64::from(*w) } else { 0.0 };
        }
    }
    lanes.iter().sum()
}
multiversion! {
    /// Sum of the weights above `least`, in whole vectors. It never falls when `least` does.
    fn sum_above(weights: &[f32], least: f32) -> f64 = sum_above_body
}

#[inline(always)]
unsafe fn drop_below_body<V: Vector>(weights: &mut [f32], least: f32) {
    for w in weights {
        *w = if *w < least { 0.0 } else { *w };
    }
}
multiversion! {
    /// Sets the weights below `least` to 0.
    fn drop_below(weights: &mut [f32], least: f32) = drop_below_body
}

impl Distribution {
    /// Sets it to what `sampling` makes of these logits. The temperature must be above 0.
    ///
    /// # Errors
    /// [`NotFinite`] when a logit is NaN or infinite.
    pub(crate) fn set(&mut self, level: Level, logits: &[f32], sampling: &Sampling) -> Result<(), NotFinite> {
        let (_, most) = highest(logits);
        if !most.is_finite() {
            return Err(NotFinite);
        }
        let n = logits.len();
        self.vocabulary = n;
        self.weights.grow(padded(n).next_multiple_of(BLOCK));
        let whole = n / LANES * LANES;
        let scale = (1.0 / sampling.temperature).min(f64::from(f32::MAX)) as f32;
        exp_scaled(level, &logits[..whole], most, scale, &mut self.weights[..whole]);
        if whole < n {
            let mut tail = [f32::NEG_INFINITY; LANES];
            tail[..n - whole].copy_from_slice(&logits[whole..]);
            let end = whole + LANES;
            exp_scaled(level, &tail, most, scale, &mut self.weights[whole..end]);
        }
        self.weights[n..].fill(0.0);
        if let Some(k) = sampling.top_k {
            self.top_k(level, k as usize);
        }
        if sampling.top_p < 1.0 {
            self.top_p(level, sampling.top_p);
        }
        if sampling.min_p > 0.0 {
            // The most probable token has weight 1.
            drop_below(level, &mut self.weights, sampling.min_p.min(1.0) as f32);
        }
        self.blocks.clear();
        let weights = &self.weights[..n.next_multiple_of(BLOCK)];
        self.total = add_up(level, weights, &mut self.blocks);
        Ok(())
    }

    fn top_k(&mut self, level: Level, k: usize) {
        let k = k.max(1);
        if k >= self.vocabulary {
            return;
        }
        // Weights are never negative, so their bits are ordered as they are.
        self.bits.clear();
        self.bits.extend(self.weights[..self.vocabulary].iter().map(|w| w.to_bits()));
        let (_, least, _) = self.bits.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        drop_below(level, &mut self.weights, f32::from_bits(*least));
    }

    fn top_p(&mut self, level: Level, p: f64) {
        let all = &self.weights[..padded(self.vocabulary)];
        let total = sum_above(level, all, -1.0);
        let limit = p.max(0.0) * total;
        // Tokens lighter than this are dropped even if all others were as light: together they stay within 1 - p. A hair
        // less, so that no rounding drops one that the exact rule keeps.
        let surely = ((total - limit) / self.vocabulary as f64 * 0.999) as f32;
        self.heavy.clear();
        self.heavy.extend(all.iter().filter(|w| **w > 0.0 && **w >= surely));
        self.heavy.resize(padded(self.heavy.len()), 0.0);
        // The lightest weight that is kept: the smallest w such that what is heavier adds up to less than the limit. Found
        // by halving on the bits, which are ordered as the weights are because these are not negative.
        let (mut below, mut least) = (surely.to_bits().saturating_sub(1), 1.0f32.to_bits());
        while least - below > 1 {
            let middle = below + (least - below) / 2;
            if sum_above(level, &self.heavy, f32::from_bits(middle)) < limit {
                least = middle;
            } else {
                below = middle;
            }
        }
        let least = f32::from_bits(least);
        // Of equal weights at the edge, those with lower indices are kept until the limit is reached.
        let mut above = sum_above(level, &self.heavy, least);
        let mut equals = self.heavy.iter().filter(|w| **w == least).count();
        let mut kept = 0;
        while kept < equals && (above < limit || (kept == 0 && least >= 1.0)) {
            above += f64::from(least);
            kept += 1;
        }
        drop_below(level, &mut self.weights, least);
        if kept < equals {
            for w in self.weights.iter_mut().rev().filter(|w| **w == least) {
                if equals == kept {
                    break;
                }
                *w = 0.0;
                equals -= 1;
            }
        }
    }

    /// The token at `u` in [0, 1) of the cumulative distribution.
    pub(crate) fn token(&self, u: f64) -> u32 {
        let goal = u * self.total;
        let mut below = 0.0;
        let mut last = 0;
        for (b, sum) in self.blocks.iter().enumerate() {
            if *sum <= 0.0 {
                continue;
            }
            if below + sum <= goal {
                below += sum;
                last = b;
                continue;
            }
            let mut inside = below;
            let mut token = None;
            for (i, w) in self.weights[b * BLOCK..(b + 1) * BLOCK].iter().enumerate() {
                if *w > 0.0 {
                    inside += f64::from(*w);
                    token = Some(b * BLOCK + i);
                    if inside > goal {
                        break;
                    }
                }
            }
            return token.unwrap_or(0) as u32;
        }
        // Rounding put the goal at the very end: the last token that is kept.
        let block = &self.weights[last * BLOCK..(last + 1) * BLOCK];
        (last * BLOCK + block.iter().rposition(|w| *w > 0.0).unwrap_or(0)) as u32
    }

    /// Probability of every token.
    #[cfg(test)]
    fn probabilities(&self) -> Vec<f64> {
        self.weights[..self.vocabulary].iter().map(|w| f64::from(*w) / self.total).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::rounding::UNIT, *};

    fn sampling(temperature: f64, top_k: Option<u32>, top_p: f64, min_p: f64) -> Sampling {
        Sampling { temperature, top_p, top_k, min_p, max_tokens: 1, stop: Vec::new() }
    }

    /// transformers' processors one after the other, on f64 scores, by sorting; and how close the closest decision of
    /// top-p or min-p was.
    fn reference(logits: &[f32], s: &Sampling) -> (Vec<f64>, f64) {
        let mut closest = f64::INFINITY;
        let mut scores: Vec<f64> = logits.iter().map(|x| f64::from(*x) / s.temperature).collect();
        let soft = |scores: &[f64]| -> Vec<f64> {
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = scores.iter().map(|x| (x - most).exp()).collect();
            let total: f64 = e.iter().sum();
            e.iter().map(|x| x / total).collect()
        };
        if let Some(k) = s.top_k {
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let least = sorted[(k.max(1) as usize).min(sorted.len()) - 1];
            scores.iter_mut().for_each(|x| {
                if *x < least {
                    *x = f64::NEG_INFINITY
                }
            });
        }
        if s.top_p < 1.0 {
            let p = soft(&scores);
            let mut order: Vec<usize> = (0..p.len()).collect();
            order.sort_by(|a, b| p[*b].total_cmp(&p[*a]).then(a.cmp(b)));
            let mut above = 0.0;
            for (rank, i) in order.into_iter().enumerate() {
                closest = closest.min((above - s.top_p).abs());
                if rank > 0 && above >= s.top_p {
                    scores[i] = f64::NEG_INFINITY;
                }
                above += p[i];
            }
        }
        if s.min_p > 0.0 {
            let p = soft(&scores);
            let most = p.iter().copied().fold(0.0, f64::max);
            scores.iter_mut().zip(&p).for_each(|(x, p)| {
                closest = closest.min((p / most - s.min_p).abs());
                if *p < s.min_p * most {
                    *x = f64::NEG_INFINITY
                }
            });
        }
        (soft(&scores), closest)
    }

    proptest! {
        #[test]
        fn keeps_what_transformers_keeps(
            logits in proptest::collection::vec(-40i8..40, 1..300),
            temperature in 0.2f64..3.0, top_k in proptest::option::of(1u32..50), top_p in 0.01f64..1.1, min_p in 0.0f64..0.5,
        ) {
            // A sixth is not a power of two, so sums do not meet p by chance; equal logits are frequent.
            let logits: Vec<f32> = logits.into_iter().map(|x| f32::from(x) / 6.0).collect();
            let s = sampling(temperature, top_k, top_p, min_p);
            let mut d = Distribution::default();
            d.set(Level::detect(), &logits, &s).unwrap();
            let (ours, (theirs, closest)) = (d.probabilities(), reference(&logits, &s));
            // A weight is e^x with x off by three roundings, of the difference, of 1 / temperature and of their product:
            // |x| e^x is 1 / e at most, and ln n on average. The exponential adds two units in the last place.
            let most = 2.0 * UNIT * (3.0 * (logits.len() as f64).ln().max(1.0) + 4.0);
            // What is decided by less than rounding may come out either way.
            prop_assume!(closest > most);
            prop_assert!((ours.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                prop_assert!((a - b).abs() <= most, "token {i}: {a} against {b}");
            }
        }

        #[test]
        fn draws_are_kept_tokens_and_a_cold_draw_is_greedy(
            logits in proptest::collection::vec(-8.0f32..8.0, 1..200), u in 0.0f64..1.0, top_p in 0.1f64..1.0,
        ) {
            let mut d = Distribution::default();
            d.set(Level::detect(), &logits, &sampling(1.0, None, top_p, 0.0)).unwrap();
            prop_assert!(d.probabilities()[d.token(u) as usize] > 0.0);
            prop_assert!(d.probabilities()[d.token(1.0 - f64::EPSILON / 2.0) as usize] > 0.0);
            let best = greedy(&logits).unwrap();
            prop_assert!(logits.iter().all(|x| *x <= logits[best as usize]));
            d.set(Level::detect(), &logits, &sampling(1e-9, None, 1.0, 0.0)).unwrap();
            prop_assert_eq!(logits[d.token(u) as usize], logits[best as usize]);
        }
    }

    /// Chi-square of 200,000 draws against the exact distribution, 60 tokens with clear differences.
    #[test]
    fn frequencies_match_the_exact_distribution() {
        let logits: Vec<f32> = (0..60).map(|i| ((i * 37 % 60) as f32) / 15.0).collect();
        let cases = [
            sampling(1.0, None, 1.0, 0.0),
            sampling(0.7, None, 1.0, 0.0),
            sampling(1.0, Some(7), 1.0, 0.0),
            sampling(1.0, None, 0.6, 0.0),
            sampling(1.0, None, 1.0, 0.2),
            sampling(0.8, Some(20), 0.9, 0.05),
            sampling(1.7, None, 0.95, 0.01),
        ];
        let draws = 200_000u64;
        for (c, s) in cases.iter().enumerate() {
            let mut d = Distribution::default();
            d.set(Level::detect(), &logits, s).unwrap();
            let mut counts = vec![0u64; 60];
            for i in 0..draws {
                // Half of the numbers from one long stream, half from the first steps of many.
                let u = if i % 2 == 0 { uniform(c as u64, i) } else { uniform(i, 0) };
                counts[d.token(u) as usize] += 1;
            }
            let (exact, _) = reference(&logits, s);
            let (mut chi, mut cells) = (0.0, 0.0);
            for (n, p) in counts.iter().zip(&exact) {
                if *p == 0.0 {
                    assert_eq!(*n, 0);
                } else {
                    let expected = p * draws as f64;
                    chi += (*n as f64 - expected).powi(2) / expected;
                    cells += 1.0;
                }
            }
            // Normal approximation of chi-square (Wilson and Hilferty); 4 standard deviations.
            let free: f64 = cells - 1.0;
            let z = ((chi / free).cbrt() - (1.0 - 2.0 / (9.0 * free))) / (2.0 / (9.0 * free)).sqrt();
            assert!(z.abs() < 4.0, "case {c}: chi-square {chi} with {free} degrees of freedom");
        }
    }

    #[test]
    fn streams_are_even_and_apart() {
        let mean: f64 = (0..10_000).map(|t| uniform(7, t)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.015);
        // Neighbouring seeds and steps are not the same stream moved by one.
        assert_ne!(uniform(1, 2), uniform(2, 1));
        assert_ne!(uniform(1, 1), uniform(2, 0));
        let product: f64 = (0..10_000).map(|t| (uniform(7, t) - 0.5) * (uniform(8, t) - 0.5)).sum::<f64>() / 10_000.0;
        assert!(product.abs() < 0.004);
    }

    #[test]
    fn broken_logits_are_said_so() {
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = [1.0, bad, 2.0];
            assert_eq!(greedy(&logits), Err(NotFinite));
            assert_eq!(
                Distribution::default().set(Level::detect(), &logits, &sampling(1.0, None, 1.0, 0.0)),
                Err(NotFinite)
            );
        }
        assert_eq!(greedy(&[f32::NEG_INFINITY, 1.0, 1.0]), Ok(1));
    }
}
