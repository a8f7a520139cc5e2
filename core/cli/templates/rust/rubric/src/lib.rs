//! Rubric: how helpful a response is, from 1 to 5.

use metareward_plugin::{
    Aggregate, ClosingLine, Conflict, FromOptions, Guard, Options, Template,
    api::{
        Kind, Message, OptionError, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Scale,
        Unreadable,
    },
    read_score,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const PLACEHOLDERS: [&str; 4] = ["prompt", "response", "criteria", "closing"];
const SCALE: Scale = Scale { min: 1.0, max: 5.0 };

/// Options of [`Helpfulness`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HelpfulnessOptions {
    /// What the judge is asked, with `{{prompt}}` and `{{response}}` and, where wanted, `{{criteria}}` and `{{closing}}`.
    pub template: String,
    /// What the numbers mean; also what the meta-judge is shown.
    pub criteria: String,
    /// How a reward is made of scores.
    pub aggregate: Aggregate,
}

impl Default for HelpfulnessOptions {
    fn default() -> Self {
        Self {
            template: include_str!("template.txt").trim_end().to_owned(),
            criteria: include_str!("criteria.txt").trim_end().to_owned(),
            aggregate: Aggregate::Mean,
        }
    }
}

impl Options for HelpfulnessOptions {}

/// Helpfulness, from 1 to 5.
#[derive(Clone, Debug)]
pub struct Helpfulness {
    options: HelpfulnessOptions,
    template: Template,
    closing: ClosingLine,
}

impl FromOptions for Helpfulness {
    type Options = HelpfulnessOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Rubric,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "helpfulness, from 1 to 5".to_owned(),
        }
    }

    fn from_options(options: HelpfulnessOptions) -> Result<Self, OptionError> {
        options.check()?;
        let closing = ClosingLine::new("Score: {{score}}", "score")
            .map_err(|error| OptionError::new(error.to_string()))?;
        let template = Template::new(&options.template, &PLACEHOLDERS, &["prompt", "response"])
            .map_err(|error| OptionError::at("template", error.to_string()))?;
        Ok(Self {
            options,
            template,
            closing,
        })
    }
}

impl Plugin for Helpfulness {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Rubric for Helpfulness {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(SCALE)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Ok(self.options.criteria.clone())
    }

    /// The guard defuses parts of the template that occur in the response, so that it cannot end its place.
    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let closing = self.closing.write("<number>");
        let ask = |item: &RubricItem<'_>| {
            let values = [item.prompt, item.response, &self.options.criteria, &closing];
            vec![Message::user(self.template.render(&values, Guard::Escape))]
        };
        Ok(items.iter().map(ask).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        Ok(texts
            .iter()
            .map(|text| read_score(&self.closing, text, SCALE, Conflict::Refuse))
            .collect())
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        Ok(Some(self.closing.write(&score.to_string())))
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        self.options.aggregate.rewards(scores)
    }
}

metareward_plugin::export!(rubric: Helpfulness);
