//! Sampler: temperature and min-p, the same for every draw (Nguyen et al. 2024).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{DrawPlan, Kind, OptionError, Plugin, PluginError, PluginInfo, Sampler, SamplerItem, Sampling};
use metareward_plugin::{FromOptions, Options, check_sampling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`MinP`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MinPOptions {
    /// Keeps tokens at least this probable relative to the most probable one; 0 keeps all, 1 only the most probable.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: f64,
    /// Divides the logits, before min-p looks at them; 0 takes the most probable token.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Longest answer in tokens.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
    /// Texts that end an answer.
    pub stop: Vec<String>,
}

impl MinPOptions {
    fn sampling(&self) -> Sampling {
        let Self { min_p, temperature, max_tokens, stop } = self.clone();
        Sampling { temperature, top_p: 1.0, top_k: None, min_p, max_tokens, stop }
    }
}

impl Default for MinPOptions {
    fn default() -> Self {
        Self { min_p: 0.1, temperature: 1.0, max_tokens: 1024, stop: Vec::new() }
    }
}

impl Options for MinPOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_sampling(&self.sampling())
    }
}

/// Draws every answer with the same temperature and min-p; the draws differ by their seeds alone.
#[derive(Clone, Debug)]
pub struct MinP {
    sampling: Sampling,
}

impl FromOptions for MinP {
    type Options = MinPOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Sampler,
            name: "min-p".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "temperature and min-p, the same for every draw".to_owned(),
        }
    }

    fn from_options(options: MinPOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { sampling: options.sampling() })
    }
}

impl Plugin for MinP {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sampler for MinP {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let plan = DrawPlan { sampling: self.sampling.clone(), seed_offset: 0 };
        Ok(items.iter().map(|item| vec![plan.clone(); item.draws as usize]).collect())
    }
}

metareward_plugin::export!(sampler: MinP);

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_plugin::read_options;
    use serde_json::json;

    #[test]
    fn only_temperature_and_min_p_shape_the_draws() {
        let sampler = MinP::from_options(read_options(&json!({"min_p": 0.05, "temperature": 1.5})).unwrap()).unwrap();
        let plans = sampler.plan(&[SamplerItem { characters: 3, draws: 2 }]).unwrap();
        let sampling = &plans[0][1].sampling;
        assert_eq!((sampling.min_p, sampling.temperature, sampling.top_p, sampling.top_k), (0.05, 1.5, 1.0, None));
    }

    #[test]
    fn ranges_are_checked() {
        for (key, value) in [
            ("temperature", json!(-0.1)),
            ("min_p", json!(1.01)),
            ("min_p", json!(-0.01)),
            ("max_tokens", json!(0)),
            ("stop", json!([""])),
            ("top_p", json!(0.9)),
        ] {
            let error = read_options::<MinPOptions>(&json!({ key: value })).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{error}");
        }
    }
}
