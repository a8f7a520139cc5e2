//! Meta-judges: matches between judgments that exist, square battle matrices of finite weights.

use metareward_api::{
    Match, Message, MetaJudge, MetaJudgeItem, PluginError, PositionWins, Unreadable, VerdictSet, Weighed, WeightScope,
    Winner,
};

use super::Checked;

impl MetaJudge for Checked<dyn MetaJudge> {
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
            let players = set.players as usize;
            let battles = &weighed.battles;
            if battles.players != players || battles.wins.len() != players * players {
                let what = format!("{} weights of {} players, not {players}", battles.wins.len(), battles.players);
                return Err(call.wrong_at(item, &what));
            }
            let numbers = weighed.weights.iter().chain(&battles.wins);
            if let Some(number) = numbers.into_iter().find(|number| !(number.is_finite() && **number >= 0.0)) {
                return Err(call.wrong_at(item, &format!("weight {number} is not a number from 0")));
            }
            if let Some(player) = (0..players).find(|player| battles.get(*player, *player) != 0.0) {
                return Err(call.wrong_at(item, &format!("judgment {player} has a battle with itself")));
            }
        }
        Ok(weighed)
    }
}
