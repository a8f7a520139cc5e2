//! Sampler: temperature, top-p, top-k, min-p, the same for every draw (paper section 2, steps 1 and 2).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use metareward_api::{DrawPlan, Kind, OptionError, Plugin, PluginError, PluginInfo, Sampler, SamplerItem, Sampling};
use metareward_plugin::{FromOptions, Options};
use serde::{Deserialize, Serialize};

/// Options of [`Nucleus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NucleusOptions {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// Keeps the smallest set of tokens whose probability reaches this; above 0, up to 1.
    pub top_p: f64,
    /// Keeps this many of the most probable tokens; `null` keeps all.
    pub top_k: Option<u32>,
    /// Keeps tokens at least this probable relative to the most probable one; 0 keeps all.
    pub min_p: f64,
    /// Longest answer in tokens.
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
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(OptionError::at(
                "temperature",
                format!("expected a number from 0, found {}", self.temperature),
            ));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(OptionError::at(
                "top_p",
                format!("expected a number above 0 and up to 1, found {}", self.top_p),
            ));
        }
        if self.top_k == Some(0) {
            return Err(OptionError::at("top_k", "expected a whole number from 1; leave it out to keep all tokens"));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(OptionError::at("min_p", format!("expected a number from 0 to 1, found {}", self.min_p)));
        }
        if self.max_tokens == 0 {
            return Err(OptionError::at("max_tokens", "expected a whole number from 1"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(OptionError::at("stop", "an empty text would end every answer at once"));
        }
        Ok(())
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
        let NucleusOptions { temperature, top_p, top_k, min_p, max_tokens, stop } = options;
        Ok(Self { sampling: Sampling { temperature, top_p, top_k, min_p, max_tokens, stop } })
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
