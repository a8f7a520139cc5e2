//! Logistic regression with labels between 0 and 1 and weights, plain or with a penalty whose strength can be chosen by
//! cross-validation.
//!
//! It maximises Σ w·(y·ln σ(x·β) + (1 − y)·ln σ(−x·β)) minus strength · Σ|β| or strength/2 · Σβ². There is no
//! intercept: who wants one gives a feature that is 1.

use serde::{Deserialize, Serialize};

/// One observation of `N` features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<const N: usize> {
    /// The features.
    pub features: [f64; N],
    /// The label, from 0 to 1: a probability, or 0 and 1 for an event.
    pub label: f64,
    /// How much it counts; finite, not negative.
    pub weight: f64,
}

/// What holds the coefficients near 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "strength", rename_all = "snake_case")]
pub enum Penalty {
    /// Nothing.
    #[default]
    None,
    /// Strength times the sum of absolute values. The strength is 1/C of scikit-learn.
    L1(f64),
    /// Half the strength times the sum of squares.
    L2(f64),
}

/// Why there is no fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// There is no observation with weight.
    #[error("there is nothing to fit to")]
    Nothing,
    /// A number is not finite, or off its range.
    #[error("observation {0} holds a number that is not finite, or a label outside 0 to 1")]
    NotFinite(usize),
    /// The lengths say nothing.
    #[error("every length differs from the other side's by the same amount, so nothing can be said of length")]
    SameLengths,
    /// The likelihood has no finite maximum.
    #[error(
        "the likelihood has no finite maximum: one side wins everything that some combination of the features points to"
    )]
    Separated,
}

/// Steps after which a likelihood counts as one without a maximum.
const MOST_STEPS: usize = 200;
/// A linear function of the features this large at every step's end is on its way to infinity.
const FAR: f64 = 100.0;
/// A step this short ends at the maximum: what it leaves is about its square.
const STEP: f64 = 1e-8;

/// Coefficients at the maximum. A feature that is 0 in every observation gets 0.
///
/// # Errors
/// [`FitError`]: when nothing is there, a number is not finite, or there is no finite maximum (without a penalty: an
/// outcome that the features tell apart completely).
pub fn fit<const N: usize>(observations: &[Observation<N>], penalty: Penalty) -> Result<[f64; N], FitError> {
    for (index, seen) in observations.iter().enumerate() {
        let finite = seen.features.iter().all(|x| x.is_finite()) && seen.weight.is_finite() && seen.weight >= 0.0;
        if !finite || !(0.0..=1.0).contains(&seen.label) {
            return Err(FitError::NotFinite(index));
        }
    }
    let total: f64 = observations.iter().map(|seen| seen.weight).sum();
    if total <= 0.0 {
        return Err(FitError::Nothing);
    }
    // Per unit of weight, so that curvatures are near 1.
    let (l1, l2) = match penalty {
        Penalty::None => (0.0, 0.0),
        Penalty::L1(strength) => (strength / total, 0.0),
        Penalty::L2(strength) => (0.0, strength / total),
    };
    let mut at = [0.0; N];
    for _ in 0..MOST_STEPS {
        let (mut gradient, mut curvature) = ([0.0; N], [[0.0; N]; N]);
        for seen in observations {
            // Both chances, each to its last digit: on the way to infinity one of them is all that still pulls.
            let at = dot(&seen.features, &at);
            let (yes, no) = (sigmoid(at), sigmoid(-at));
            let pull = seen.weight * (seen.label * no - (1.0 - seen.label) * yes);
            let curve = seen.weight * yes * no;
            for (i, x) in seen.features.iter().enumerate() {
                gradient[i] += pull * x;
                for (sum, other) in curvature[i].iter_mut().zip(&seen.features) {
                    *sum += curve * x * other;
                }
            }
        }
        for (i, row) in curvature.iter_mut().enumerate() {
            gradient[i] = gradient[i] / total - l2 * at[i];
            for sum in row.iter_mut() {
                *sum /= total;
            }
            row[i] += l2;
        }
        let step = if l1 > 0.0 { shrunk_step(&curvature, &gradient, &at, l1) } else { step(&curvature, &gradient) };
        // A step of this length goes up from anywhere (Sun and Tran-Dinh 2019), and is Newton's own near the maximum.
        let range = observations.iter().map(|seen| dot(&seen.features, &step).abs()).fold(0.0, f64::max);
        let length = if range > 0.25 { libm::log1p(range) / range } else { 1.0 };
        for i in 0..N {
            at[i] += length * step[i];
        }
        if range <= STEP {
            return if at.iter().all(|x| x.is_finite()) { Ok(at) } else { Err(FitError::Separated) };
        }
        let furthest = observations.iter().map(|seen| dot(&seen.features, &at).abs()).fold(0.0, f64::max);
        if !range.is_finite() || furthest > FAR {
            return Err(FitError::Separated);
        }
    }
    Err(FitError::Separated)
}

/// σ(x), without overflow.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// Mean log loss of coefficients, each observation's times its weight, over the number of observations.
pub fn log_loss<const N: usize>(observations: &[Observation<N>], coefficients: &[f64; N]) -> f64 {
    let mut sum = 0.0;
    for seen in observations {
        // The bound that the published scorer puts on a prediction.
        let chance = sigmoid(dot(&seen.features, coefficients)).clamp(1e-15, 1.0 - 1e-15);
        sum -= seen.weight * (seen.label * libm::log(chance) + (1.0 - seen.label) * libm::log(1.0 - chance));
    }
    sum / observations.len().max(1) as f64
}

/// The ten strengths of L1 that scikit-learn tries by default, strongest first: C from 1e-4 to 1e4.
pub fn default_strengths() -> [f64; 10] {
    std::array::from_fn(|place| libm::pow(10.0, 4.0 - 8.0 * place as f64 / 9.0))
}

/// The strength of L1 with the smallest mean log loss on held-out observations, the strongest of equal ones.
/// Observation i of n is held out in fold (n − 1 − i) mod `folds`, as scikit-learn's GroupKFold deals out groups of one
/// size.
///
/// # Errors
/// As [`fit`]; and [`FitError::Nothing`] with fewer observations than folds.
pub fn choose_strength<const N: usize>(
    observations: &[Observation<N>],
    strengths: &[f64],
    folds: usize,
) -> Result<f64, FitError> {
    let n = observations.len();
    if folds < 2 || n < folds {
        return Err(FitError::Nothing);
    }
    let mut best: Option<(f64, f64)> = None;
    for strength in strengths {
        let mut loss = 0.0;
        for fold in 0..folds {
            let (mut kept, mut held_out) = (Vec::with_capacity(n), Vec::with_capacity(n / folds + 1));
            for (index, seen) in observations.iter().enumerate() {
                if (n - 1 - index) % folds == fold { held_out.push(*seen) } else { kept.push(*seen) }
            }
            loss += log_loss(&held_out, &fit(&kept, Penalty::L1(*strength))?) / folds as f64;
        }
        if best.is_none_or(|(least, _)| loss < least) {
            best = Some((loss, *strength));
        }
    }
    best.map(|(_, strength)| strength).ok_or(FitError::Nothing)
}

fn dot<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    let mut sum = 0.0;
    for i in 0..N {
        sum += a[i] * b[i];
    }
    sum
}

/// Newton's step. Directions without curvature are not gone in.
fn step<const N: usize>(curvature: &[[f64; N]; N], gradient: &[f64; N]) -> [f64; N] {
    // Gauss–Jordan with the largest remaining diagonal as pivot: the matrix is symmetric and has no negative direction.
    let (mut matrix, mut right) = (*curvature, *gradient);
    let mut done = [false; N];
    let mut step = [0.0; N];
    for _ in 0..N {
        let open = (0..N).filter(|i| !done[*i]);
        let Some(pivot) =
            open.max_by(|a, b| relative(&matrix, curvature, *a).total_cmp(&relative(&matrix, curvature, *b)))
        else {
            break;
        };
        if relative(&matrix, curvature, pivot) <= 1e-13 {
            break;
        }
        done[pivot] = true;
        let (pivot_row, pivot_right) = (matrix[pivot], right[pivot]);
        for i in 0..N {
            if i != pivot {
                let factor = matrix[i][pivot] / pivot_row[pivot];
                for j in 0..N {
                    matrix[i][j] -= factor * pivot_row[j];
                }
                right[i] -= factor * pivot_right;
            }
        }
    }
    for i in (0..N).filter(|i| done[*i]) {
        step[i] = right[i] / matrix[i][i];
    }
    step
}

/// What elimination has left of a diagonal entry, as a share of it.
fn relative<const N: usize>(matrix: &[[f64; N]; N], before: &[[f64; N]; N], i: usize) -> f64 {
    if before[i][i] > 0.0 { matrix[i][i] / before[i][i] } else { 0.0 }
}

/// The step to the maximum of the quadratic approximation minus `l1` times the sum of absolute values, coordinate by
/// coordinate.
fn shrunk_step<const N: usize>(curvature: &[[f64; N]; N], gradient: &[f64; N], at: &[f64; N], l1: f64) -> [f64; N] {
    let mut step = [0.0; N];
    for _ in 0..10_000 {
        let mut longest: f64 = 0.0;
        for i in 0..N {
            if curvature[i][i] <= 0.0 {
                continue;
            }
            let pull = gradient[i] - dot(&curvature[i], &step) + curvature[i][i] * (at[i] + step[i]);
            let shrunk = if pull > l1 {
                pull - l1
            } else if pull < -l1 {
                pull + l1
            } else {
                0.0
            };
            let change = shrunk / curvature[i][i] - at[i] - step[i];
            step[i] += change;
            longest = longest.max(change.abs());
        }
        if longest <= 1e-14 {
            break;
        }
    }
    step
}
