//! The plugin: what the judge is asked, and what its answers make.

use metareward_api::{
    Kind, Message, OptionError, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Scale, Unreadable, Winner,
};
use metareward_plugin::{Aggregate, ClosingLine, FromOptions, Options, Template, read_winner};

use crate::PairwiseWinRateOptions;

const PLACEHOLDERS: [&str; 7] =
    ["prompt", "response", "opponent", "criteria", "closing", "first_label", "second_label"];

/// The better of two answers.
#[derive(Clone, Debug)]
pub struct PairwiseWinRate {
    options: PairwiseWinRateOptions,
    template: Template,
    closing: ClosingLine,
}

impl FromOptions for PairwiseWinRate {
    type Options = PairwiseWinRateOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Rubric,
            name: "pairwise-win-rate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "the share of comparisons with other answers that an answer wins".to_owned(),
        }
    }

    fn from_options(options: PairwiseWinRateOptions) -> Result<Self, OptionError> {
        options.check()?;
        let [first, second] = &options.labels;
        // The labels belong to the template: they are part of its fences.
        let text = ["first_label", "second_label"]
            .iter()
            .zip([first, second])
            .fold(options.template.clone(), |text, (name, label)| text.replace(&format!("{{{{{name}}}}}"), label));
        let template = Template::new(&text, &PLACEHOLDERS, &["prompt", "response", "opponent"])
            .map_err(|error| OptionError::at("template", error.to_string()))?;
        let closing = ClosingLine::new(&options.winner_line, "winner")
            .map_err(|error| OptionError::at("winner_line", error.to_string()))?;
        Ok(Self { options, template, closing })
    }
}

impl Plugin for PairwiseWinRate {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Rubric for PairwiseWinRate {
    /// 0 to 1: the share of comparisons won.
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(Scale { min: 0.0, max: 1.0 })
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Ok(self.options.criteria.clone())
    }

    fn compares(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let [first, second] = &self.options.labels;
        let mut closing = format!("{} or {}", self.closing.write(first), self.closing.write(second));
        if self.options.ties {
            closing.push_str(&format!(", or {} if neither is better", self.closing.write("tie")));
        }
        let render = |(index, item): (usize, &RubricItem<'_>)| {
            let opponent = item.opponent.ok_or_else(|| PluginError::at(index, "no other answer to compare with"))?;
            let values = [
                item.prompt,
                item.response,
                opponent,
                &self.options.criteria,
                &closing,
                first.as_str(),
                second.as_str(),
            ];
            Ok(vec![Message::user(self.template.render(&values, self.options.guard))])
        };
        items.iter().enumerate().map(render).collect()
    }

    /// 1 where the answer shown first wins, 0 where the other one does, a half for a tie.
    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        let score = |text: &&str| match read_winner(&self.closing, text, &self.options.labels)? {
            Winner::First => Ok(1.0),
            Winner::Second => Ok(0.0),
            Winner::Tie if self.options.ties => Ok(0.5),
            Winner::Tie => Err(Unreadable::NotANumber),
        };
        Ok(texts.iter().map(score).collect())
    }

    /// There are three scores only, two without ties.
    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        let [first, second] = &self.options.labels;
        let named = [(1.0, first.as_str()), (0.0, second.as_str()), (0.5, "tie")];
        let name = named.into_iter().find(|(value, name)| *value == score && (self.options.ties || *name != "tie"));
        Ok(name.map(|(_, name)| self.closing.write(name)))
    }

    /// The mean: the win rate, ties counted half.
    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        Aggregate::Mean.rewards(scores)
    }
}
