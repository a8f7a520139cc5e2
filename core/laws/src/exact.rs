//! The distribution that a plan's parameters declare, exactly: what an engine's sampling is measured against.

use metareward_api::Sampling;

/// Probability of each token of `logits` (natural units, one per token) under `sampling`.
///
/// Temperature, top-k, top-p and min-p in this order, each on what the one before left, with the meaning of transformers'
/// logits processors: top-k keeps ties with the k-th token; top-p keeps a token when those more probable than it (of
/// equals, those with a lower index) add up to less than `top_p`, and always the most probable one; min-p keeps a
/// token when it has at least `min_p` times the probability of the most probable one. Temperature 0 gives everything to the
/// most probable token; of equals, to the one with the lowest index.
///
/// Probabilities are those of f64 and add up to 1 but for its rounding. A logit of minus infinity is a token that cannot come.
/// Where no logit is a number, one is NaN or plus infinity, or a parameter is out of its range, there is no distribution and
/// all are NaN.
pub fn distribution(sampling: &Sampling, logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !highest.is_finite() || logits.iter().any(|logit| logit.is_nan()) || !in_range(sampling) {
        return vec![f64::NAN; logits.len()];
    }
    // Most probable first; of equals, the lowest index.
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logit(logits, *b).total_cmp(&logit(logits, *a)).then(a.cmp(b)));
    let weight = |index: usize| {
        let below = logit(logits, index) - highest;
        if below == 0.0 { 1.0 } else { libm::exp(below / sampling.temperature) }
    };
    let mut kept: Vec<(usize, f64)> = if sampling.temperature == 0.0 {
        order.first().map(|index| (*index, 1.0)).into_iter().collect()
    } else {
        order.into_iter().map(|index| (index, weight(index))).collect()
    };
    if let Some(k) = sampling.top_k {
        let least = kept.get((k as usize).clamp(1, kept.len().max(1)) - 1).map_or(0.0, |(_, weight)| *weight);
        kept.retain(|(_, weight)| *weight >= least);
    }
    if sampling.top_p < 1.0 {
        let limit = sampling.top_p * total(&kept);
        let mut above = 0.0;
        let mut count = 0;
        for (_, weight) in &kept {
            if count > 0 && above >= limit {
                break;
            }
            above += weight;
            count += 1;
        }
        kept.truncate(count);
    }
    kept.retain(|(_, weight)| *weight >= sampling.min_p);
    let total = total(&kept);
    let mut probabilities = vec![0.0; logits.len()];
    for (index, weight) in kept {
        if let Some(place) = probabilities.get_mut(index) {
            *place = weight / total;
        }
    }
    probabilities
}

/// Whether every parameter is in its range; what does not shape the distribution is left aside.
pub(crate) fn in_range(sampling: &Sampling) -> bool {
    sampling.temperature.is_finite()
        && sampling.temperature >= 0.0
        && sampling.top_p > 0.0
        && sampling.top_p <= 1.0
        && sampling.top_k != Some(0)
        && (0.0..=1.0).contains(&sampling.min_p)
}

fn logit(logits: &[f64], index: usize) -> f64 {
    // No negative zero: it would come after zero.
    logits.get(index).map_or(f64::NEG_INFINITY, |logit| logit + 0.0)
}

/// From the lightest up, so that rounding loses least.
fn total(kept: &[(usize, f64)]) -> f64 {
    kept.iter().rev().fold(0.0, |sum, (_, weight)| sum + weight)
}
