//! The plugin: options, the Elo scale, and what is said of degenerate battles.

use metareward_api::{BattleMatrix, Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, Rating, Remark};
use metareward_plugin::{FromOptions, Options};
use serde::{Deserialize, Serialize};

use crate::{
    graph::{self, Graph},
    newton::{Problem, Solver},
};

/// Stands in for a regularisation of 0 where no finite maximum exists.
const LEAST_REGULARIZATION: f64 = 1e-4;

/// Options of [`Elo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EloOptions {
    /// λ of the penalty (λ/2)·Σ eps². 0 is plain maximum likelihood wherever a finite maximum exists.
    pub regularization: f64,
    /// Difference in rating at which the odds are ten to one.
    pub scale: f64,
    /// Mean rating.
    pub base: f64,
}

impl Default for EloOptions {
    fn default() -> Self {
        Self { regularization: 0.01, scale: 400.0, base: 1000.0 }
    }
}

impl Options for EloOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.regularization.is_finite() && self.regularization >= 0.0) {
            let message = format!("expected a number from 0, found {}", self.regularization);
            return Err(OptionError::at("regularization", message));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(OptionError::at("scale", format!("expected a number above 0, found {}", self.scale)));
        }
        if !self.base.is_finite() {
            return Err(OptionError::at("base", format!("expected a number, found {}", self.base)));
        }
        Ok(())
    }
}

/// Elo ratings by maximum likelihood.
#[derive(Clone, Debug)]
pub struct Elo {
    options: EloOptions,
}

impl FromOptions for Elo {
    type Options = EloOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "elo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Elo ratings by maximum likelihood".to_owned(),
        }
    }

    fn from_options(options: EloOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Elo {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Ranker for Elo {
    fn rate(&self, problems: &[BattleMatrix]) -> Result<Vec<Rating>, PluginError> {
        let mut solver = Solver::default();
        problems
            .iter()
            .enumerate()
            .map(|(item, battles)| {
                check(battles).map_err(|message| PluginError::at(item, message))?;
                Ok(self.rate_one(battles, &mut solver))
            })
            .collect()
    }
}

impl Elo {
    fn rate_one(&self, battles: &BattleMatrix, solver: &mut Solver) -> Rating {
        let players = battles.players;
        let graph = Graph::of(battles);
        let mut rating =
            Rating { ratings: vec![self.options.base; players], converged: true, steps: 0, remarks: remarks(&graph) };
        let points = self.options.scale / std::f64::consts::LN_10;
        for group in graph.groups() {
            if group.len() < 2 {
                continue;
            }
            let regularization = if self.options.regularization > 0.0 || graph.strongly_connected(group) {
                self.options.regularization
            } else {
                LEAST_REGULARIZATION
            };
            let solved = solver.solve(&Problem { battles, players: group, regularization });
            rating.steps = rating.steps.max(solved.steps);
            rating.converged &= solved.converged;
            for (player, eps) in group.iter().zip(solved.eps) {
                if let Some(place) = rating.ratings.get_mut(*player) {
                    *place = self.options.base + points * eps;
                }
            }
        }
        if !rating.converged {
            rating.remarks.push(Remark::NotConverged);
        }
        rating
    }
}

/// What a reader should know of the battles.
fn remarks(graph: &Graph) -> Vec<Remark> {
    if graph.is_empty() {
        return vec![Remark::NoBattles];
    }
    let mut remarks = Vec::new();
    let undefeated = graph.undefeated();
    if !undefeated.is_empty() {
        remarks.push(Remark::Undefeated(undefeated));
    }
    let winless = graph.winless();
    if !winless.is_empty() {
        remarks.push(Remark::Winless(winless));
    }
    if graph.groups().len() > 1 {
        remarks.push(Remark::Disconnected(graph::index(graph.groups().len())));
    }
    remarks
}

/// Square, finite, not negative, zero on the diagonal.
fn check(battles: &BattleMatrix) -> Result<(), String> {
    let BattleMatrix { players, wins } = battles;
    if players.checked_mul(*players) != Some(wins.len()) {
        return Err(format!("{} weights for {players} players; expected {players} rows of {players}", wins.len()));
    }
    for (cell, weight) in wins.iter().enumerate() {
        let (row, column) = (cell / players, cell % players);
        if !(weight.is_finite() && *weight >= 0.0) {
            return Err(format!(
                "the wins of player {row} over player {column} weigh {weight}; expected a number from 0"
            ));
        }
        if row == column && *weight != 0.0 {
            return Err(format!("player {row} has a battle with itself"));
        }
    }
    if !wins.iter().sum::<f64>().is_finite() {
        return Err("the weights are too large to be added up".to_owned());
    }
    Ok(())
}
