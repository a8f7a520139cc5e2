//! Rankers: one finite rating per player, remarks about players that exist.

use metareward_api::{BattleMatrix, PluginError, Ranker, Rating, Remark};

use super::Checked;

impl Ranker for Checked<dyn Ranker> {
    fn rate(&self, problems: &[BattleMatrix]) -> Result<Vec<Rating>, PluginError> {
        let call = self.call("rate");
        let ratings = call.answer(self.inner.rate(problems))?;
        call.length(ratings.len(), problems.len())?;
        for (item, (rating, problem)) in ratings.iter().zip(problems).enumerate() {
            let (found, players) = (rating.ratings.len(), problem.players);
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
