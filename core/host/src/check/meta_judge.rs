//! Meta-judges: matches and battles between two judgments that exist, with finite weights.

use metareward_api::{
    Battle, Match, Message, MetaJudge, MetaJudgeItem, MetaJudgePromises, PluginError, PositionWins, Unreadable,
    VerdictSet, Weighed, WeightScope, Winner,
};

use super::Checked;

impl MetaJudge for Checked<dyn MetaJudge> {
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        self.call("promises").answer(self.inner.promises())
    }

    fn scope(&self) -> Result<WeightScope, PluginError> {
        self.call("scope").answer(self.inner.scope())
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        let call = self.call("schedule");
        let schedules = call.answer(self.inner.schedule(players))?;
        call.length(schedules.len(), players.len())?;
        for (item, (matches, players)) in schedules.iter().zip(players).enumerate() {
            let bad = matches.iter().find(|m| m.first == m.second || m.first.max(m.second) >= *players);
            if let Some(Match { first, second }) = bad {
                let what = format!("a match of {first} against {second} among {players} judgments");
                return Err(call.wrong_at(item, &what));
            }
        }
        Ok(schedules)
    }

    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let call = self.call("render");
        let conversations = call.answer(self.inner.render(items))?;
        call.conversations(&conversations, items.len())?;
        Ok(conversations)
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        let call = self.call("parse");
        let winners = call.answer(self.inner.parse(texts))?;
        call.length(winners.len(), texts.len())?;
        Ok(winners)
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        self.call("closing_line").answer(self.inner.closing_line(winner))
    }

    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        let call = self.call("weigh");
        let weighed = call.answer(self.inner.weigh(sets, wins))?;
        call.length(weighed.len(), sets.len())?;
        for (item, (weighed, set)) in weighed.iter().zip(sets).enumerate() {
            let weights = weighed.battles.iter().flat_map(|b| [b.left_wins, b.right_wins, b.ties]);
            let unfit = |weight: &f64| !(weight.is_finite() && *weight >= 0.0);
            if let Some(weight) = weighed.weights.into_iter().chain(weights).find(unfit) {
                return Err(call.wrong_at(item, &format!("weight {weight} is not a number from 0")));
            }
            let bad = weighed.battles.iter().find(|b| b.left == b.right || b.left.max(b.right) >= set.players);
            if let Some(Battle { left, right, .. }) = bad {
                let what = format!("a battle of {left} against {right} among {} judgments", set.players);
                return Err(call.wrong_at(item, &what));
            }
        }
        Ok(weighed)
    }
}
