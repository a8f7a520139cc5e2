//! Honest meta-judges and wrong ones.

use std::sync::atomic::{AtomicU32, Ordering};

use meta_judge_pairwise::{Pairwise, PairwiseOptions};
use metareward_api::{
    Battle, Kind, Match, Message, MetaJudge, MetaJudgeItem, MetaJudgePromises, Plugin, PluginError, PluginInfo,
    PositionWins, Unreadable, VerdictSet, Weighed, WeightScope, Winner,
};
use metareward_laws::{LawOutcome, check_meta_judge, laws_of};
use metareward_plugin::{FromOptions, Guard};

use crate::{Case, PLAN, case, every_law_breaks, holds};

/// What is wrong with [`Wrong`].
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    SaysRanker,
    OneSpelling,
    Swallows,
    CountsCalls,
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
    calls: AtomicU32,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        let info = self.judge.info();
        if self.fault == Fault::SaysRanker { PluginInfo { kind: Kind::Ranker, ..info } } else { info }
    }
}

impl MetaJudge for Wrong {
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        Ok(PROMISES)
    }

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
        let one_spelling = |(winner, text): (_, &&str)| match self.fault {
            Fault::OneSpelling if text.contains("Judgement") => Err(Unreadable::NotANumber),
            _ => winner,
        };
        Ok(self.judge.parse(texts)?.into_iter().map(spoil).zip(texts).map(one_spelling).collect())
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        self.judge.closing_line(winner)
    }

    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let nothing = |_| vec![Weighed { weights: [0.5, 0.5], battles: Vec::new() }; sets.len()];
        let mut all = match self.judge.weigh(sets, wins) {
            answer if self.fault == Fault::Swallows => answer.unwrap_or_else(nothing),
            answer => answer?,
        };
        let many = sets.len() as f64;
        for (weighed, set) in all.iter_mut().zip(sets) {
            let won = |left, right| Battle { left, right, left_wins: 0.5, ..Battle::default() };
            match self.fault {
                Fault::AgainstItself => weighed.battles.push(won(0, 0)),
                Fault::CountsTies => {
                    let ties = set.verdicts.iter().filter(|(_, winner)| *winner == Winner::Tie);
                    weighed.battles.extend(ties.map(|(game, _)| won(game.first, game.second)));
                }
                Fault::FavoursFirst => weighed.weights = [0.6, 0.4],
                Fault::CountsTheBatch => weighed.battles.iter_mut().for_each(|battle| battle.left_wins *= many),
                Fault::CountsCalls => weighed.weights[0] += f64::from(calls),
                _ => {}
            }
        }
        Ok(all)
    }
}

const PROMISES: MetaJudgePromises = MetaJudgePromises { paper_weights: true, shows_judgments_whole: true };

fn check(options: PairwiseOptions, fault: Fault) -> Vec<LawOutcome> {
    let judge = Pairwise::from_options(options).unwrap();
    check_meta_judge(&Wrong { judge, fault, calls: AtomicU32::new(0) }, PLAN)
}

fn wrong(law: &'static str, wrong: &'static str, fault: Fault) -> Case<'static> {
    case(law, wrong, move || check(PairwiseOptions::default(), fault))
}

fn unguarded(law: &'static str) -> Case<'static> {
    let options = PairwiseOptions { guard: Guard::Off, ..PairwiseOptions::default() };
    case(law, "texts inserted as they are", move || check(options.clone(), Fault::None))
}

#[test]
fn every_law_of_meta_judges_breaks() {
    let even = PairwiseOptions { position_weights: false, ..PairwiseOptions::default() };
    let cases = [
        wrong("the plugin says", "says that it is a ranker", Fault::SaysRanker),
        wrong("every pair meets", "one order of each pair", Fault::OneOrder),
        wrong("question, response and both", "the second judgment shown first", Fault::Swaps),
        unguarded("the first judgment cannot"),
        unguarded("the second judgment cannot"),
        unguarded("the response cannot"),
        wrong("a well-formed verdict", "another winner than the one named", Fault::WrongWinner),
        wrong("judgment and judgement", "one spelling only", Fault::OneSpelling),
        wrong("a verdict without a closing line", "a winner out of nowhere", Fault::Invents),
        wrong("battles are between two", "a judgment against itself", Fault::AgainstItself),
        wrong("a judgment that won nothing", "ties counted as wins", Fault::CountsTies),
        wrong("reversing all positions", "weights that favour a position", Fault::FavoursFirst),
        case("weights and battles are the paper's", "a half for every win", || check(even.clone(), Fault::None)),
        wrong("a verdict on a judgment that is not there", "nonsense weighed all the same", Fault::Swallows),
        wrong("the same call", "wins times the size of the batch", Fault::CountsTheBatch),
        wrong("no call leaves a trace", "a weight that counts calls", Fault::CountsCalls),
    ];
    every_law_breaks(laws_of(Kind::MetaJudge), &cases);
}

#[test]
fn honest_meta_judges_hold() {
    holds(&check(PairwiseOptions::default(), Fault::None), &[]);
    let score = Some("Score: {{score}}".to_owned());
    let stripped = Pairwise::from_options(PairwiseOptions { strip_score: score, ..PairwiseOptions::default() });
    holds(&check_meta_judge(&stripped.unwrap(), PLAN), &["question, response and both"]);
}
