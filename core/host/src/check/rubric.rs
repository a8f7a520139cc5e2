//! Rubrics: conversations to answer, scores on the scale, finite rewards.

use metareward_api::{Message, PluginError, Rubric, RubricItem, Scale, Unreadable};

use super::Checked;

impl Rubric for Checked<dyn Rubric> {
    fn scale(&self) -> Result<Scale, PluginError> {
        let call = self.call("scale");
        let scale = call.answer(self.inner.scale())?;
        if !(scale.min.is_finite() && scale.max.is_finite() && scale.min < scale.max) {
            return Err(call.wrong(&format!("a scale from {} to {}", scale.min, scale.max)));
        }
        Ok(scale)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        self.call("criteria").answer(self.inner.criteria())
    }

    fn compares(&self) -> Result<bool, PluginError> {
        self.call("compares").answer(self.inner.compares())
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let call = self.call("render");
        let conversations = call.answer(self.inner.render(items))?;
        call.conversations(&conversations, items.len())?;
        Ok(conversations)
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        let call = self.call("parse");
        let scale = self.scale()?;
        let scores = call.answer(self.inner.parse(texts))?;
        call.length(scores.len(), texts.len())?;
        for (item, score) in scores.iter().enumerate() {
            if let Ok(score) = score
                && !scale.contains(*score)
            {
                let Scale { min, max } = scale;
                return Err(call.wrong_at(item, &format!("score {score} is off the scale from {min} to {max}")));
            }
        }
        Ok(scores)
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        self.call("closing_line").answer(self.inner.closing_line(score))
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        let call = self.call("aggregate");
        let rewards = call.answer(self.inner.aggregate(scores))?;
        call.length(rewards.len(), scores.len())?;
        for (item, (reward, scores)) in rewards.iter().zip(scores).enumerate() {
            match reward {
                Some(reward) if !reward.is_finite() => {
                    return Err(call.wrong_at(item, &format!("reward {reward}")));
                }
                Some(reward) if scores.is_empty() => {
                    return Err(call.wrong_at(item, &format!("reward {reward} from no scores")));
                }
                _ => {}
            }
        }
        Ok(rewards)
    }
}
