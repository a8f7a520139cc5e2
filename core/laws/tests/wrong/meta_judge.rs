//! Wrong meta-judges.

use meta_judge_pairwise::{Pairwise, PairwiseOptions};
use metareward_api::{
    Match, Message, MetaJudge, MetaJudgeItem, Plugin, PluginError, PluginInfo, PositionWins, Unreadable, VerdictSet,
    Weighed, WeightScope, Winner,
};
use metareward_laws::{MetaJudgePromises, check_meta_judge};
use metareward_plugin::{FromOptions, Guard};

use crate::{PLAN, breaks};

/// What is wrong with [`Wrong`].
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    OneOrder,
    Swaps,
    WrongWinner,
    Invents,
    AgainstItself,
    CountsTies,
    FavoursFirst,
    CountsTheBatch,
}

/// The pairwise meta-judge with one fault.
struct Wrong {
    judge: Pairwise,
    fault: Fault,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.judge.info()
    }
}

impl MetaJudge for Wrong {
    fn scope(&self) -> Result<WeightScope, PluginError> {
        self.judge.scope()
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        let mut schedules = self.judge.schedule(players)?;
        if self.fault == Fault::OneOrder {
            schedules.iter_mut().for_each(|matches| matches.retain(|game| game.first < game.second));
        }
        Ok(schedules)
    }

    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let mut items = items.to_vec();
        if self.fault == Fault::Swaps {
            items.iter_mut().for_each(|item| std::mem::swap(&mut item.first, &mut item.second));
        }
        self.judge.render(&items)
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        let spoil = |winner| match (self.fault, winner) {
            (Fault::WrongWinner, Ok(Winner::Second)) => Ok(Winner::First),
            (Fault::Invents, Err(Unreadable::Missing)) => Ok(Winner::Tie),
            (_, winner) => winner,
        };
        Ok(self.judge.parse(texts)?.into_iter().map(spoil).collect())
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        self.judge.closing_line(winner)
    }

    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        let mut all = self.judge.weigh(sets, wins)?;
        let many = sets.len() as f64;
        for (weighed, set) in all.iter_mut().zip(sets) {
            match self.fault {
                Fault::AgainstItself => weighed.battles.add(0, 0, 1.0),
                Fault::CountsTies => {
                    for (game, _) in set.verdicts.iter().filter(|(_, winner)| *winner == Winner::Tie) {
                        weighed.battles.add(game.first as usize, game.second as usize, 0.5);
                    }
                }
                Fault::FavoursFirst => weighed.weights = [0.6, 0.4],
                Fault::CountsTheBatch => weighed.battles.wins.iter_mut().for_each(|weight| *weight *= many),
                _ => {}
            }
        }
        Ok(all)
    }
}

const PROMISES: MetaJudgePromises = MetaJudgePromises { paper_weights: true, shows_judgments_whole: true };

#[track_caller]
fn wrong(words: &str, fault: Fault) {
    let judge = Wrong { judge: Pairwise::from_options(PairwiseOptions::default()).unwrap(), fault };
    breaks(words, || check_meta_judge(&judge, PROMISES, PLAN));
}

#[track_caller]
fn promised(words: &str, options: PairwiseOptions) {
    let judge = Pairwise::from_options(options).unwrap();
    breaks(words, || check_meta_judge(&judge, PROMISES, PLAN));
}

#[test]
fn one_order_of_each_pair() {
    wrong("in both orders", Fault::OneOrder);
}

#[test]
fn the_second_judgment_shown_first() {
    wrong("in their order", Fault::Swaps);
}

#[test]
fn texts_that_can_end_their_place() {
    for words in ["the first judgment cannot", "the second judgment cannot", "the response cannot"] {
        promised(words, PairwiseOptions { guard: Guard::Off, ..PairwiseOptions::default() });
    }
}

#[test]
fn another_winner_than_the_one_named() {
    wrong("parses back", Fault::WrongWinner);
}

#[test]
fn a_winner_out_of_nowhere() {
    wrong("without a closing line", Fault::Invents);
}

#[test]
fn a_judgment_against_itself() {
    wrong("nobody against itself", Fault::AgainstItself);
}

#[test]
fn ties_that_weigh() {
    wrong("ties weigh nothing", Fault::CountsTies);
}

#[test]
fn weights_that_favour_a_position() {
    wrong("reversing all positions", Fault::FavoursFirst);
}

#[test]
fn weights_that_are_not_the_papers() {
    promised("the paper's", PairwiseOptions { position_weights: false, ..PairwiseOptions::default() });
}

#[test]
fn battles_that_depend_on_the_batch() {
    wrong("no item of a batch influences another", Fault::CountsTheBatch);
}
