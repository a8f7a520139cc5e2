//! Samplers: one plan per draw, every parameter in its range.

use metareward_api::{DrawPlan, PluginError, Sampler, SamplerItem, Sampling};

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
}

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
