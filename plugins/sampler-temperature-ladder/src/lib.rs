//! Sampler: temperatures spread over the draws of a prompt, from careful to bold.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{DrawPlan, Kind, OptionError, Plugin, PluginError, PluginInfo, Sampler, SamplerItem, Sampling};
use metareward_plugin::{FromOptions, Options, check_sampling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`TemperatureLadder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TemperatureLadderOptions {
    /// Temperature of the first draw; 0 makes it greedy.
    #[schemars(range(min = 0.0))]
    pub lowest: f64,
    /// Temperature of the last draw; not below `lowest`.
    #[schemars(range(min = 0.0))]
    pub highest: f64,
    /// Keeps the smallest set of tokens whose probability reaches this; above 0, up to 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub top_p: f64,
    /// Keeps this many of the most probable tokens; `null` keeps all.
    #[schemars(range(min = 1))]
    pub top_k: Option<u32>,
    /// Keeps tokens at least this probable relative to the most probable one; 0 keeps all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: f64,
    /// Longest answer in tokens.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
    /// Texts that end an answer.
    pub stop: Vec<String>,
}

impl TemperatureLadderOptions {
    fn sampling(&self, temperature: f64) -> Sampling {
        let Self { top_p, top_k, min_p, max_tokens, stop, .. } = self.clone();
        Sampling { temperature, top_p, top_k, min_p, max_tokens, stop }
    }
}

impl Default for TemperatureLadderOptions {
    fn default() -> Self {
        Self { lowest: 0.4, highest: 1.2, top_p: 0.95, top_k: None, min_p: 0.0, max_tokens: 1024, stop: Vec::new() }
    }
}

impl Options for TemperatureLadderOptions {
    fn check(&self) -> Result<(), OptionError> {
        for (key, temperature) in [("lowest", self.lowest), ("highest", self.highest)] {
            if !(temperature.is_finite() && temperature >= 0.0) {
                return Err(OptionError::at(key, format!("expected a number from 0, found {temperature}")));
            }
        }
        if self.highest < self.lowest {
            let message = format!("expected a number from `lowest` ({}), found {}", self.lowest, self.highest);
            return Err(OptionError::at("highest", message));
        }
        check_sampling(&self.sampling(self.lowest))
    }
}

/// Draws the answers to a prompt at evenly spaced temperatures.
#[derive(Clone, Debug)]
pub struct TemperatureLadder {
    options: TemperatureLadderOptions,
}

impl TemperatureLadder {
    /// The temperature of one of `draws`: in even steps from lowest to highest, halfway where there is one draw only.
    fn temperature(&self, draw: u32, draws: u32) -> f64 {
        let TemperatureLadderOptions { lowest, highest, .. } = self.options;
        if draws < 2 {
            return lowest + (highest - lowest) / 2.0;
        }
        // Rounding keeps the order and both ends.
        (lowest + (highest - lowest) * (f64::from(draw) / f64::from(draws - 1))).min(highest)
    }
}

impl FromOptions for TemperatureLadder {
    type Options = TemperatureLadderOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Sampler,
            name: "temperature-ladder".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "temperatures spread over the draws of a prompt".to_owned(),
        }
    }

    fn from_options(options: TemperatureLadderOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for TemperatureLadder {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sampler for TemperatureLadder {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let plan =
            |draw, draws| DrawPlan { sampling: self.options.sampling(self.temperature(draw, draws)), seed_offset: 0 };
        Ok(items.iter().map(|item| (0..item.draws).map(|draw| plan(draw, item.draws)).collect()).collect())
    }
}

metareward_plugin::export!(sampler: TemperatureLadder);

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_plugin::read_options;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn ladder(options: Value, draws: u32) -> Vec<f64> {
        let sampler = TemperatureLadder::from_options(read_options(&options).unwrap()).unwrap();
        let plans = sampler.plan(&[SamplerItem { characters: 0, draws }]).unwrap().remove(0);
        plans.iter().map(|plan| plan.sampling.temperature).collect()
    }

    #[test]
    fn steps_are_even() {
        let options = json!({"lowest": 0.5, "highest": 1.5});
        assert_eq!(ladder(options.clone(), 5), [0.5, 0.75, 1.0, 1.25, 1.5]);
        assert_eq!(ladder(options.clone(), 2), [0.5, 1.5]);
        assert_eq!(ladder(options.clone(), 1), [1.0]);
        assert_eq!(ladder(options, 0), [0.0; 0]);
    }

    #[test]
    fn ranges_are_checked() {
        for (key, options) in [
            ("lowest", json!({"lowest": -0.1})),
            ("highest", json!({"lowest": 1.0, "highest": 0.9})),
            ("top_p", json!({"top_p": 0})),
            ("top_k", json!({"top_k": 0})),
            ("temperature", json!({"temperature": 1})),
        ] {
            let error = read_options::<TemperatureLadderOptions>(&options).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{error}");
        }
    }

    proptest! {
        #[test]
        fn temperatures_rise_from_lowest_to_highest(lowest in 0.0..3.0f64, more in 0.0..3.0f64, draws in 2u32..40) {
            let highest = lowest + more;
            let temperatures = ladder(json!({"lowest": lowest, "highest": highest}), draws);
            prop_assert_eq!(temperatures.len(), draws as usize);
            prop_assert_eq!(temperatures[0], lowest);
            prop_assert!((temperatures[draws as usize - 1] - highest).abs() <= 1e-15 * highest);
            prop_assert!(temperatures.is_sorted());
            prop_assert!(temperatures.iter().all(|one| *one >= lowest && *one <= highest));
        }
    }
}
