//! Plugin kind *ranker*: ratings from battles.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Plugin, PluginError};

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

/// Ratings of one battle matrix.
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
    /// One [`Rating`] per matrix, with one finite rating per player.
    ///
    /// # Errors
    /// When a matrix is not square, not finite or has negative weights.
    fn rate(&self, problems: &[BattleMatrix]) -> Result<Vec<Rating>, PluginError>;
}
