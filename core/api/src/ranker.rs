//! Plugin kind *ranker*: ratings from battles.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Plugin, PluginError};

/// What happened between two players at one meeting. Weights are finite and not negative; `left` and `right` differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Battle {
    /// Index of one player.
    pub left: u32,
    /// Index of the other player.
    pub right: u32,
    /// Weight of the wins of `left` over `right`.
    pub left_wins: f64,
    /// Weight of the wins of `right` over `left`.
    pub right_wins: f64,
    /// Weight of the meetings that nobody won. A ranker documents what it makes of them.
    pub ties: f64,
}

/// Players and their battles in the order in which they were fought.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankingProblem {
    /// Number of players.
    pub players: u32,
    /// The battles, first to last. Two players may meet any number of times.
    pub battles: Vec<Battle>,
}

/// Weights of wins, row against column. Square, finite, not negative, zero on the diagonal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BattleMatrix {
    /// Number of players.
    pub players: usize,
    /// `players * players` weights, row by row.
    pub wins: Vec<f64>,
}

impl BattleMatrix {
    /// A matrix without battles.
    pub fn new(players: usize) -> Self {
        Self { players, wins: vec![0.0; players * players] }
    }

    /// The wins of all battles of a problem, and `tie_share` of every tie for either side: 0 leaves ties out, 0.5
    /// counts them as half wins. Battles with players that are not there are left out.
    pub fn of(problem: &RankingProblem, tie_share: f64) -> Self {
        let mut matrix = Self::new(problem.players as usize);
        for battle in &problem.battles {
            let (left, right) = (battle.left as usize, battle.right as usize);
            matrix.add(left, right, battle.left_wins + tie_share * battle.ties);
            matrix.add(right, left, battle.right_wins + tie_share * battle.ties);
        }
        matrix
    }

    /// Weight of the wins of `row` over `column`; 0 outside the matrix.
    pub fn get(&self, row: usize, column: usize) -> f64 {
        if row < self.players && column < self.players {
            self.wins.get(row * self.players + column).copied().unwrap_or(0.0)
        } else {
            0.0
        }
    }

    /// Adds to the weight of the wins of `row` over `column`; nothing happens outside the matrix.
    pub fn add(&mut self, row: usize, column: usize, weight: f64) {
        if row < self.players
            && column < self.players
            && let Some(cell) = self.wins.get_mut(row * self.players + column)
        {
            *cell += weight;
        }
    }

    /// The rows, for records.
    pub fn rows(&self) -> Vec<Vec<f64>> {
        self.wins.chunks(self.players.max(1)).map(<[f64]>::to_vec).take(self.players).collect()
    }
}

/// What a reader should know of a rating. Degenerate data is said, never silent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remark {
    /// There are no battles at all.
    NoBattles,
    /// These players never lost: without regularisation their rating is infinite.
    Undefeated(Vec<u32>),
    /// These players never won.
    Winless(Vec<u32>),
    /// The players fall into this many groups between which there are no battles: ratings compare only within one.
    Disconnected(u32),
    /// The optimum was not reached within the allowed number of steps.
    NotConverged,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::NoBattles => f.write_str("no battles"),
            Remark::Undefeated(players) => write!(f, "undefeated: {players:?}"),
            Remark::Winless(players) => write!(f, "winless: {players:?}"),
            Remark::Disconnected(groups) => write!(f, "{groups} groups without battles between them"),
            Remark::NotConverged => f.write_str("not converged"),
        }
    }
}

/// The Bradley–Terry likelihood with a quadratic penalty, for rankers that promise its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// What a rating is divided by to be a natural log odds: 400 / ln 10 on the Elo scale.
    pub points: f64,
    /// λ of the penalty (λ/2)·Σ eps². Above 0, so that there always is a finite maximum.
    pub regularization: f64,
    /// Share of a tie that counts as a win of either side: 0 where ties are left out, 0.5 for half wins.
    pub tie_share: f64,
}

/// What not every honest ranker promises. The laws hold a ranker to what it promises and to nothing else of this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankerPromises {
    /// The order of the battles does not matter.
    pub ignores_order: bool,
    /// Swapping all results mirrors the ratings themselves, not only their order.
    pub mirrors_ratings: bool,
    /// The ratings maximise this likelihood.
    pub likelihood: Option<Likelihood>,
}

/// Ratings of one problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    /// One finite rating per player; higher is better. The ranker documents the scale.
    pub ratings: Vec<f64>,
    /// Whether the optimum was reached.
    pub converged: bool,
    /// Steps taken.
    pub steps: u32,
    /// What a reader should know.
    pub remarks: Vec<Remark>,
}

/// Rates players from their battles (paper section 3, step 6).
pub trait Ranker: Plugin {
    /// What the ranker promises beyond the laws of all rankers.
    ///
    /// # Errors
    /// When the plugin cannot answer.
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises::default())
    }

    /// One [`Rating`] per problem, with one finite rating per player.
    ///
    /// # Errors
    /// When a battle names a player that is not there, one player twice, or a weight that is not finite or negative.
    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError>;
}
