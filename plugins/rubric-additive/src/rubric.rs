//! The plugin: what the judge is asked, and what its answers make.

use metareward_api::{
    Kind, Message, OptionError, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Scale, Unreadable,
};
use metareward_plugin::{Aggregate, ClosingLine, Conflict, FromOptions, Guard, Options, Template, read_score};

use crate::AdditiveOptions;

const PLACEHOLDERS: [&str; 6] = ["prompt", "response", "criteria", "closing", "min", "max"];

/// Additive points with a closing line.
#[derive(Clone, Debug)]
pub struct Additive {
    template: Template,
    closing: ClosingLine,
    criteria: String,
    scale: Scale,
    aggregate: Aggregate,
    conflict: Conflict,
    guard: Guard,
}

impl FromOptions for Additive {
    type Options = AdditiveOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Rubric,
            name: "additive".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "five points added up, read from the closing line".to_owned(),
        }
    }

    fn from_options(options: AdditiveOptions) -> Result<Self, OptionError> {
        options.check()?;
        let closing = ClosingLine::new(&options.score_line, "score")
            .map_err(|error| OptionError::at("score_line", error.to_string()))?;
        let [min, max] = options.scale;
        let template = Template::new(&options.template, &PLACEHOLDERS, &["prompt", "response"])
            .map_err(|error| OptionError::at("template", error.to_string()))?;
        Ok(Self {
            template,
            closing,
            criteria: options.criteria,
            scale: Scale { min, max },
            aggregate: options.aggregate,
            conflict: options.conflict,
            guard: options.guard,
        })
    }
}

impl Plugin for Additive {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Rubric for Additive {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(self.scale)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Ok(self.criteria.clone())
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let closing = self.closing.write("<total>");
        let (min, max) = (self.scale.min.to_string(), self.scale.max.to_string());
        let render = |item: &RubricItem<'_>| {
            let values = [item.prompt, item.response, &self.criteria, &closing, &min, &max];
            vec![Message::user(self.template.render(&values, self.guard))]
        };
        Ok(items.iter().map(render).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        Ok(texts.iter().map(|text| read_score(&self.closing, text, self.scale, self.conflict)).collect())
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        Ok(Some(self.closing.write(&score.to_string())))
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        self.aggregate.rewards(scores)
    }
}
