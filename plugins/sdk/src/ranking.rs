//! What a ranker needs whatever its method: battles checked and summed per pair of players ([`Meetings`]), the groups
//! they fall into ([`Groups`]), what a reader should be told of them ([`remarks`]), the maximum of the Bradley–Terry
//! likelihood ([`BradleyTerry`], [`Solver`]), and of other likelihoods of its kind ([`Concave`], [`Newton`]).
//!
//! A ranker is one call of [`rate_each`] and its own arithmetic. Problems that cannot be rated are refused and degenerate
//! ones are remarked on without another line:
//!
//! ```
//! use metareward_api::{Battle, RankingProblem, Remark};
//! use metareward_plugin::ranking::{Scores, Ties, rate_each};
//!
//! let problem = RankingProblem {
//!     players: 3,
//!     battles: vec![Battle { left: 0, right: 1, left_wins: 2.0, right_wins: 1.0, ties: 0.0 }],
//! };
//! // Weight of wins minus weight of losses.
//! let ratings = rate_each(&[problem], Ties::Counted, |_, meetings| {
//!     let mut ratings = vec![0.0; meetings.players()];
//!     for pair in meetings.pairs() {
//!         let lead = pair.high_wins - pair.low_wins;
//!         ratings[pair.high as usize] += lead;
//!         ratings[pair.low as usize] -= lead;
//!     }
//!     Ok(Scores::direct(ratings))
//! })
//! .unwrap();
//! assert_eq!(ratings[0].ratings, [1.0, -1.0, 0.0]);
//! assert_eq!(ratings[0].remarks, [Remark::Disconnected(2)]);
//! ```

mod bradley_terry;
mod cholesky;
mod conjugate;
mod graph;
mod meetings;
mod newton;
mod remarks;

use metareward_api::{PluginError, RankingProblem, Rating, Remark};

pub use bradley_terry::{BradleyTerry, Fit, LEAST_REGULARIZATION, Solver, add as add_carefully};
pub use graph::{Groups, strongly_connected};
pub use meetings::{Meetings, Pair, Ties};
pub use newton::{Ascent, Concave, Newton};
pub use remarks::remarks;

/// What a method found out about one problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One finite rating per player; higher is better.
    pub ratings: Vec<f64>,
    /// Whether the method arrived where it wanted to.
    pub converged: bool,
    /// Steps taken; 0 for a method without steps.
    pub steps: u32,
}

impl Scores {
    /// Ratings that are computed directly, without steps towards them.
    pub fn direct(ratings: Vec<f64>) -> Self {
        Self { ratings, converged: true, steps: 0 }
    }
}

/// Rates every problem of a batch by `method`, which is given the problem, its battles in order, and the same battles
/// summed per pair. Adds the remarks; the method says only whether it converged.
///
/// # Errors
/// When a problem is malformed ([`Meetings::read`]), when the method fails, and when it does not return one finite rating
/// per player. The error names the problem.
pub fn rate_each(
    problems: &[RankingProblem],
    ties: Ties,
    mut method: impl FnMut(&RankingProblem, &Meetings) -> Result<Scores, String>,
) -> Result<Vec<Rating>, PluginError> {
    let mut meetings = Meetings::default();
    problems
        .iter()
        .enumerate()
        .map(|(item, problem)| {
            let rating = meetings
                .read(problem, ties)
                .and_then(|()| method(problem, &meetings))
                .and_then(|scores| rating(scores, &meetings));
            rating.map_err(|message| PluginError::at(item, message))
        })
        .collect()
}

fn rating(scores: Scores, meetings: &Meetings) -> Result<Rating, String> {
    let Scores { ratings, converged, steps } = scores;
    if ratings.len() != meetings.players() {
        return Err(format!("{} ratings for {} players", ratings.len(), meetings.players()));
    }
    if let Some((player, rating)) = ratings.iter().enumerate().find(|(_, rating)| !rating.is_finite()) {
        return Err(format!(
            "the rating of player {player} is {rating}: the options or weights are too large to be reckoned with"
        ));
    }
    let mut remarks = remarks(meetings);
    if !converged {
        remarks.push(Remark::NotConverged);
    }
    Ok(Rating { ratings, converged, steps, remarks })
}
