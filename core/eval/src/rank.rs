//! Rank correlation of two measurements, such as the judge's score and the oracle's.

use crate::{Bootstrap, Figure, Groups};

/// Spearman's rank correlation, ties with their mean rank. `None` with fewer than two points or when one side is
/// constant: then there is no order to agree on.
pub fn spearman(points: &[(f64, f64)]) -> Option<f64> {
    let left = ranks(points.iter().map(|point| point.0));
    let right = ranks(points.iter().map(|point| point.1));
    pearson(&left, &right)
}

/// Kendall's rank correlation in the form tau-b, which allows for ties. `None` as for [`spearman`]. By sorting and
/// counting exchanges (Knight 1966), so that thousands of points take no time.
pub fn kendall(points: &[(f64, f64)]) -> Option<f64> {
    // Zero has two signs, which sorting would tell apart and counting ties would not.
    let mut sorted: Vec<(f64, f64)> = points.iter().map(|point| (point.0 + 0.0, point.1 + 0.0)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let pairs = |count: usize| (count * count.saturating_sub(1) / 2) as f64;
    let all = pairs(sorted.len());
    let tied_left: f64 = sorted.chunk_by(|a, b| a.0 == b.0).map(|run| pairs(run.len())).sum();
    let tied_both: f64 = sorted.chunk_by(|a, b| a == b).map(|run| pairs(run.len())).sum();
    let mut right: Vec<f64> = sorted.iter().map(|point| point.1).collect();
    let exchanges = exchanges(&mut right) as f64;
    // `right` is sorted now.
    let tied_right: f64 = right.chunk_by(|a, b| a == b).map(|run| pairs(run.len())).sum();
    let scale = ((all - tied_left) * (all - tied_right)).sqrt();
    let order = all - tied_left - tied_right + tied_both - 2.0 * exchanges;
    (scale > 0.0).then(|| (order / scale).clamp(-1.0, 1.0))
}

/// Spearman's correlation over all points of all prompts, with its interval.
pub fn spearman_figure(points: &Groups<(f64, f64)>, bootstrap: &Bootstrap) -> Option<Figure> {
    bootstrap.figure(points, &spearman_of)
}

/// Kendall's tau-b over all points of all prompts, with its interval.
pub fn kendall_figure(points: &Groups<(f64, f64)>, bootstrap: &Bootstrap) -> Option<Figure> {
    bootstrap.figure(points, &|groups| kendall(&groups.concat()))
}

/// [`spearman`] as a statistic of groups.
pub fn spearman_of(groups: &[&[(f64, f64)]]) -> Option<f64> {
    spearman(&groups.concat())
}

/// Ranks from 1, ties with their mean rank.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.enumerate().map(|(place, value)| (value, place)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; order.len()];
    let mut before = 0;
    for run in order.chunk_by(|a, b| a.0 == b.0) {
        let mean = before as f64 + (run.len() as f64 + 1.0) / 2.0;
        for (_, place) in run {
            ranks[*place] = mean;
        }
        before += run.len();
    }
    ranks
}

/// Pearson's correlation. `None` when one side is constant.
fn pearson(left: &[f64], right: &[f64]) -> Option<f64> {
    let n = left.len() as f64;
    let (mean_left, mean_right) = (left.iter().sum::<f64>() / n, right.iter().sum::<f64>() / n);
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (x, y) in left.iter().zip(right) {
        let (x, y) = (x - mean_left, y - mean_right);
        both += x * y;
        first += x * x;
        second += y * y;
    }
    (first > 0.0 && second > 0.0).then(|| (both / (first * second).sqrt()).clamp(-1.0, 1.0))
}

/// Sorts, and counts the exchanges of neighbours that a simple sort would need.
fn exchanges(values: &mut Vec<f64>) -> u64 {
    let mut count = 0;
    let mut width = 1;
    let mut merged = Vec::with_capacity(values.len());
    while width < values.len() {
        merged.clear();
        for block in values.chunks(2 * width) {
            let (mut left, mut right) = block.split_at(width.min(block.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                if b < a {
                    count += left.len() as u64;
                    merged.push(*b);
                    right = &right[1..];
                } else {
                    merged.push(*a);
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(values, &mut merged);
        width *= 2;
    }
    count
}
