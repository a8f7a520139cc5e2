//! Honest rubrics and wrong ones.

use std::sync::atomic::{AtomicU32, Ordering};

use metareward_api::{Kind, Message, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Scale, Unreadable};
use metareward_laws::{LawOutcome, check_rubric, laws_of};
use metareward_plugin::{FromOptions, Guard};
use rubric_additive::{Additive, AdditiveOptions};

use crate::{Case, PLAN, case, every_law_breaks, holds};

/// What is wrong with [`Wrong`].
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Nameless,
    Compares,
    ShowsUnasked,
    CountsCalls,
    EmptyScale,
    HidesResponse,
    OneTooMany,
    Clamps,
    Invents,
    FirstWins,
    OffScale,
    Sums,
    UpsideDown,
    CountsTheBatch,
}

/// The additive rubric with one fault.
struct Wrong {
    rubric: Additive,
    fault: Fault,
    calls: AtomicU32,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        let info = self.rubric.info();
        if self.fault == Fault::Nameless { PluginInfo { name: " ".into(), ..info } } else { info }
    }
}

impl Rubric for Wrong {
    fn scale(&self) -> Result<Scale, PluginError> {
        match self.fault {
            Fault::EmptyScale => Ok(Scale { min: 5.0, max: 5.0 }),
            _ => self.rubric.scale(),
        }
    }

    fn criteria(&self) -> Result<String, PluginError> {
        self.rubric.criteria()
    }

    fn compares(&self) -> Result<bool, PluginError> {
        Ok(self.fault == Fault::Compares)
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let mut items = items.to_vec();
        if self.fault == Fault::HidesResponse {
            items.iter_mut().for_each(|item| item.response = "hidden");
        }
        let mut rendered = self.rubric.render(&items)?;
        if self.fault == Fault::CountsTheBatch {
            rendered.iter_mut().flatten().for_each(|message| message.content += &items.len().to_string());
        }
        if self.fault == Fault::CountsCalls {
            let calls = self.calls.fetch_add(1, Ordering::Relaxed);
            rendered.iter_mut().flatten().for_each(|message| message.content += &calls.to_string());
        }
        if matches!(self.fault, Fault::Compares | Fault::ShowsUnasked) {
            for (message, item) in rendered.iter_mut().flatten().zip(&items) {
                if let Some(opponent) = item.opponent {
                    message.content += &format!("\n<other>\n{opponent}\n</other>\n");
                }
            }
        }
        Ok(rendered)
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        let first = |text: &str| -> String {
            let line = text.split("Score: ").nth(1).map(|rest| rest.split(['"', '\n']).next().unwrap_or(""));
            line.map(|score| format!("Score: {score}")).unwrap_or_default()
        };
        let texts: Vec<String> = match self.fault {
            Fault::FirstWins => texts.iter().map(|text| first(text)).collect(),
            _ => texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let spoil = |score| match (self.fault, score) {
            (Fault::OneTooMany, Ok(score)) if score < 5.0 => Ok(score + 0.25),
            (Fault::Clamps, Err(Unreadable::OffScale)) => Ok(5.0),
            (Fault::Invents, Err(Unreadable::Missing)) => Ok(3.0),
            (Fault::OffScale, Err(Unreadable::Missing)) => Ok(6.0),
            (_, score) => score,
        };
        Ok(self.rubric.parse(&texts)?.into_iter().map(spoil).collect())
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        self.rubric.closing_line(score)
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        let spoil = |(reward, scores): (Option<f64>, &Vec<f64>)| {
            let reward = reward?;
            Some(match self.fault {
                Fault::Sums => scores.iter().sum(),
                Fault::UpsideDown => {
                    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
                    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    (least + greatest - reward).clamp(least, greatest)
                }
                _ => reward,
            })
        };
        Ok(self.rubric.aggregate(scores)?.into_iter().zip(scores).map(spoil).collect())
    }
}

fn check(options: AdditiveOptions, fault: Fault) -> Vec<LawOutcome> {
    let rubric = Additive::from_options(options).unwrap();
    check_rubric(&Wrong { rubric, fault, calls: AtomicU32::new(0) }, PLAN)
}

fn wrong(law: &'static str, wrong: &'static str, fault: Fault) -> Case<'static> {
    case(law, wrong, move || check(AdditiveOptions::default(), fault))
}

fn unguarded(law: &'static str) -> Case<'static> {
    let options = AdditiveOptions { guard: Guard::Off, ..AdditiveOptions::default() };
    case(law, "texts inserted as they are", move || check(options.clone(), Fault::None))
}

#[test]
fn every_law_of_rubrics_breaks() {
    let cases = [
        wrong("the plugin says", "no name", Fault::Nameless),
        wrong("the scale is a range", "a scale without width", Fault::EmptyScale),
        wrong("question and response", "a response that the judge never sees", Fault::HidesResponse),
        wrong("another answer is shown", "another answer shown that nobody asked for", Fault::ShowsUnasked),
        unguarded("a response cannot end its place"),
        wrong("another answer cannot end its place", "another answer inserted as it is", Fault::Compares),
        unguarded("a question cannot end its place"),
        wrong("a well-formed judgment", "a quarter of a point too many", Fault::OneTooMany),
        wrong("a score off the scale", "a score pulled onto the scale", Fault::Clamps),
        wrong("a judgment without a closing line", "a score out of nowhere", Fault::Invents),
        wrong("a score that the judgment quotes", "the first score of several", Fault::FirstWins),
        wrong("whatever a judge writes", "six of five points", Fault::OffScale),
        wrong("the reward lies between", "a sum for a mean", Fault::Sums),
        wrong("a higher score never lowers", "a reward that falls with the scores", Fault::UpsideDown),
        wrong("the same call", "a prompt that depends on the batch", Fault::CountsTheBatch),
        wrong("no call leaves a trace", "a prompt that counts calls", Fault::CountsCalls),
    ];
    every_law_breaks(laws_of(Kind::Rubric), &cases);
}

#[test]
fn honest_rubrics_hold() {
    holds(&check(AdditiveOptions::default(), Fault::None), &["another answer cannot end its place"]);
}
