//! Meta-judge: every two judgments in both orders, all wins weighing the same.

use metareward_plugin::{
    ClosingLine, FromOptions, Guard, Options, Template,
    api::{
        Battle, Kind, Match, Message, MetaJudge, MetaJudgeItem, MetaJudgePromises, OptionError,
        Plugin, PluginError, PluginInfo, PositionWins, Unreadable, VerdictSet, Weighed,
        WeightScope, Winner,
    },
    read_winner,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const PLACEHOLDERS: [&str; 6] = [
    "prompt", "response", "criteria", "first", "second", "closing",
];

/// Options of [`PlainWins`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlainWinsOptions {
    /// What the meta-judge is asked, with `{{prompt}}`, `{{response}}`, `{{first}}` and `{{second}}` and, where wanted,
    /// `{{criteria}}` and `{{closing}}`. The judgments are called A and B.
    pub template: String,
    /// What a win weighs.
    #[schemars(range(min = 0.0))]
    pub win: f64,
    /// What a tie weighs.
    #[schemars(range(min = 0.0))]
    pub tie: f64,
}

impl Default for PlainWinsOptions {
    fn default() -> Self {
        Self {
            template: include_str!("template.txt").trim_end().to_owned(),
            win: 0.5,
            tie: 0.5,
        }
    }
}

impl Options for PlainWinsOptions {
    fn check(&self) -> Result<(), OptionError> {
        for (key, value) in [("win", self.win), ("tie", self.tie)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(OptionError::at(
                    key,
                    format!("expected a number from 0, found {value}"),
                ));
            }
        }
        Ok(())
    }
}

/// Every pair in both orders, without weights against position bias.
#[derive(Clone, Debug)]
pub struct PlainWins {
    options: PlainWinsOptions,
    template: Template,
    closing: ClosingLine,
    labels: [String; 2],
    in_order: bool,
}

impl FromOptions for PlainWins {
    type Options = PlainWinsOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::MetaJudge,
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "every two judgments in both orders, all wins weighing the same".to_owned(),
        }
    }

    fn from_options(options: PlainWinsOptions) -> Result<Self, OptionError> {
        options.check()?;
        let closing = ClosingLine::new("Winner: {{winner}}", "winner")
            .map_err(|error| OptionError::new(error.to_string()))?;
        let template = Template::new(
            &options.template,
            &PLACEHOLDERS,
            &["prompt", "response", "first", "second"],
        )
        .map_err(|error| OptionError::at("template", error.to_string()))?;
        let in_order = options.template.find("{{first}}") < options.template.find("{{second}}");
        Ok(Self {
            options,
            template,
            closing,
            labels: ["A".to_owned(), "B".to_owned()],
            in_order,
        })
    }
}

impl Plugin for PlainWins {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl MetaJudge for PlainWins {
    /// What the laws hold this meta-judge to beyond the laws of all meta-judges. The paper's weights are not among it.
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        Ok(MetaJudgePromises {
            paper_weights: false,
            shows_judgments_whole: self.in_order,
        })
    }

    fn scope(&self) -> Result<WeightScope, PluginError> {
        Ok(WeightScope::Response)
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        let both = |first: u32, second: u32| {
            [
                Match { first, second },
                Match {
                    first: second,
                    second: first,
                },
            ]
        };
        let all = |n: u32| {
            (0..n)
                .flat_map(move |a| (a + 1..n).flat_map(move |b| both(a, b)))
                .collect()
        };
        Ok(players.iter().map(|n| all(*n)).collect())
    }

    /// The guard defuses parts of the template that occur in inserted text, so that none of it can end its place.
    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let [first, second] = &self.labels;
        let closing = format!(
            "{} or {}",
            self.closing.write(first),
            self.closing.write(second)
        );
        let ask = |item: &MetaJudgeItem<'_>| {
            let values = [
                item.prompt,
                item.response,
                item.criteria,
                item.first,
                item.second,
                &closing,
            ];
            vec![Message::user(self.template.render(&values, Guard::Escape))]
        };
        Ok(items.iter().map(ask).collect())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        Ok(texts
            .iter()
            .map(|text| read_winner(&self.closing, text, &self.labels))
            .collect())
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        let [first, second] = &self.labels;
        Ok(Some(self.closing.write(match winner {
            Winner::First => first,
            Winner::Second => second,
            Winner::Tie => "tie",
        })))
    }

    /// One battle per verdict, in their order. Which position won how often plays no part.
    fn weigh(
        &self,
        sets: &[VerdictSet],
        _wins: &[PositionWins],
    ) -> Result<Vec<Weighed>, PluginError> {
        let PlainWinsOptions { win, tie, .. } = self.options;
        let weigh = |(item, set): (usize, &VerdictSet)| {
            let battle = |(Match { first, second }, winner): &(Match, Winner)| {
                if first == second || first.max(second) >= &set.players {
                    let message = format!(
                        "a verdict on judgments {first} and {second} of {}",
                        set.players
                    );
                    return Err(PluginError::at(item, message));
                }
                let (left_wins, right_wins, ties) = match winner {
                    Winner::First => (win, 0.0, 0.0),
                    Winner::Second => (0.0, win, 0.0),
                    Winner::Tie => (0.0, 0.0, tie),
                };
                Ok(Battle {
                    left: *first,
                    right: *second,
                    left_wins,
                    right_wins,
                    ties,
                })
            };
            let battles = set
                .verdicts
                .iter()
                .map(battle)
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Weighed {
                weights: [win, win],
                battles,
            })
        };
        sets.iter().enumerate().map(weigh).collect()
    }
}

metareward_plugin::export!(meta_judge: PlainWins);
