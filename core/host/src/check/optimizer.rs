//! Optimizers: a finite number per pair in every vector.

use metareward_api::{Optimizer, OptimizerPromises, PairLogProbs, PluginError, PreferenceLoss};

use super::Checked;

impl Optimizer for Checked<dyn Optimizer> {
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        self.call("promises").answer(self.inner.promises())
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        self.call("needs_reference").answer(self.inner.needs_reference())
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        let call = self.call("loss_at_start");
        match call.answer(self.inner.loss_at_start())? {
            Some(loss) if !loss.is_finite() => Err(call.wrong(&format!("loss {loss}"))),
            loss => Ok(loss),
        }
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let call = self.call("loss");
        let loss = call.answer(self.inner.loss(pairs))?;
        for (name, values) in [
            ("losses", &loss.losses),
            ("chosen_gradient", &loss.chosen_gradient),
            ("rejected_gradient", &loss.rejected_gradient),
            ("chosen_rewards", &loss.chosen_rewards),
            ("rejected_rewards", &loss.rejected_rewards),
        ] {
            if values.len() != pairs.len() {
                return Err(call.wrong(&format!("{} {name} for {} pairs", values.len(), pairs.len())));
            }
            if let Some((item, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(call.wrong_at(item, &format!("{value} in {name}")));
            }
        }
        if let Some((name, value)) = loss.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(call.wrong(&format!("metric {name} is {value}")));
        }
        Ok(loss)
    }
}
