//! Newton's method for the Bradley–Terry likelihood of one connected group.
//!
//! Maximises Σ B_mn·log σ(eps_m − eps_n) − (λ/2)·Σ eps², in units of the group's heaviest weight. Without the penalty
//! the likelihood leaves the mean open; it is held at 0 (with it, the maximum has mean 0 by itself).
//!
//! The likelihood is generalised self-concordant: its third derivative along a step p is at most the range of p times the
//! second. A step of length ln(1+R)/R, R the range, therefore always goes up and becomes Newton's own near
//! the maximum (Sun and Tran-Dinh 2019, for ν = 2): no line search, no failure far from the maximum.

use metareward_api::BattleMatrix;

use crate::cholesky;

/// Largest entry of the gradient at the maximum, in units of the heaviest weight.
const GRADIENT: f64 = 1e-10;
/// Steps after which a problem counts as not solvable.
const MOST_STEPS: u32 = 200;

/// One connected group of players.
pub(crate) struct Problem<'a> {
    pub(crate) battles: &'a BattleMatrix,
    /// Its players, by index in the matrix.
    pub(crate) players: &'a [usize],
    /// λ; 0 only where every player has beaten every other, directly or through others.
    pub(crate) regularization: f64,
}

/// The maximum.
pub(crate) struct Solved<'a> {
    /// One entry per player of the group; mean 0.
    pub(crate) eps: &'a [f64],
    pub(crate) converged: bool,
    pub(crate) steps: u32,
}

/// Room for one group, used again for the next.
#[derive(Default)]
pub(crate) struct Solver {
    wins: Vec<f64>,
    eps: Vec<f64>,
    strength: Vec<f64>,
    gradient: Vec<f64>,
    hessian: Vec<f64>,
    step: Vec<f64>,
}

impl Solver {
    /// Finds the maximum.
    pub(crate) fn solve(&mut self, problem: &Problem<'_>) -> Solved<'_> {
        let n = problem.players.len();
        let lambda = self.load(problem);
        self.start();
        let mut converged = false;
        let mut steps = 0;
        while steps < MOST_STEPS {
            self.derivatives(n, lambda);
            let done = self.gradient.iter().all(|g| g.abs() <= GRADIENT);
            self.step.clone_from(&self.gradient);
            if !cholesky::solve(&mut self.hessian, &mut self.step) {
                converged = done;
                break;
            }
            let (low, high) =
                self.step.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(*s), high.max(*s)));
            let range = high - low;
            // Near the maximum the full step is Newton's own.
            let length = if range > 0.25 { libm::log1p(range) / range } else { 1.0 };
            for (eps, step) in self.eps.iter_mut().zip(&self.step) {
                *eps += length * step;
            }
            steps += 1;
            if done {
                // The step after the gradient is small squares what is left of the error.
                converged = true;
                break;
            }
        }
        let mean = self.eps.iter().sum::<f64>() / n as f64;
        for eps in &mut self.eps {
            *eps -= mean;
        }
        Solved { eps: &self.eps, converged, steps }
    }

    /// Copies the group's weights, divided by the heaviest, and returns λ divided by it.
    fn load(&mut self, problem: &Problem<'_>) -> f64 {
        let Problem { battles, players, regularization } = problem;
        self.wins.clear();
        for row in *players {
            self.wins.extend(players.iter().map(|column| battles.get(*row, *column)));
        }
        let heaviest = self.wins.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for weight in &mut self.wins {
            *weight /= heaviest;
        }
        let n = players.len();
        self.eps.clear();
        self.eps.resize(n, 0.0);
        self.strength.resize(n, 0.0);
        self.gradient.resize(n, 0.0);
        self.hessian.resize(n * n, 0.0);
        regularization / heaviest
    }

    /// Starts at the log odds of each player's share of wins: exact for two players, near it for a round robin.
    fn start(&mut self) {
        let n = self.eps.len();
        for player in 0..n {
            let (mut won, mut lost) = (0.0, 0.0);
            for other in 0..n {
                won += self.wins[player * n + other];
                lost += self.wins[other * n + player];
            }
            let little = 0.05 * (won + lost);
            self.eps[player] = libm::log((won + little) / (lost + little));
        }
    }

    /// Gradient of the objective and minus its Hessian at `eps` (lower triangle).
    fn derivatives(&mut self, n: usize, lambda: f64) {
        let Self { wins, eps, gradient, hessian, strength, .. } = self;
        // Without a penalty the sum of eps is held at 0 by a penalty of its own, (Σ eps)² / 2n: the likelihood leaves that
        // direction open, so the maximum stays where it is.
        let held = if lambda > 0.0 { 0.0 } else { 1.0 / n as f64 };
        let sum = eps.iter().sum::<f64>();
        for i in 0..n {
            gradient[i] = -lambda * eps[i] - held * sum;
            hessian[i * n + i] = lambda + held;
        }
        let (low, high) =
            eps.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), e| (low.min(*e), high.max(*e)));
        // One exponential per player, where they are not so far apart that it overflows.
        let middle = low + (high - low) / 2.0;
        let in_range = high - low < 600.0;
        for (strength, eps) in strength.iter_mut().zip(eps.iter()) {
            *strength = if in_range { libm::exp(eps - middle) } else { 0.0 };
        }
        for i in 0..n {
            for j in 0..i {
                let (won, lost) = (wins[i * n + j], wins[j * n + i]);
                if won == 0.0 && lost == 0.0 {
                    hessian[i * n + j] = held;
                    continue;
                }
                // σ(d) and σ(−d), each without loss of its last digits.
                let (beats, loses) = if in_range {
                    let both = 1.0 / (strength[i] + strength[j]);
                    (strength[i] * both, strength[j] * both)
                } else {
                    let d = eps[i] - eps[j];
                    let e = libm::exp(-d.abs());
                    let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
                    if d >= 0.0 { (large, small) } else { (small, large) }
                };
                let pull = won * loses - lost * beats;
                gradient[i] += pull;
                gradient[j] -= pull;
                let curve = (won + lost) * beats * loses;
                hessian[i * n + j] = held - curve;
                hessian[i * n + i] += curve;
                hessian[j * n + j] += curve;
            }
        }
    }
}
