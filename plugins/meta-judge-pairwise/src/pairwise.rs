//! The plugin: which judgments meet, and what the meta-judge is asked.

use metareward_api::{
    Kind, Match, Message, MetaJudge, MetaJudgeItem, MetaJudgePromises, OptionError, Plugin, PluginError, PluginInfo,
    PositionWins, Unreadable, VerdictSet, Weighed, WeightScope, Winner,
};
use metareward_plugin::{ClosingLine, FromOptions, Options, Template, read_winner};

use crate::{Disagreement, PairwiseOptions, weights};

const PLACEHOLDERS: [&str; 8] =
    ["prompt", "response", "criteria", "first", "second", "first_label", "second_label", "closing"];

/// Every pair in both orders.
#[derive(Clone, Debug)]
pub struct Pairwise {
    options: PairwiseOptions,
    template: Template,
    closing: ClosingLine,
    strip: Option<ClosingLine>,
    /// Whether the template shows everything, the first judgment before the second.
    complete: bool,
}

impl FromOptions for Pairwise {
    type Options = PairwiseOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::MetaJudge,
            name: "pairwise".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "every two judgments in both orders, weighted against position bias".to_owned(),
        }
    }

    fn from_options(options: PairwiseOptions) -> Result<Self, OptionError> {
        options.check()?;
        let [first, second] = &options.labels;
        // The labels belong to the template: they are part of its fences.
        let text = ["first_label", "second_label"]
            .iter()
            .zip([first, second])
            .fold(options.template.clone(), |text, (name, label)| text.replace(&format!("{{{{{name}}}}}"), label));
        let template = Template::new(&text, &PLACEHOLDERS, &["first", "second"])
            .map_err(|error| OptionError::at("template", error.to_string()))?;
        let closing = ClosingLine::new(&options.winner_line, "winner")
            .map_err(|error| OptionError::at("winner_line", error.to_string()))?;
        let strip = match &options.strip_score {
            Some(line) => Some(
                ClosingLine::new(line, "score").map_err(|error| OptionError::at("strip_score", error.to_string()))?,
            ),
            None => None,
        };
        let whole = Template::new(&text, &PLACEHOLDERS, &["prompt", "response", "first", "second"]).is_ok();
        let in_order = text.find("{{first}}") < text.find("{{second}}");
        Ok(Self { template, closing, strip, options, complete: whole && in_order })
    }
}

impl Plugin for Pairwise {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl MetaJudge for Pairwise {
    /// The paper's weights where wins are weighted and disagreement is; whole judgments where nothing is taken out of them
    /// and the template shows everything.
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        Ok(MetaJudgePromises {
            paper_weights: self.options.position_weights && self.options.disagreement == Disagreement::Weigh,
            shows_judgments_whole: self.strip.is_none() && self.complete,
        })
    }

    fn scope(&self) -> Result<WeightScope, PluginError> {
        Ok(self.options.scope)
    }

    /// Every pair in both orders, the two orders one after the other.
    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        let both = |first: u32, second: u32| [Match { first, second }, Match { first: second, second: first }];
        let all = |n: u32| (0..n).flat_map(move |m| (m + 1..n).flat_map(move |other| both(m, other))).collect();
        Ok(players.iter().map(|n| all(*n)).collect())
    }

    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let [first_label, second_label] = &self.options.labels;
        let closing = format!("{} or {}", self.closing.write(first_label), self.closing.write(second_label));
        let shown = |judgment: &str| match &self.strip {
            Some(line) => line.strip(judgment),
            None => judgment.to_owned(),
        };
        let render = |item: &MetaJudgeItem<'_>| {
            let (first, second) = (shown(item.first), shown(item.second));
            let values =
                [item.prompt, item.response, item.criteria, &first, &second, first_label, second_label, &closing];
            vec![Message::user(self.template.render(&values, self.options.guard))]
        };
        Ok(items.iter().map(render).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        Ok(texts.iter().map(|text| read_winner(&self.closing, text, &self.options.labels)).collect())
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        let [first, second] = &self.options.labels;
        Ok(Some(self.closing.write(match winner {
            Winner::First => first,
            Winner::Second => second,
            Winner::Tie => "tie",
        })))
    }

    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        if sets.len() != wins.len() {
            return Err(PluginError::new(format!("{} counts of wins for {} sets of verdicts", wins.len(), sets.len())));
        }
        let weigh = |(item, (set, wins)): (usize, (&VerdictSet, &PositionWins))| {
            let weights = if self.options.position_weights { weights::of(*wins) } else { [0.5, 0.5] };
            let battles = weights::battles(set, weights, self.options.disagreement)
                .map_err(|message| PluginError::at(item, message))?;
            Ok(Weighed { weights, battles })
        };
        sets.iter().zip(wins).enumerate().map(weigh).collect()
    }
}
