//! The likelihood with ties.
//!
//! With strengths π = exp(θ), i beats j, ties with j and loses to j in the proportions π_i : 2ν·√(π_i·π_j) : π_j (Davidson
//! 1970; Newman 2023, section 4.1). In θ and μ = log 2ν these are softmaxes of (d/2, μ, −d/2), d = θ_i − θ_j, so the
//! likelihood is concave.

use metareward_plugin::ranking::{Concave, Meetings, add_carefully};

/// What is known of ν.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TieRate {
    /// It is known; 0 where there are no ties.
    Given(f64),
    /// It is to be found with the strengths.
    Estimated,
    /// It has no bound, because there are ties and no wins.
    Endless,
}

/// Probabilities of the three results of i against j.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chances {
    /// i wins.
    pub win: f64,
    /// Nobody does.
    pub tie: f64,
    /// j wins.
    pub loss: f64,
}

/// The chances of i against j, given θ_i − θ_j and μ = log 2ν (−∞ where ν is 0).
pub fn chances(d: f64, mu: f64) -> Chances {
    let most = (d.abs() / 2.0).max(mu);
    let (win, tie, loss) = (libm::exp(d / 2.0 - most), libm::exp(mu - most), libm::exp(-d / 2.0 - most));
    let all = (win + loss) + tie;
    Chances { win: win / all, tie: tie / all, loss: loss / all }
}

/// The results of one pair, i above j, in units of the heaviest weight, and second derivatives.
#[derive(Clone, Copy, Debug)]
struct Edge {
    i: usize,
    j: usize,
    won: f64,
    tied: f64,
    lost: f64,
    /// Minus the second derivative by d.
    curve: f64,
    /// Minus the second derivative by d and μ.
    mixed: f64,
}

/// The likelihood of one problem: one parameter θ per player and, where ν is estimated, μ as the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    players: usize,
    edges: Vec<Edge>,
    lambda: f64,
    /// Without a penalty, one player per group who stays in place: the likelihood leaves that open.
    held: Vec<usize>,
    /// μ where it is not a parameter.
    mu: Option<f64>,
    /// Minus the second derivative by μ.
    mu_curve: f64,
    /// What rounding has taken from the gradient: heavy weights cancel, and what is left must still balance light ones.
    lost: Vec<f64>,
}

impl Model {
    /// Takes in a problem and writes where to start.
    pub(crate) fn load(&mut self, meetings: &Meetings, regularization: f64, rate: TieRate, at: &mut Vec<f64>) {
        self.players = meetings.players();
        let mut unit = regularization.max(f64::MIN_POSITIVE);
        for pair in meetings.pairs() {
            unit = unit.max(pair.low_wins).max(pair.high_wins).max(pair.ties);
        }
        self.lambda = regularization / unit;
        self.edges.clear();
        self.edges.extend(meetings.pairs().iter().map(|pair| Edge {
            i: pair.high as usize,
            j: pair.low as usize,
            won: pair.high_wins / unit,
            tied: pair.ties / unit,
            lost: pair.low_wins / unit,
            curve: 0.0,
            mixed: 0.0,
        }));
        self.held.clear();
        if self.lambda == 0.0 {
            self.held.extend(meetings.groups().iter().filter_map(|group| group.first()));
        }
        self.mu = match rate {
            TieRate::Given(rate) => Some(libm::log(2.0 * rate)),
            TieRate::Estimated | TieRate::Endless => None,
        };
        // The log odds of each player's share of wins, and the ties as they are between equals.
        at.clear();
        at.resize(self.players, 0.0);
        let mut sums = vec![(0.0, 0.0); self.players];
        let (mut ties, mut wins) = (0.0, 0.0);
        for edge in &self.edges {
            let half = edge.tied / 2.0;
            for (player, won, lost) in [(edge.i, edge.won, edge.lost), (edge.j, edge.lost, edge.won)] {
                sums[player].0 += won + half;
                sums[player].1 += lost + half;
            }
            ties += edge.tied;
            wins += edge.won + edge.lost;
        }
        for (theta, (won, lost)) in at.iter_mut().zip(sums) {
            let little = 0.05 * (won + lost);
            if little > 0.0 {
                *theta = libm::log((won + little) / (lost + little));
            }
        }
        if self.mu.is_none() {
            at.push(libm::log(2.0 * ties / wins));
        }
    }
}

impl Concave for Model {
    fn parameters(&self) -> usize {
        self.players + usize::from(self.mu.is_none())
    }

    fn gradient(&mut self, at: &[f64], gradient: &mut [f64]) {
        let n = self.players;
        let mu = self.mu.or(at.get(n).copied()).unwrap_or(f64::NEG_INFINITY);
        for (gradient, theta) in gradient.iter_mut().zip(at) {
            *gradient = -self.lambda * theta;
        }
        self.lost.clear();
        self.lost.resize(n, 0.0);
        let (mut mu_pull, mut mu_lost, mut mu_curve) = (0.0, 0.0, 0.0);
        for edge in &mut self.edges {
            let Edge { i, j, won, tied, lost, .. } = *edge;
            let Chances { win, tie, loss } = chances(at[i] - at[j], mu);
            // Differences of probabilities are written as sums, which keep their last digits.
            let pull = won * (0.5 * tie + loss) - lost * (0.5 * tie + win) + tied * (0.5 * (loss - win));
            add_carefully(&mut gradient[i], &mut self.lost[i], pull);
            add_carefully(&mut gradient[j], &mut self.lost[j], -pull);
            add_carefully(&mut mu_pull, &mut mu_lost, tied * (win + loss) - (won + lost) * tie);
            let all = won + tied + lost;
            edge.curve = all * (0.25 * tie * (win + loss) + win * loss);
            edge.mixed = -all * tie * (0.5 * (win - loss));
            mu_curve += all * tie * (win + loss);
        }
        for (gradient, lost) in gradient.iter_mut().zip(&self.lost) {
            *gradient += lost;
        }
        if self.mu.is_none() {
            gradient[n] = mu_pull + mu_lost;
        }
        self.mu_curve = mu_curve;
        for held in &self.held {
            gradient[*held] = 0.0;
        }
    }

    fn curvature(&self, matrix: &mut [f64]) {
        let (n, size) = (self.players, self.parameters());
        matrix.fill(0.0);
        for i in 0..n {
            matrix[i * size + i] = self.lambda;
        }
        for Edge { i, j, curve, mixed, .. } in &self.edges {
            matrix[i * size + j] -= curve;
            matrix[i * size + i] += curve;
            matrix[j * size + j] += curve;
            if size > n {
                matrix[n * size + i] += mixed;
                matrix[n * size + j] -= mixed;
            }
        }
        if size > n {
            matrix[n * size + n] = self.mu_curve;
        }
        for held in self.held.iter().copied() {
            matrix[held * size..held * size + held].fill(0.0);
            for below in held + 1..size {
                matrix[below * size + held] = 0.0;
            }
            matrix[held * size + held] = 1.0;
        }
    }

    fn curvature_times(&self, vector: &[f64], image: &mut [f64]) {
        let n = self.players;
        for (image, value) in image.iter_mut().zip(vector) {
            *image = self.lambda * value;
        }
        // 0 where μ is not a parameter.
        let by_mu = vector.get(n).copied().unwrap_or(0.0);
        let mut mu_image = self.mu_curve * by_mu;
        for Edge { i, j, curve, mixed, .. } in &self.edges {
            let apart = vector[*i] - vector[*j];
            let flow = curve * apart + mixed * by_mu;
            image[*i] += flow;
            image[*j] -= flow;
            mu_image += mixed * apart;
        }
        if let Some(image) = image.get_mut(n) {
            *image = mu_image;
        }
        // The vectors that come here are 0 at the players who are held.
        for held in &self.held {
            image[*held] = 0.0;
        }
    }

    fn curvature_diagonal(&self, diagonal: &mut [f64]) {
        diagonal.fill(self.lambda);
        for Edge { i, j, curve, .. } in &self.edges {
            diagonal[*i] += curve;
            diagonal[*j] += curve;
        }
        if let Some(diagonal) = diagonal.get_mut(self.players) {
            *diagonal = self.mu_curve;
        }
        for held in &self.held {
            diagonal[*held] = 1.0;
        }
    }

    fn range(&self, step: &[f64]) -> f64 {
        let by_mu = step.get(self.players).copied().unwrap_or(0.0).abs();
        let mut range: f64 = 0.0;
        for Edge { i, j, .. } in &self.edges {
            let apart = (step[*i] - step[*j]).abs();
            range = range.max(apart).max(apart / 2.0 + by_mu);
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use metareward_api::{Battle, RankingProblem};
    use metareward_plugin::ranking::Ties;

    use super::*;

    /// The likelihood straight from the definition.
    fn likelihood(problem: &RankingProblem, at: &[f64], mu: f64, lambda: f64) -> f64 {
        let mut sum: f64 = at.iter().map(|theta| -lambda / 2.0 * theta * theta).sum();
        for battle in &problem.battles {
            let (a, b) = (at[battle.left as usize].exp(), at[battle.right as usize].exp());
            let tie = mu.exp() * (a * b).sqrt();
            let all = a + b + tie;
            sum +=
                battle.left_wins * (a / all).ln() + battle.right_wins * (b / all).ln() + battle.ties * (tie / all).ln();
        }
        sum
    }

    #[test]
    fn derivatives_are_finite_differences() {
        let battle = |left, right, left_wins, right_wins, ties| Battle { left, right, left_wins, right_wins, ties };
        let battles = vec![battle(0, 1, 1.0, 0.5, 0.25), battle(2, 1, 0.0, 0.75, 0.5), battle(0, 2, 0.5, 0.0, 0.0)];
        let problem = RankingProblem { players: 3, battles };
        let meetings = Meetings::of(&problem, Ties::Counted).unwrap();
        let mut model = Model::default();
        let mut start = Vec::new();
        // The heaviest weight is 1: no unit to undo.
        model.load(&meetings, 0.125, TieRate::Estimated, &mut start);
        let at = [0.3, -0.9, 0.4, -0.6];
        let mut gradient = [0.0; 4];
        model.gradient(&at, &mut gradient);
        let mut matrix = [0.0; 16];
        model.curvature(&mut matrix);
        let mut diagonal = [0.0; 4];
        model.curvature_diagonal(&mut diagonal);
        for parameter in 0..4 {
            let moved = |by: f64| {
                let mut at = at;
                at[parameter] += by;
                at
            };
            let value = |at: [f64; 4]| likelihood(&problem, &at[..3], at[3], 0.125);
            let slope = (value(moved(1e-6)) - value(moved(-1e-6))) / 2e-6;
            assert!((slope - gradient[parameter]).abs() < 1e-8, "{parameter}: {slope} against {gradient:?}");
            let (mut above, mut below) = ([0.0; 4], [0.0; 4]);
            model.gradient(&moved(1e-6), &mut above);
            model.gradient(&moved(-1e-6), &mut below);
            model.gradient(&at, &mut gradient);
            let mut unit = [0.0; 4];
            unit[parameter] = 1.0;
            let mut image = [0.0; 4];
            model.curvature_times(&unit, &mut image);
            for other in 0..4 {
                let bend = -(above[other] - below[other]) / 2e-6;
                let entry = matrix[parameter.max(other) * 4 + parameter.min(other)];
                assert!((bend - entry).abs() < 1e-8, "{parameter}, {other}: {bend} against {entry}");
                assert!((image[other] - entry).abs() < 1e-15);
            }
            assert!((diagonal[parameter] - matrix[parameter * 5]).abs() < 1e-15);
        }
    }

    #[test]
    fn chances_sum_to_one_at_any_distance() {
        for d in [0.0, 1.5, -40.0, 2000.0, -1e300] {
            for mu in [f64::NEG_INFINITY, -3.0, 0.0, 900.0] {
                let Chances { win, tie, loss } = chances(d, mu);
                assert!((win + tie + loss - 1.0).abs() < 1e-15, "{d}, {mu}");
                assert_eq!(chances(-d, mu), Chances { win: loss, tie, loss: win });
            }
        }
    }
}
