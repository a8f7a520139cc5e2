//! Newton's method for the likelihoods of paired comparisons.
//!
//! A sum of weighted logarithms of softmax probabilities, each over a few linear functions of the parameters, is
//! generalised self-concordant: its third derivative along a step p is at most R times its second, where R is the most that
//! the differences between the linear functions of one softmax change along p. A step of length ln(1 + R) / R therefore
//! always goes up and becomes Newton's own near the maximum (Sun and Tran-Dinh 2019, for ν = 2): no line search, no failure
//! far from the maximum. The same holds for steps that conjugate gradients have not finished, because they too satisfy
//! pᵀH·p = pᵀg.

use super::{cholesky, conjugate};

/// A full step not longer than this, from where no entry of the gradient is larger, ends at the maximum: what is left of
/// either is about its square.
const LAST_STEP: f64 = 1e-6;
/// Largest entry of the gradient, and longest step, at a maximum that rounding does not let one come closer to.
const GRADIENT: f64 = 1e-10;
const ROUNDED_STEP: f64 = 1e-5;
/// Steps after which a problem counts as not solvable. Weights that differ by a factor of 1e100 take about 350.
const MOST_STEPS: u32 = 500;
/// Parameters up to which a step is solved for by factorisation, and beyond which by conjugate gradients.
const MOST_FACTORISED: usize = 160;

/// A strictly concave function to be maximised. It should be scaled so that its second derivatives are not far above 1:
/// at its maximum no entry of the gradient is above 1e-10.
pub trait Concave {
    /// Number of parameters.
    fn parameters(&self) -> usize;

    /// Writes the gradient at `at`, and remembers what the methods below need.
    fn gradient(&mut self, at: &[f64], gradient: &mut [f64]);

    /// Writes the lower triangle, row by row, of minus the second derivatives where the gradient was last asked for. What
    /// lies above the diagonal is not read.
    fn curvature(&self, matrix: &mut [f64]);

    /// Multiplies minus the second derivatives by a vector.
    fn curvature_times(&self, vector: &[f64], image: &mut [f64]);

    /// Writes the diagonal of minus the second derivatives.
    fn curvature_diagonal(&self, diagonal: &mut [f64]);

    /// The most that two linear functions of one softmax move apart along a step: R of this module's text.
    fn range(&self, step: &[f64]) -> f64;
}

/// How an ascent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ascent {
    /// Whether the maximum was reached.
    pub converged: bool,
    /// Steps taken.
    pub steps: u32,
}

/// Newton's method. It holds room that is used again for the next function.
#[derive(Clone, Debug, Default)]
pub struct Newton {
    gradient: Vec<f64>,
    step: Vec<f64>,
    matrix: Vec<f64>,
    conjugate: conjugate::Room,
}

impl Newton {
    /// Climbs from `at`, which becomes the maximum, or, where the answer says that it was not reached, a point on the way.
    pub fn maximise(&mut self, function: &mut impl Concave, at: &mut [f64]) -> Ascent {
        let n = function.parameters();
        self.gradient.resize(n, 0.0);
        let mut steps = 0;
        let mut last = f64::INFINITY;
        while steps < MOST_STEPS {
            function.gradient(at, &mut self.gradient);
            let steepest = largest(&self.gradient);
            self.step.clone_from(&self.gradient);
            let solved = if n <= MOST_FACTORISED {
                self.matrix.resize(n * n, 0.0);
                function.curvature(&mut self.matrix);
                cholesky::solve(&mut self.matrix, &mut self.step)
            } else {
                function.curvature_diagonal(self.conjugate.diagonal(n));
                // Loose far away, tight near the maximum: what is left of the error falls ever faster.
                let tolerance = if steepest > LAST_STEP { (0.1 * steepest.sqrt()).min(0.1) } else { 1e-6 };
                let times = |vector: &[f64], image: &mut [f64]| function.curvature_times(vector, image);
                conjugate::solve(&mut self.conjugate, times, &mut self.step, tolerance, 10 * n);
                self.step.iter().all(|step| step.is_finite())
            };
            if !solved {
                return Ascent { converged: steepest <= GRADIENT, steps };
            }
            let range = function.range(&self.step);
            // Near the maximum the full step is Newton's own.
            let length = if range > 0.25 { libm::log1p(range) / range } else { 1.0 };
            for (at, step) in at.iter_mut().zip(&self.step) {
                *at += length * step;
            }
            steps += 1;
            let longest = largest(&self.step);
            let arrived = steepest <= LAST_STEP && longest <= LAST_STEP;
            let as_close_as_rounding_allows = steepest <= GRADIENT && longest <= ROUNDED_STEP && longest >= last / 2.0;
            if arrived || as_close_as_rounding_allows {
                return Ascent { converged: true, steps };
            }
            last = longest;
        }
        Ascent { converged: false, steps }
    }
}

/// The largest absolute value.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most: f64, value| most.max(value.abs()))
}
