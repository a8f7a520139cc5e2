//! The plugin: what the judge is asked, and what its answers make.

use metareward_api::{
    Kind, Message, OptionError, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Scale, Unreadable,
};
use metareward_plugin::{ClosingLine, FromOptions, Options, Template, read_score};

use crate::Holistic10Options;

const PLACEHOLDERS: [&str; 4] = ["prompt", "response", "criteria", "closing"];
const SCALE: Scale = Scale { min: 1.0, max: 10.0 };

/// One score from 1 to 10.
#[derive(Clone, Debug)]
pub struct Holistic10 {
    options: Holistic10Options,
    template: Template,
    closing: ClosingLine,
}

impl FromOptions for Holistic10 {
    type Options = Holistic10Options;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Rubric,
            name: "holistic-10".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "one score from 1 to 10 for the answer as a whole".to_owned(),
        }
    }

    fn from_options(options: Holistic10Options) -> Result<Self, OptionError> {
        options.check()?;
        let closing = ClosingLine::new(&options.score_line, "score")
            .map_err(|error| OptionError::at("score_line", error.to_string()))?;
        let template = Template::new(&options.template, &PLACEHOLDERS, &["prompt", "response"])
            .map_err(|error| OptionError::at("template", error.to_string()))?;
        Ok(Self { options, template, closing })
    }
}

impl Plugin for Holistic10 {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Rubric for Holistic10 {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(SCALE)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Ok(self.options.criteria.clone())
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let closing = self.closing.write("<number>");
        let render = |item: &RubricItem<'_>| {
            let values = [item.prompt, item.response, &self.options.criteria, &closing];
            vec![Message::user(self.template.render(&values, self.options.guard))]
        };
        Ok(items.iter().map(render).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        Ok(texts.iter().map(|text| read_score(&self.closing, text, SCALE, self.options.conflict)).collect())
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        Ok(Some(self.closing.write(&score.to_string())))
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        self.options.aggregate.rewards(scores)
    }
}
