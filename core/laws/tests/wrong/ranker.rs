//! Honest rankers and wrong ones.

use std::sync::atomic::{AtomicU32, Ordering};

use metareward_api::{
    Battle, BattleMatrix, Kind, Plugin, PluginError, PluginInfo, Ranker, RankerPromises, RankingProblem, Rating, Remark,
};
use metareward_laws::{LawOutcome, check_ranker, laws_of};
use metareward_plugin::FromOptions;
use ranker_elo::{Elo, EloOptions};

use crate::{Case, PLAN, case, every_law_breaks, holds};

type Answer = Result<Vec<Rating>, PluginError>;

/// Elo whose answer is spoiled, given also the number of calls before.
struct Wrong {
    elo: Elo,
    kind: Kind,
    calls: AtomicU32,
    spoil: fn(&[RankingProblem], Answer, u32) -> Answer,
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        PluginInfo { kind: self.kind, ..self.elo.info() }
    }
}

impl Ranker for Wrong {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        self.elo.promises()
    }

    fn rate(&self, problems: &[RankingProblem]) -> Answer {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.spoil)(problems, self.elo.rate(problems), calls)
    }
}

fn check(kind: Kind, spoil: fn(&[RankingProblem], Answer, u32) -> Answer) -> Vec<LawOutcome> {
    let elo = Elo::from_options(EloOptions::default()).unwrap();
    check_ranker(&Wrong { elo, kind, calls: AtomicU32::new(0), spoil }, PLAN)
}

fn spoiled(
    law: &'static str,
    wrong: &'static str,
    spoil: fn(&[RankingProblem], Answer, u32) -> Answer,
) -> Case<'static> {
    case(law, wrong, move || check(Kind::Ranker, spoil))
}

/// Changes every rating, given its problem and its player.
fn each(problems: &[RankingProblem], answer: Answer, change: impl Fn(&RankingProblem, usize, f64) -> f64) -> Answer {
    let mut answer = answer?;
    for (rating, problem) in answer.iter_mut().zip(problems) {
        for (player, value) in rating.ratings.iter_mut().enumerate() {
            *value = change(problem, player, *value);
        }
    }
    Ok(answer)
}

/// Sum over the battles of a player, given the battle and whether the player is the left one.
fn over_battles(problem: &RankingProblem, player: usize, points: impl Fn(&Battle, bool) -> f64) -> f64 {
    let of = |battle: &Battle| match (battle.left as usize == player, battle.right as usize == player) {
        (true, _) => points(battle, true),
        (_, true) => points(battle, false),
        _ => 0.0,
    };
    problem.battles.iter().map(of).sum()
}

#[test]
fn every_law_of_rankers_breaks() {
    let cases = [
        case("the plugin says", "says that it is a sampler", || check(Kind::Sampler, |_, answer, _| answer)),
        spoiled("every player has one finite rating", "the third of four players has none", |problems, answer, _| {
            each(
                problems,
                answer,
                |problem, player, value| {
                    if problem.players > 3 && player == 2 { f64::NAN } else { value }
                },
            )
        }),
        spoiled("every player has one finite rating", "one rating at most", |_, answer, _| {
            let mut answer = answer?;
            answer.iter_mut().for_each(|rating| rating.ratings.truncate(1));
            Ok(answer)
        }),
        spoiled("relabelling", "the later in the list the better", |problems, answer, _| {
            each(problems, answer, |_, player, value| value + player as f64)
        }),
        spoiled("it makes no difference which", "a point for every battle on the left", |problems, answer, _| {
            each(problems, answer, |problem, player, value| {
                value + over_battles(problem, player, |_, left| if left { 1.0 } else { 0.0 })
            })
        }),
        spoiled("a win more", "upside down", |problems, answer, _| {
            each(problems, answer, |_, _, value| 2000.0 - value)
        }),
        spoiled("swapping all results mirrors the order", "wins counted, losses not", |problems, answer, _| {
            each(problems, answer, |problem, player, _| {
                over_battles(problem, player, |battle, left| if left { battle.left_wins } else { battle.right_wins })
            })
        }),
        spoiled("swapping all results mirrors the order", "a tie is a win of the left one", |problems, answer, _| {
            each(problems, answer, |problem, player, value| {
                value + over_battles(problem, player, |battle, left| if left { battle.ties } else { 0.0 })
            })
        }),
        spoiled("swapping all results mirrors the ratings", "stretched above the mean only", |problems, answer, _| {
            each(problems, answer, |_, _, value| if value > 1000.0 { 1000.0 + 2.0 * (value - 1000.0) } else { value })
        }),
        spoiled("the order of the battles", "the last battle's winner gets a point", |problems, answer, _| {
            each(problems, answer, |problem, player, value| match problem.battles.last() {
                Some(last) if last.left as usize == player && last.left_wins > last.right_wins => value + 1.0,
                Some(last) if last.right as usize == player && last.right_wins > last.left_wins => value + 1.0,
                _ => value,
            })
        }),
        spoiled("who never lost", "degenerate battles not named", |_, answer, _| {
            Ok(answer?.into_iter().map(|rating| Rating { remarks: Vec::new(), ..rating }).collect())
        }),
        spoiled("who never lost", "the first player always called undefeated", |_, answer, _| {
            let mut answer = answer?;
            answer.iter_mut().for_each(|rating| rating.remarks.push(Remark::Undefeated(vec![0])));
            Ok(answer)
        }),
        spoiled("the ratings are the likelihood's maximum", "a millionth beside the maximum", |problems, answer, _| {
            each(problems, answer, |_, _, value| 1000.0 + (value - 1000.0) * (1.0 + 1e-6))
        }),
        spoiled("a player that is not there", "nonsense rated all the same", |problems, answer, _| {
            let nothing = |problem: &RankingProblem| Rating {
                ratings: vec![0.0; problem.players as usize],
                converged: true,
                steps: 0,
                remarks: Vec::new(),
            };
            Ok(answer.unwrap_or_else(|_| problems.iter().map(nothing).collect()))
        }),
        spoiled("the same call", "the size of the batch is added", |problems, answer, _| {
            let many = problems.len() as f64;
            each(problems, answer, |_, _, value| value + many)
        }),
        spoiled("no call leaves a trace", "the number of calls so far is added", |problems, answer, calls| {
            each(problems, answer, |_, _, value| value + f64::from(calls))
        }),
    ];
    every_law_breaks(laws_of(Kind::Ranker), &cases);
}

/// Elo's update after every battle, ties as half wins: the order matters, and it says so.
struct Online;

impl Plugin for Online {
    fn info(&self) -> PluginInfo {
        PluginInfo { kind: Kind::Ranker, name: "online".into(), version: "0.1.0".into(), summary: String::new() }
    }
}

impl Ranker for Online {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises { ignores_order: false, mirrors_ratings: true, likelihood: None })
    }

    fn rate(&self, problems: &[RankingProblem]) -> Answer {
        problems.iter().map(online).collect()
    }
}

fn online(problem: &RankingProblem) -> Result<Rating, PluginError> {
    let mut ratings = vec![0.0; problem.players as usize];
    for battle in &problem.battles {
        let weights = [battle.left_wins, battle.right_wins, battle.ties];
        let fair = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
        if !fair || battle.left == battle.right || battle.left.max(battle.right) >= problem.players {
            return Err(PluginError::new(format!("{battle:?}")));
        }
        let total: f64 = weights.iter().sum();
        let (left, right) = (battle.left as usize, battle.right as usize);
        let expected = 1.0 / (1.0 + libm::exp(ratings[right] - ratings[left]));
        let won = (battle.left_wins + 0.5 * battle.ties) / total.max(1.0);
        let change = 0.1 * (won - expected * total.min(1.0));
        ratings[left] += change;
        ratings[right] -= change;
    }
    let remarks = degenerate(problem);
    Ok(Rating { ratings, converged: true, steps: 1, remarks })
}

/// Remarks as [`Elo`] makes them, by way of the battles alone.
fn degenerate(problem: &RankingProblem) -> Vec<Remark> {
    let wins = BattleMatrix::of(problem, 0.5);
    let players = 0..problem.players;
    let any = |edge: &dyn Fn(usize) -> f64| players.clone().any(|other| edge(other as usize) > 0.0);
    let won = |player: u32| any(&|other| wins.get(player as usize, other));
    let lost = |player: u32| any(&|other| wins.get(other, player as usize));
    if !players.clone().any(won) {
        return vec![Remark::NoBattles];
    }
    let mut group: Vec<u32> = players.clone().collect();
    for battle in &problem.battles {
        if battle.left_wins + battle.right_wins + battle.ties > 0.0 {
            let (from, to) = (group[battle.left as usize], group[battle.right as usize]);
            group.iter_mut().filter(|member| **member == from).for_each(|member| *member = to);
        }
    }
    group.sort_unstable();
    group.dedup();
    let undefeated = players.clone().filter(|player| won(*player) && !lost(*player)).collect();
    let winless = players.clone().filter(|player| lost(*player) && !won(*player)).collect();
    let mut remarks = vec![Remark::Undefeated(undefeated), Remark::Winless(winless)];
    if group.len() > 1 {
        remarks.push(Remark::Disconnected(group.len() as u32));
    }
    remarks
}

#[test]
fn honest_rankers_hold() {
    let elo = Elo::from_options(EloOptions::default()).unwrap();
    holds(&check_ranker(&elo, PLAN), &[]);
    holds(&check_ranker(&Online, PLAN), &["the order of the battles", "the ratings are the likelihood's maximum"]);
}
