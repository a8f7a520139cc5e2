//! Samplers: one plan per draw, every parameter in its range, probabilities that add up to 1.

use metareward_api::{DrawPlan, NextTokens, PluginError, Sampler, SamplerItem, Sampling};

use super::Checked;

impl Sampler for Checked<dyn Sampler> {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let call = self.call("plan");
        let plans = call.answer(self.inner.plan(items))?;
        call.length(plans.len(), items.len())?;
        for (index, (plan, item)) in plans.iter().zip(items).enumerate() {
            if plan.len() != item.draws as usize {
                return Err(call.wrong_at(index, &format!("{} plans for {} draws", plan.len(), item.draws)));
            }
            if let Some(fault) = plan.iter().find_map(|draw| fault(&draw.sampling)) {
                return Err(call.wrong_at(index, &fault));
            }
        }
        Ok(plans)
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        let call = self.call("reshapes");
        match call.answer(self.inner.reshapes())? {
            Some(0) => Err(call.wrong("it reshapes, but wants to see no token")),
            most => Ok(most),
        }
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        let call = self.call("reshape");
        let reshaped = call.answer(self.inner.reshape(rows))?;
        call.length(reshaped.len(), rows.len())?;
        for (index, (probabilities, row)) in reshaped.iter().zip(rows).enumerate() {
            let (found, tokens) = (probabilities.len(), row.tokens.len());
            if found != tokens {
                return Err(call.wrong_at(index, &format!("{found} probabilities of {tokens} tokens")));
            }
            if let Some(bad) = probabilities.iter().find(|p| !(p.is_finite() && **p >= 0.0)) {
                return Err(call.wrong_at(index, &format!("probability {bad} is not a number from 0")));
            }
            let sum: f64 = probabilities.iter().sum();
            if (sum - 1.0).abs() > ROUNDING {
                return Err(call.wrong_at(index, &format!("probabilities that sum to {sum}, not to 1")));
            }
        }
        Ok(reshaped)
    }
}

/// How far a sum of probabilities may be from 1.
const ROUNDING: f64 = 1e-6;

fn fault(sampling: &Sampling) -> Option<String> {
    let Sampling { temperature, top_p, top_k, min_p, max_tokens, stop } = sampling;
    if !(temperature.is_finite() && *temperature >= 0.0) {
        return Some(format!("temperature {temperature} is not a number from 0"));
    }
    if !(*top_p > 0.0 && *top_p <= 1.0) {
        return Some(format!("top_p {top_p} is not above 0 and up to 1"));
    }
    if !(0.0..=1.0).contains(min_p) {
        return Some(format!("min_p {min_p} is not from 0 to 1"));
    }
    if *top_k == Some(0) {
        return Some("top_k 0 leaves no token".to_owned());
    }
    if *max_tokens == 0 {
        return Some("max_tokens 0 leaves no answer".to_owned());
    }
    stop.iter().any(String::is_empty).then(|| "an empty stop text".to_owned())
}
