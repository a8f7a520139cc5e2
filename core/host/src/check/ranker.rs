//! Rankers: one finite rating per player, remarks about players that exist, promises that make sense.

use metareward_api::{Likelihood, PluginError, Ranker, RankerPromises, RankingProblem, Rating, Remark};

use super::Checked;

impl Ranker for Checked<dyn Ranker> {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        let call = self.call("promises");
        let promises = call.answer(self.inner.promises())?;
        if let Some(Likelihood { points, regularization, tie_share }) = promises.likelihood {
            let above_zero = |value: f64| value.is_finite() && value > 0.0;
            if !(above_zero(points) && above_zero(regularization) && (0.0..=1.0).contains(&tie_share)) {
                let what = format!(
                    "a likelihood with {points} points, regularisation {regularization} and tie share {tie_share}"
                );
                return Err(call.wrong(&what));
            }
        }
        Ok(promises)
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let call = self.call("rate");
        let ratings = call.answer(self.inner.rate(problems))?;
        call.length(ratings.len(), problems.len())?;
        for (item, (rating, problem)) in ratings.iter().zip(problems).enumerate() {
            let (found, players) = (rating.ratings.len(), problem.players as usize);
            if found != players {
                return Err(call.wrong_at(item, &format!("{found} ratings for {players} players")));
            }
            if let Some((player, value)) = rating.ratings.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(call.wrong_at(item, &format!("the rating of player {player} is {value}")));
            }
            for remark in &rating.remarks {
                let known = match remark {
                    Remark::Undefeated(who) | Remark::Winless(who) => who.iter().all(|who| (*who as usize) < players),
                    Remark::Disconnected(groups) => (*groups as usize) <= players,
                    Remark::NoBattles | Remark::NotConverged => true,
                };
                if !known {
                    return Err(call.wrong_at(item, &format!("remark `{remark}` about {players} players")));
                }
            }
        }
        Ok(ratings)
    }
}
