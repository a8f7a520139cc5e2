//! Task: additions, with an oracle that can add.

use metareward_plugin::{
    FromOptions, Options,
    api::{
        Demonstration, JudgeExample, Kind, MetaExample, OptionError, Plugin, PluginError,
        PluginInfo, Prompt, PromptId, Scale, Task,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const SCALE: Scale = Scale { min: 0.0, max: 1.0 };

/// Options of [`Additions`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdditionsOptions {
    /// Digits of the longest number to be added.
    #[schemars(range(min = 1, max = 6))]
    pub digits: u32,
}

impl Default for AdditionsOptions {
    fn default() -> Self {
        Self { digits: 2 }
    }
}

impl Options for AdditionsOptions {
    fn check(&self) -> Result<(), OptionError> {
        if (1..=6).contains(&self.digits) {
            return Ok(());
        }
        Err(OptionError::at(
            "digits",
            format!("expected a whole number from 1 to 6, found {}", self.digits),
        ))
    }
}

/// Additions.
#[derive(Clone, Debug)]
pub struct Additions {
    options: AdditionsOptions,
}

impl FromOptions for Additions {
    type Options = AdditionsOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Task,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "additions, with an oracle that can add".to_owned(),
        }
    }

    fn from_options(options: AdditionsOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for Additions {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Additions {
    /// The pairs of numbers of a seed, each pair once: a walk through all of them, whose step shares no factor with
    /// their number. A longer list so begins with the shorter one.
    fn pairs(&self, seed: u64, n: u32) -> impl Iterator<Item = (u64, u64)> + use<> {
        let numbers = 10u64.pow(self.options.digits);
        let all = numbers * numbers;
        let start = mixed(seed) % all;
        let step = mixed(seed ^ 1) % (all / 10) * 10 + 3;
        (0..u64::from(n).min(all)).map(move |place| {
            let at = (u128::from(start) + u128::from(place) * u128::from(step)) % u128::from(all);
            (at as u64 / numbers, at as u64 % numbers)
        })
    }
}

/// A number that looks random (the finalizer of SplitMix64).
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn prompt((a, b): (u64, u64)) -> Prompt {
    Prompt {
        id: PromptId(format!("{a}+{b}")),
        text: format!("What is {a} + {b}?"),
        system: None,
        category: Some("addition".to_owned()),
    }
}

/// The sum that a prompt asks for.
fn sum(item: usize, prompt: &Prompt) -> Result<u64, PluginError> {
    let numbers = prompt
        .id
        .0
        .split_once('+')
        .map(|(a, b)| (a.parse::<u64>(), b.parse::<u64>()));
    match numbers {
        Some((Ok(a), Ok(b))) => Ok(a + b),
        _ => Err(PluginError::at(
            item,
            format!("prompt {} is none of this task's", prompt.id),
        )),
    }
}

/// The last number in a text.
fn last_number(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit())
        .rfind(|digits| !digits.is_empty())?
        .parse()
        .ok()
}

impl Task for Additions {
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError> {
        Ok(self.pairs(seed, n).map(prompt).collect())
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        let demonstration = |(a, b): (u64, u64)| Demonstration {
            prompt: prompt((a, b)),
            response: format!("{a} + {b} = {}", a + b),
        };
        Ok(self.pairs(seed, n).map(demonstration).collect())
    }

    /// None: what a judgment looks like is the rubric's to say, and a task does not know which one is used.
    fn judge_examples(&self, _seed: u64, _n: u32) -> Result<Vec<JudgeExample>, PluginError> {
        Ok(Vec::new())
    }

    /// None, as with judgments.
    fn meta_examples(&self, _seed: u64, _n: u32) -> Result<Vec<MetaExample>, PluginError> {
        Ok(Vec::new())
    }

    /// A point where the last number in the response is the sum.
    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        let points = |(item, (prompt, response)): (usize, &(&Prompt, &str))| {
            let right = last_number(response) == Some(sum(item, prompt)?);
            Ok(if right { SCALE.max } else { SCALE.min })
        };
        items
            .iter()
            .enumerate()
            .map(points)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        Ok(Some(SCALE))
    }

    fn perfect_answers(&self, prompts: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        let answer = |(item, prompt): (usize, &&Prompt)| Ok(sum(item, prompt)?.to_string());
        prompts
            .iter()
            .enumerate()
            .map(answer)
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

metareward_plugin::export!(task: Additions);
