//! Sampler: the first draws of a prompt are greedy, the others are drawn with a temperature.

use metareward_plugin::{
    FromOptions, Options,
    api::{
        DrawPlan, Kind, OptionError, Plugin, PluginError, PluginInfo, Sampler, SamplerItem,
        Sampling,
    },
    check_sampling,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of [`GreedyFirst`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GreedyFirstOptions {
    /// How many draws of a prompt take the most probable token at every step.
    pub greedy: u32,
    /// Divides the logits of the other draws.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Keeps the smallest set of tokens whose probability reaches this; 1 keeps all.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1.0))]
    pub top_p: f64,
    /// Longest answer in tokens.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
}

impl GreedyFirstOptions {
    fn sampling(&self) -> Sampling {
        let Self {
            temperature,
            top_p,
            max_tokens,
            ..
        } = *self;
        Sampling {
            temperature,
            top_p,
            top_k: None,
            min_p: 0.0,
            max_tokens,
            stop: Vec::new(),
        }
    }
}

impl Default for GreedyFirstOptions {
    fn default() -> Self {
        Self {
            greedy: 1,
            temperature: 0.8,
            top_p: 0.95,
            max_tokens: 1024,
        }
    }
}

impl Options for GreedyFirstOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_sampling(&self.sampling())
    }
}

/// Greedy first.
#[derive(Clone, Debug)]
pub struct GreedyFirst {
    options: GreedyFirstOptions,
}

impl FromOptions for GreedyFirst {
    type Options = GreedyFirstOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Sampler,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "one greedy draw, the others with a temperature".to_owned(),
        }
    }

    fn from_options(options: GreedyFirstOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for GreedyFirst {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sampler for GreedyFirst {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let drawn = self.options.sampling();
        let greedy = Sampling {
            temperature: 0.0,
            ..drawn.clone()
        };
        let plan = |draw: u32| {
            let sampling = if draw < self.options.greedy {
                &greedy
            } else {
                &drawn
            };
            DrawPlan {
                sampling: sampling.clone(),
                seed_offset: 0,
            }
        };
        Ok(items
            .iter()
            .map(|item| (0..item.draws).map(plan).collect())
            .collect())
    }
}

metareward_plugin::export!(sampler: GreedyFirst);
