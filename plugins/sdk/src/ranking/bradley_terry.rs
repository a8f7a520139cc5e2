//! The maximum of the Bradley–Terry likelihood (Bradley and Terry 1952) with a quadratic penalty.
//!
//! Maximises Σ B_mn·log σ(eps_m − eps_n) − (λ/2)·Σ eps², group by group, in units of the group's heaviest weight. Without
//! the penalty the likelihood leaves each group's mean open: one player is held until the others have found their places,
//! and the mean is then made 0 (with the penalty, the maximum has mean 0 by itself).

use super::{
    Meetings,
    graph::strongly_connected,
    newton::{Ascent, Concave, Newton},
};

/// Stands in for a regularisation of 0 where no finite maximum exists.
pub const LEAST_REGULARIZATION: f64 = 1e-4;

/// Share of the heaviest weight of a group below which a weight or a penalty asks for care with rounding.
const CARE: f64 = 1e-3;

/// A likelihood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BradleyTerry {
    /// λ of the penalty. With 0 the maximum is the plain one in every group in which everyone has beaten everyone else,
    /// directly or through others; in the others [`LEAST_REGULARIZATION`] stands in.
    pub regularization: f64,
    /// Share of a tie that counts as a win of either side: 0 leaves ties out, 0.5 counts them as half wins.
    pub tie_share: f64,
}

/// A maximum.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Natural logarithm of each player's strength; mean 0 in every group.
    pub eps: Vec<f64>,
    /// Whether the maximum was reached in every group.
    pub converged: bool,
    /// Most steps taken in a group.
    pub steps: u32,
}

/// Finds maxima. It holds room that is used again for the next one.
#[derive(Clone, Debug, Default)]
pub struct Solver {
    newton: Newton,
    group: Group,
    at: Vec<f64>,
    /// Index of each player within its group.
    place: Vec<usize>,
    /// The pairs' numbers, group by group, and where each group's end.
    pairs: Vec<usize>,
    ends: Vec<usize>,
}

impl Solver {
    /// Finds the maximum of one problem.
    pub fn fit(&mut self, meetings: &Meetings, likelihood: BradleyTerry) -> Fit {
        let mut fit = Fit { eps: vec![0.0; meetings.players()], converged: true, steps: 0 };
        self.sort(meetings);
        let tied = likelihood.tie_share > 0.0;
        let strong = (likelihood.regularization <= 0.0).then(|| strongly_connected(meetings, tied));
        let mut start = 0;
        for (number, players) in meetings.groups().iter().enumerate() {
            let end = self.ends.get(number).copied().unwrap_or(start);
            let pairs = self.pairs.get(start..end).unwrap_or_default();
            start = end;
            if players.len() < 2 {
                continue;
            }
            let regularization = match &strong {
                None => likelihood.regularization,
                Some(strong) if strong.get(number) == Some(&true) => 0.0,
                Some(_) => LEAST_REGULARIZATION,
            };
            let edges = pairs.iter().filter_map(|pair| meetings.pairs().get(*pair)).map(|pair| Edge {
                i: self.place[pair.high as usize],
                j: self.place[pair.low as usize],
                won: pair.high_wins + likelihood.tie_share * pair.ties,
                lost: pair.low_wins + likelihood.tie_share * pair.ties,
            });
            self.group.load(players.len(), edges, regularization, &mut self.at);
            let Ascent { converged, steps } = self.newton.maximise(&mut self.group, &mut self.at);
            fit.converged &= converged;
            fit.steps = fit.steps.max(steps);
            let mut sum = 0.0;
            for eps in &self.at {
                sum += eps;
            }
            let mean = sum / players.len() as f64;
            for (player, eps) in players.iter().zip(&self.at) {
                fit.eps[*player] = eps - mean;
            }
        }
        fit
    }

    /// Numbers the players within their groups and sorts the pairs by group.
    fn sort(&mut self, meetings: &Meetings) {
        let groups = meetings.groups();
        self.place.resize(meetings.players(), 0);
        for players in groups.iter() {
            for (place, player) in players.iter().enumerate() {
                self.place[*player] = place;
            }
        }
        self.ends.clear();
        self.ends.resize(groups.len(), 0);
        for pair in meetings.pairs() {
            self.ends[groups.of(pair.low)] += 1;
        }
        let mut next = 0;
        for end in &mut self.ends {
            next += std::mem::replace(end, next);
        }
        self.pairs.clear();
        self.pairs.resize(meetings.pairs().len(), 0);
        for (number, pair) in meetings.pairs().iter().enumerate() {
            let end = &mut self.ends[groups.of(pair.low)];
            self.pairs[*end] = number;
            *end += 1;
        }
    }
}

/// What two players of a group did to each other; i is above j.
#[derive(Clone, Copy, Debug)]
struct Edge {
    i: usize,
    j: usize,
    /// Weight of the wins of i over j, in units of the group's heaviest weight.
    won: f64,
    lost: f64,
}

/// The likelihood of one connected group.
#[derive(Clone, Debug, Default)]
struct Group {
    edges: Vec<Edge>,
    /// Second derivative by the difference of each edge's players.
    curves: Vec<f64>,
    strength: Vec<f64>,
    lambda: f64,
    /// Without a penalty, the player who stays in place.
    held: Option<usize>,
    /// What rounding has taken from the gradient, kept where weights of very different sizes meet: there the large ones
    /// cancel, and what is left must still balance the small ones.
    lost: Vec<f64>,
    careful: bool,
}

impl Group {
    /// Takes in a group of `n` players and writes where to start.
    fn load(&mut self, n: usize, edges: impl Iterator<Item = Edge>, regularization: f64, at: &mut Vec<f64>) {
        self.edges.clear();
        self.edges.extend(edges);
        let mut unit = regularization.max(f64::MIN_POSITIVE);
        let mut least = if regularization > 0.0 { regularization } else { f64::INFINITY };
        for edge in &self.edges {
            unit = unit.max(edge.won).max(edge.lost);
            for weight in [edge.won, edge.lost] {
                least = if weight > 0.0 { least.min(weight) } else { least };
            }
        }
        self.careful = least < CARE * unit;
        for edge in &mut self.edges {
            edge.won /= unit;
            edge.lost /= unit;
        }
        self.lambda = regularization / unit;
        self.strength.clear();
        self.strength.resize(n, 0.0);
        self.lost.clear();
        self.lost.resize(n, 0.0);
        self.curves.resize(self.edges.len(), 0.0);
        // The log odds of each player's share of wins: exact for two players, near the maximum for a round robin.
        at.clear();
        at.resize(n, 0.0);
        let won = at;
        let lost = &mut self.strength;
        for Edge { i, j, won: i_won, lost: i_lost } in self.edges.iter().copied() {
            won[i] += i_won;
            lost[i] += i_lost;
            won[j] += i_lost;
            lost[j] += i_won;
        }
        self.held = None;
        if self.lambda == 0.0 {
            let weight = |player: &usize| won[*player] + lost[*player];
            self.held = (0..n).reduce(|most, player| if weight(&player) > weight(&most) { player } else { most });
        }
        for (won, lost) in won.iter_mut().zip(lost) {
            let little = 0.05 * (*won + *lost);
            // Nothing at all only where all weights are ties that count for nothing.
            *won = if little > 0.0 { libm::log((*won + little) / (*lost + little)) } else { 0.0 };
        }
    }
}

impl Concave for Group {
    fn parameters(&self) -> usize {
        self.strength.len()
    }

    fn gradient(&mut self, at: &[f64], gradient: &mut [f64]) {
        let (low, high) = ends(at);
        for (gradient, eps) in gradient.iter_mut().zip(at) {
            *gradient = -self.lambda * eps;
        }
        // One exponential per player, where they are not so far apart that it overflows.
        let in_range = high - low < 600.0;
        if in_range {
            let middle = low + (high - low) / 2.0;
            for (strength, eps) in self.strength.iter_mut().zip(at) {
                *strength = libm::exp(eps - middle);
            }
        }
        for (Edge { i, j, won, lost }, curve) in self.edges.iter().copied().zip(&mut self.curves) {
            // σ(d) and σ(−d), each without loss of its last digits.
            let (beats, loses) = if in_range {
                let both = 1.0 / (self.strength[i] + self.strength[j]);
                (self.strength[i] * both, self.strength[j] * both)
            } else {
                let d = at[i] - at[j];
                let e = libm::exp(-d.abs());
                let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
                if d >= 0.0 { (large, small) } else { (small, large) }
            };
            let pull = won * loses - lost * beats;
            if self.careful {
                add(&mut gradient[i], &mut self.lost[i], pull);
                add(&mut gradient[j], &mut self.lost[j], -pull);
            } else {
                gradient[i] += pull;
                gradient[j] -= pull;
            }
            *curve = (won + lost) * beats * loses;
        }
        if self.careful {
            for (gradient, lost) in gradient.iter_mut().zip(&mut self.lost) {
                *gradient += std::mem::take(lost);
            }
        }
        if let Some(held) = self.held {
            gradient[held] = 0.0;
        }
    }

    fn curvature(&self, matrix: &mut [f64]) {
        let n = self.parameters();
        matrix.fill(0.0);
        for i in 0..n {
            matrix[i * n + i] = self.lambda;
        }
        for (Edge { i, j, .. }, curve) in self.edges.iter().copied().zip(&self.curves) {
            matrix[i * n + j] -= curve;
            matrix[i * n + i] += curve;
            matrix[j * n + j] += curve;
        }
        if let Some(held) = self.held {
            matrix[held * n..held * n + held].fill(0.0);
            for below in held + 1..n {
                matrix[below * n + held] = 0.0;
            }
            matrix[held * n + held] = 1.0;
        }
    }

    fn curvature_times(&self, vector: &[f64], image: &mut [f64]) {
        for (image, value) in image.iter_mut().zip(vector) {
            *image = self.lambda * value;
        }
        for (Edge { i, j, .. }, curve) in self.edges.iter().copied().zip(&self.curves) {
            let flow = curve * (vector[i] - vector[j]);
            image[i] += flow;
            image[j] -= flow;
        }
        // The vectors that come here are 0 at the player who is held.
        if let Some(held) = self.held {
            image[held] = 0.0;
        }
    }

    fn curvature_diagonal(&self, diagonal: &mut [f64]) {
        diagonal.fill(self.lambda);
        for (Edge { i, j, .. }, curve) in self.edges.iter().copied().zip(&self.curves) {
            diagonal[i] += curve;
            diagonal[j] += curve;
        }
    }

    fn range(&self, step: &[f64]) -> f64 {
        let mut range: f64 = 0.0;
        for Edge { i, j, .. } in self.edges.iter().copied() {
            range = range.max((step[i] - step[j]).abs());
        }
        range
    }
}

/// Adds to a sum and, to what it has lost so far, what rounding takes from it this time (Knuth's two-sum).
pub fn add(sum: &mut f64, lost: &mut f64, value: f64) {
    let before = *sum;
    *sum = before + value;
    let of_value = *sum - before;
    *lost += (before - (*sum - of_value)) + (value - of_value);
}

/// The least and the greatest.
fn ends(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

#[cfg(test)]
mod tests {
    use metareward_api::{Battle, RankingProblem};

    use super::{super::Ties, *};

    /// A large problem, the same every time: a ring of `players`, each of whom meets the next ones, with upsets.
    fn ring(players: u32, reach: u32) -> RankingProblem {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let mut battles = Vec::new();
        for left in 0..players {
            for apart in 1..=reach {
                let right = (left + apart) % players;
                let (left_wins, right_wins) = ((4.0 * random()).floor(), (4.0 * random()).floor());
                battles.push(Battle { left, right, left_wins, right_wins, ties: 1.0 });
            }
        }
        RankingProblem { players, battles }
    }

    /// Largest entry of the gradient, player by player, straight from the definition.
    fn steepest(problem: &RankingProblem, eps: &[f64], likelihood: BradleyTerry, lambda: f64) -> f64 {
        let mut gradient: Vec<f64> = eps.iter().map(|eps| -lambda * eps).collect();
        for battle in &problem.battles {
            let (left, right) = (battle.left as usize, battle.right as usize);
            let chance = 1.0 / (1.0 + (eps[right] - eps[left]).exp());
            let tied = likelihood.tie_share * battle.ties;
            let pull = (battle.left_wins + tied) * (1.0 - chance) - (battle.right_wins + tied) * chance;
            gradient[left] += pull;
            gradient[right] -= pull;
        }
        gradient.iter().fold(0.0, |most: f64, entry| most.max(entry.abs()))
    }

    #[test]
    fn factorisation_and_conjugate_gradients_find_the_maximum() {
        for (players, reach) in [(2, 1), (40, 3), (160, 5), (161, 5), (161, 80), (3000, 2), (3000, 12)] {
            let problem = ring(players, reach);
            let meetings = Meetings::of(&problem, Ties::Counted).unwrap();
            for regularization in [0.0, 0.01] {
                let likelihood = BradleyTerry { regularization, tie_share: 0.5 };
                let fit = Solver::default().fit(&meetings, likelihood);
                let case = format!("{players} players, {reach} neighbours, regularization {regularization}");
                assert!(fit.converged, "{case}: {} steps", fit.steps);
                let steepest = steepest(&problem, &fit.eps, likelihood, regularization);
                assert!(steepest < 1e-9, "{case}: gradient {steepest}");
                let sum: f64 = fit.eps.iter().sum();
                assert!(sum.abs() < 1e-9, "{case}: sum {sum}");
            }
        }
    }

    #[test]
    fn a_long_chain_without_a_penalty() {
        // Each beats the next four times out of five: the ends are 2,000 · ln 4 apart.
        let battle = |left: u32| Battle { left, right: left + 1, left_wins: 4.0, right_wins: 1.0, ties: 0.0 };
        let problem = RankingProblem { players: 2001, battles: (0..2000).map(battle).collect() };
        let meetings = Meetings::of(&problem, Ties::Ignored).unwrap();
        let fit = Solver::default().fit(&meetings, BradleyTerry { regularization: 0.0, tie_share: 0.0 });
        assert!(fit.converged, "{} steps", fit.steps);
        let apart = fit.eps[0] - fit.eps[2000];
        assert!((apart / (2000.0 * 4f64.ln()) - 1.0).abs() < 1e-9, "{apart}");
    }

    #[test]
    fn groups_are_solved_one_by_one() {
        let one = ring(30, 2);
        let shifted = one.battles.iter().map(|b| Battle { left: 2 * b.left, right: 2 * b.right, ..*b });
        // The same battles among the even and, mirrored, among the odd players.
        let mirrored = one.battles.iter().map(|b| Battle {
            left: 2 * b.left + 1,
            right: 2 * b.right + 1,
            left_wins: b.right_wins,
            right_wins: b.left_wins,
            ..*b
        });
        let both = RankingProblem { players: 60, battles: shifted.chain(mirrored).collect() };
        let likelihood = BradleyTerry { regularization: 0.01, tie_share: 0.5 };
        let mut solver = Solver::default();
        let alone = solver.fit(&Meetings::of(&one, Ties::Counted).unwrap(), likelihood);
        let both = solver.fit(&Meetings::of(&both, Ties::Counted).unwrap(), likelihood);
        for (player, eps) in alone.eps.iter().enumerate() {
            assert!((both.eps[2 * player] - eps).abs() < 1e-10);
            assert!((both.eps[2 * player + 1] + eps).abs() < 1e-10);
        }
    }
}
