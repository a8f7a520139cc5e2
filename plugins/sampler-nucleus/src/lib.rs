//! Sampler: temperature, top-p, top-k, min-p, the same for every draw (paper section 2, steps 1 and 2).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{DrawPlan, Kind, OptionError, Plugin, PluginError, PluginInfo, Sampler, SamplerItem, Sampling};
use metareward_plugin::{FromOptions, Options, check_sampling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`Nucleus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NucleusOptions {
    /// Divides the logits; 0 takes the most probable token.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
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

impl Default for NucleusOptions {
    fn default() -> Self {
        Self { temperature: 0.8, top_p: 0.95, top_k: None, min_p: 0.0, max_tokens: 1024, stop: Vec::new() }
    }
}

impl Options for NucleusOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_sampling(&self.sampling())
    }
}

impl NucleusOptions {
    fn sampling(&self) -> Sampling {
        let Self { temperature, top_p, top_k, min_p, max_tokens, stop } = self.clone();
        Sampling { temperature, top_p, top_k, min_p, max_tokens, stop }
    }
}

/// Draws every answer with the same declared parameters; the draws differ by their seeds alone.
#[derive(Clone, Debug)]
pub struct Nucleus {
    sampling: Sampling,
}

impl FromOptions for Nucleus {
    type Options = NucleusOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Sampler,
            name: "nucleus".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "temperature, top-p, top-k and min-p, the same for every draw".to_owned(),
        }
    }

    fn from_options(options: NucleusOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { sampling: options.sampling() })
    }
}

impl Plugin for Nucleus {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sampler for Nucleus {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let plan = DrawPlan { sampling: self.sampling.clone(), seed_offset: 0 };
        Ok(items.iter().map(|item| vec![plan.clone(); item.draws as usize]).collect())
    }
}

metareward_plugin::export!(sampler: Nucleus);

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_plugin::read_options;
    use serde_json::json;

    #[test]
    fn the_papers_parameters_are_the_defaults() {
        let sampler = Nucleus::from_options(NucleusOptions::default()).unwrap();
        let plans = sampler.plan(&[SamplerItem { characters: 3, draws: 2 }, SamplerItem { characters: 0, draws: 0 }]);
        let plans = plans.unwrap();
        assert_eq!(plans.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0]);
        assert_eq!((plans[0][1].sampling.temperature, plans[0][1].sampling.top_p), (0.8, 0.95));
    }

    #[test]
    fn ranges_are_checked() {
        for (key, value) in [
            ("temperature", json!(-0.1)),
            ("top_p", json!(0)),
            ("top_p", json!(1.01)),
            ("top_k", json!(0)),
            ("min_p", json!(2)),
            ("max_tokens", json!(0)),
            ("stop", json!([""])),
        ] {
            let error = read_options::<NucleusOptions>(&json!({ key: value })).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{error}");
        }
    }
}
