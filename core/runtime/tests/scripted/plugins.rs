//! Plugins that are there for tests, and the registry that knows them beside the built-in ones.

use std::sync::Mutex;

use metareward_api::{
    DrawPlan, Kind, Message, NextTokens, OptionError, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Sampler,
    SamplerItem, Sampling, Scale, Unreadable,
};
use metareward_host::{Constructor, HostError, Registry, Settings};
use metareward_plugin::{FromOptions, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The built-in plugins and all of this file; of `reader` the first version.
pub fn registry(settings: Settings) -> Result<Registry, HostError> {
    let mut registry = metareward_builtin::registry(settings)?;
    registry.add_rubric(Constructor::built_in(|plugin: Reader<false>| Box::new(plugin)))?;
    registry.add_rubric(Constructor::built_in(|plugin: Duel| Box::new(plugin)))?;
    registry.add_rubric(Constructor::built_in(|plugin: Fragile| Box::new(plugin)))?;
    registry.add_sampler(Constructor::built_in(|plugin: Sharp| Box::new(plugin)))?;
    Ok(registry)
}

/// The same with the mended version of `reader`.
pub fn mended(settings: Settings) -> Result<Registry, HostError> {
    let mut registry = metareward_builtin::registry(settings)?;
    registry.add_rubric(Constructor::built_in(|plugin: Reader<true>| Box::new(plugin)))?;
    Ok(registry)
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoOptions {}

impl Options for NoOptions {}

fn info(kind: Kind, name: &str, version: &str) -> PluginInfo {
    PluginInfo { kind, name: name.into(), version: version.into(), summary: "for tests".into() }
}

fn score(text: &str) -> Result<f64, Unreadable> {
    let (_, score) = text.rsplit_once("Score: ").ok_or(Unreadable::Missing)?;
    score.parse().map_err(|_| Unreadable::NotANumber)
}

fn mean(scores: &[f64]) -> Option<f64> {
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

const SCALE: Scale = Scale { min: 0.0, max: 5.0 };

/// A rubric whose first version cannot read the score 3. The second one can.
pub struct Reader<const MENDED: bool>;

impl<const MENDED: bool> FromOptions for Reader<MENDED> {
    type Options = NoOptions;

    fn describe() -> PluginInfo {
        info(Kind::Rubric, "reader", if MENDED { "1.1.0" } else { "1.0.0" })
    }

    fn from_options(_: NoOptions) -> Result<Self, OptionError> {
        Ok(Self)
    }
}

impl<const MENDED: bool> Plugin for Reader<MENDED> {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl<const MENDED: bool> Rubric for Reader<MENDED> {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(SCALE)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Ok("From 0 to 5.".into())
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let ask = |item: &RubricItem<'_>| vec![Message::user(format!("JUDGE {} | {}", item.prompt, item.response))];
        Ok(items.iter().map(ask).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        let read =
            |text: &&str| score(text).and_then(|s| if MENDED || s != 3.0 { Ok(s) } else { Err(Unreadable::Missing) });
        Ok(texts.iter().map(read).collect())
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        Ok(scores.iter().map(|scores| mean(scores)).collect())
    }
}

/// The text that `fragile` cannot bear.
pub static POISON: Mutex<Option<String>> = Mutex::new(None);

/// A rubric that fails at one text.
pub struct Fragile;

impl FromOptions for Fragile {
    type Options = NoOptions;

    fn describe() -> PluginInfo {
        info(Kind::Rubric, "fragile", "1.0.0")
    }

    fn from_options(_: NoOptions) -> Result<Self, OptionError> {
        Ok(Self)
    }
}

impl Plugin for Fragile {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Rubric for Fragile {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(SCALE)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Reader::<true>.criteria()
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        Reader::<true>.render(items)
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        let poison = POISON.lock().unwrap().clone();
        if texts.iter().any(|text| Some(*text) == poison.as_deref()) {
            // As a trap does: the whole call is lost, and no item is named.
            return Err(PluginError::new("unreachable instruction"));
        }
        Reader::<true>.parse(texts)
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        Reader::<true>.aggregate(scores)
    }
}

/// A rubric that compares.
pub struct Duel;

impl FromOptions for Duel {
    type Options = NoOptions;

    fn describe() -> PluginInfo {
        info(Kind::Rubric, "duel", "1.0.0")
    }

    fn from_options(_: NoOptions) -> Result<Self, OptionError> {
        Ok(Self)
    }
}

impl Plugin for Duel {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Rubric for Duel {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(SCALE)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Ok("From 0, the second, to 5, the first.".into())
    }

    fn compares(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let ask = |(index, item): (usize, &RubricItem<'_>)| {
            let opponent = item.opponent.ok_or_else(|| PluginError::at(index, "nothing to compare with"))?;
            Ok(vec![Message::user(format!("JUDGE {} | {} | {opponent}", item.prompt, item.response))])
        };
        items.iter().enumerate().map(ask).collect()
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        Ok(texts.iter().map(|text| score(text)).collect())
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        Ok(scores.iter().map(|scores| mean(scores)).collect())
    }
}

/// A sampler that reshapes: draw `d` takes token `d` of the three that it is shown.
pub struct Sharp;

impl FromOptions for Sharp {
    type Options = NoOptions;

    fn describe() -> PluginInfo {
        info(Kind::Sampler, "sharp", "1.0.0")
    }

    fn from_options(_: NoOptions) -> Result<Self, OptionError> {
        Ok(Self)
    }
}

impl Plugin for Sharp {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sampler for Sharp {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let sampling =
            Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 20, stop: Vec::new() };
        let plan = DrawPlan { sampling, seed_offset: 0 };
        Ok(items.iter().map(|item| vec![plan.clone(); item.draws as usize]).collect())
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(Some(3))
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        let one = |row: &NextTokens| {
            (0..row.tokens.len()).map(|token| f64::from(u8::from(token == row.draw as usize % 3))).collect()
        };
        Ok(rows.iter().map(one).collect())
    }
}
