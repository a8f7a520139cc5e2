//! Wrong rankers.

use metareward_api::{BattleMatrix, Plugin, PluginError, PluginInfo, Ranker, Rating};
use metareward_laws::{Likelihood, RankerPromises, check_ranker};
use metareward_plugin::FromOptions;
use ranker_elo::{Elo, EloOptions};

use crate::{PLAN, breaks};

type Answer = Result<Vec<Rating>, PluginError>;

/// Elo whose answer is spoiled.
struct Wrong {
    elo: Elo,
    spoil: fn(&[BattleMatrix], Answer) -> Answer,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.elo.info()
    }
}

impl Ranker for Wrong {
    fn rate(&self, problems: &[BattleMatrix]) -> Answer {
        (self.spoil)(problems, self.elo.rate(problems))
    }
}

#[track_caller]
fn wrong(words: &str, spoil: fn(&[BattleMatrix], Answer) -> Answer) {
    let ranker = Wrong { elo: Elo::from_options(EloOptions::default()).unwrap(), spoil };
    let likelihood = Likelihood { points: 400.0 / std::f64::consts::LN_10, regularization: 0.01 };
    let promises = RankerPromises { mirrors_ratings: true, likelihood: Some(likelihood) };
    breaks(words, || check_ranker(&ranker, promises, PLAN));
}

/// Changes every rating, given its problem and its player.
fn each(problems: &[BattleMatrix], answer: Answer, change: impl Fn(&BattleMatrix, usize, f64) -> f64) -> Answer {
    let mut answer = answer?;
    for (rating, battles) in answer.iter_mut().zip(problems) {
        for (player, value) in rating.ratings.iter_mut().enumerate() {
            *value = change(battles, player, *value);
        }
    }
    Ok(answer)
}

#[test]
fn a_rating_that_is_not_finite() {
    wrong("one finite rating", |problems, answer| {
        each(
            problems,
            answer,
            |battles, player, value| if battles.players > 3 && player == 2 { f64::NAN } else { value },
        )
    });
}

#[test]
fn players_rated_by_their_place_in_the_list() {
    wrong("relabelling", |problems, answer| each(problems, answer, |_, player, value| value + player as f64));
}

#[test]
fn upside_down() {
    wrong("never lowers the winner's place", |problems, answer| each(problems, answer, |_, _, value| 2000.0 - value));
}

#[test]
fn wins_counted_and_losses_not() {
    wrong("mirrors", |problems, answer| {
        each(problems, answer, |battles, player, _| (0..battles.players).map(|other| battles.get(player, other)).sum())
    });
}

#[test]
fn degenerate_battles_not_named() {
    wrong("is said", |_, answer| {
        Ok(answer?.into_iter().map(|rating| Rating { remarks: Vec::new(), ..rating }).collect())
    });
}

#[test]
fn beside_the_maximum() {
    wrong("maximum", |problems, answer| each(problems, answer, |_, _, value| 1000.0 + (value - 1000.0) * (1.0 + 1e-6)));
}

#[test]
fn nonsense_rated_all_the_same() {
    wrong("are refused", |problems, answer| {
        let nothing = |battles: &BattleMatrix| Rating {
            ratings: vec![0.0; battles.players],
            converged: true,
            steps: 0,
            remarks: Vec::new(),
        };
        Ok(answer.unwrap_or_else(|_| problems.iter().map(nothing).collect()))
    });
}

#[test]
fn one_problem_influences_the_next() {
    wrong("no item of a batch influences another", |problems, answer| {
        let many = problems.len() as f64;
        each(problems, answer, |_, _, value| value + many)
    });
}
