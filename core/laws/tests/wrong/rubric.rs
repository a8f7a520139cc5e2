//! Wrong rubrics.

use metareward_api::{Message, Plugin, PluginError, PluginInfo, Rubric, RubricItem, Scale, Unreadable};
use metareward_laws::check_rubric;
use metareward_plugin::{FromOptions, Guard};
use rubric_additive::{Additive, AdditiveOptions};

use crate::{PLAN, breaks};

/// What is wrong with [`Wrong`].
#[derive(Clone, Copy, PartialEq)]
enum Fault {
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
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.rubric.info()
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

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let mut items = items.to_vec();
        if self.fault == Fault::HidesResponse {
            items.iter_mut().for_each(|item| item.response = "hidden");
        }
        let mut rendered = self.rubric.render(&items)?;
        if self.fault == Fault::CountsTheBatch {
            rendered.iter_mut().flatten().for_each(|message| message.content += &items.len().to_string());
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

#[track_caller]
fn wrong(words: &str, fault: Fault) {
    let rubric = Wrong { rubric: Additive::from_options(AdditiveOptions::default()).unwrap(), fault };
    breaks(words, || check_rubric(&rubric, PLAN));
}

#[test]
fn a_scale_without_width() {
    wrong("the scale is a range", Fault::EmptyScale);
}

#[test]
fn a_response_that_the_judge_never_sees() {
    wrong("both in what the judge is asked", Fault::HidesResponse);
}

#[test]
fn texts_that_can_end_their_place() {
    for words in ["a response cannot end its place", "a question cannot end its place"] {
        let options = AdditiveOptions { guard: Guard::Off, ..AdditiveOptions::default() };
        let rubric = Additive::from_options(options).unwrap();
        breaks(words, || check_rubric(&rubric, PLAN));
    }
}

#[test]
fn another_score_than_the_one_given() {
    wrong("parses back", Fault::OneTooMany);
}

#[test]
fn a_score_pulled_onto_the_scale() {
    wrong("off the scale is refused", Fault::Clamps);
}

#[test]
fn a_score_out_of_nowhere() {
    wrong("without a closing line", Fault::Invents);
}

#[test]
fn a_quoted_score_taken_for_the_judges_own() {
    wrong("quotes", Fault::FirstWins);
}

#[test]
fn a_score_off_the_scale() {
    wrong("whatever a judge writes", Fault::OffScale);
}

#[test]
fn a_sum_for_a_mean() {
    wrong("between the least and the greatest", Fault::Sums);
}

#[test]
fn a_reward_that_falls_with_the_scores() {
    wrong("never lowers the reward", Fault::UpsideDown);
}

#[test]
fn a_prompt_that_depends_on_the_batch() {
    wrong("no item of a batch influences another", Fault::CountsTheBatch);
}
