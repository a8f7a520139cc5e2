//! Laws of rankers.

use metareward_api::{Battle, BattleMatrix, Kind, Likelihood, Ranker, RankerPromises, RankingProblem, Rating, Remark};
use proptest::{collection::vec, prelude::*};

use crate::{
    all_kinds::{self, ABOUT, PURE, TRACELESS},
    generators::{permutation, ranking_problem, unratable_problem},
    outcome::{LawOutcome, Plan, ensure, equal, law, only},
};

const FINITE: &str = "every player has one finite rating";
const RELABELLING: &str = "relabelling the players relabels the ratings";
const SIDES: &str = "it makes no difference which player of a battle is the left one";
const ANOTHER_WIN: &str = "a win more, after all battles, never lowers the winner's place";
const MIRRORED_ORDER: &str = "swapping all results mirrors the order, and where nobody won nobody leads";
const MIRRORED_RATINGS: &str = "swapping all results mirrors the ratings";
const ORDER: &str = "the order of the battles makes no difference";
const SAID: &str = "who never lost, who never won and what is disconnected is said";
const MAXIMUM: &str = "the ratings are the likelihood's maximum: its gradient is zero";
const REFUSED: &str =
    "a player that is not there, a battle against oneself, or a weight that is no number from 0 is refused";

pub(crate) const LAWS: &[&str] = &[
    ABOUT,
    FINITE,
    RELABELLING,
    SIDES,
    ANOTHER_WIN,
    MIRRORED_ORDER,
    MIRRORED_RATINGS,
    ORDER,
    SAID,
    MAXIMUM,
    REFUSED,
    PURE,
    TRACELESS,
];

/// Two ratings that differ by less, relative to the largest rating, are equal: what rounding makes of one number.
const ROUNDING: f64 = 1e-9;

/// Checks all laws of rankers. What it promises ([`Ranker::promises`]) is checked, and nothing else of that.
pub fn check_ranker(ranker: &dyn Ranker, plan: Plan) -> Vec<LawOutcome> {
    let promises = ranker.promises().unwrap_or_default();
    let problem = ranking_problem;
    vec![
        all_kinds::about(plan, Kind::Ranker, ranker, || Ok(sensible(ranker.promises()?)?)),
        law(FINITE, plan, problem(), |problem| {
            let rating = rate(ranker, &problem)?;
            ensure(rating.ratings.iter().all(|rating| rating.is_finite()), || format!("ratings {:?}", rating.ratings))
        }),
        law(
            RELABELLING,
            plan,
            problem().prop_flat_map(|problem| (permutation(problem.players as usize), Just(problem))),
            |(order, problem)| relabelling(ranker, &problem, &order),
        ),
        law(SIDES, plan, (problem(), any::<u32>()), |(problem, which)| {
            let turn = |(index, battle): (usize, &Battle)| {
                let Battle { left, right, left_wins, right_wins, ties } = *battle;
                if which >> (index % 32) & 1 == 0 {
                    *battle
                } else {
                    Battle { left: right, right: left, left_wins: right_wins, right_wins: left_wins, ties }
                }
            };
            let battles = problem.battles.iter().enumerate().map(turn).collect();
            same_ratings(ranker, &problem, &RankingProblem { battles, ..problem.clone() })
        }),
        law(
            ANOTHER_WIN,
            plan,
            (problem(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
            |(problem, winner, loser, left)| {
                if problem.players < 2 {
                    return Ok(());
                }
                let players = problem.players as usize;
                let winner = winner.index(players);
                let loser = (winner + 1 + loser.index(players - 1)) % players;
                another_win(ranker, problem, winner, loser, left)
            },
        ),
        law(MIRRORED_ORDER, plan, problem(), |problem| mirrored(ranker, &problem, false)),
        if promises.mirrors_ratings {
            law(MIRRORED_RATINGS, plan, problem(), |problem| mirrored(ranker, &problem, true))
        } else {
            LawOutcome::not_checked(MIRRORED_RATINGS, plan, "the ranker promises the mirrored order only")
        },
        if promises.ignores_order {
            let shuffled = problem().prop_flat_map(|problem| (permutation(problem.battles.len()), Just(problem)));
            law(ORDER, plan, shuffled, |(order, problem)| {
                let battles = order.iter().filter_map(|index| problem.battles.get(*index).copied()).collect();
                same_ratings(ranker, &problem, &RankingProblem { battles, ..problem.clone() })
            })
        } else {
            LawOutcome::not_checked(ORDER, plan, "the ranker says that the order matters")
        },
        law(SAID, plan, problem(), |problem| said(&rate(ranker, &problem)?, &problem)),
        match promises.likelihood {
            Some(likelihood) => law(MAXIMUM, plan, problem(), |problem| maximum(ranker, &problem, likelihood)),
            None => LawOutcome::not_checked(MAXIMUM, plan, "the ranker promises no likelihood"),
        },
        law(REFUSED, plan, unratable_problem(), |problem| {
            ensure(ranker.rate(&[problem]).is_err(), || "it was rated".to_owned())
        }),
        all_kinds::pure(plan, vec(problem(), 0..4), |problems| ranker.rate(problems)),
        all_kinds::traceless(
            plan,
            vec(problem(), 0..4),
            prop_oneof![problem(), unratable_problem()].prop_map(|problem| vec![problem]),
            |problems| ranker.rate(problems),
        ),
    ]
}

fn sensible(promises: RankerPromises) -> Result<(), String> {
    let Some(likelihood) = promises.likelihood else { return Ok(()) };
    let Likelihood { points, regularization, tie_share } = likelihood;
    let holds = points.is_finite()
        && points > 0.0
        && regularization.is_finite()
        && regularization > 0.0
        && (0.0..=1.0).contains(&tie_share);
    ensure(holds, || format!("{likelihood:?}"))
}

fn rate(ranker: &dyn Ranker, problem: &RankingProblem) -> Result<Rating, String> {
    let rating = only(ranker.rate(std::slice::from_ref(problem)))?;
    equal("number of ratings", &rating.ratings.len(), &(problem.players as usize))?;
    Ok(rating)
}

/// The width of equality between the ratings of one problem.
fn rounding(rating: &Rating) -> f64 {
    ROUNDING * rating.ratings.iter().fold(1.0, |widest: f64, rating| widest.max(rating.abs()))
}

fn same_ratings(ranker: &dyn Ranker, one: &RankingProblem, other: &RankingProblem) -> Result<(), String> {
    let (before, after) = (rate(ranker, one)?, rate(ranker, other)?);
    let width = rounding(&before);
    for (player, (before, after)) in before.ratings.iter().zip(&after.ratings).enumerate() {
        ensure((before - after).abs() <= width, || format!("player {player}: {before} became {after}"))?;
    }
    equal("remarks", &after.remarks, &before.remarks)
}

fn relabelling(ranker: &dyn Ranker, problem: &RankingProblem, order: &[usize]) -> Result<(), String> {
    let label = |player: u32| order.get(player as usize).map_or(player, |label| *label as u32);
    let relabel = |battle: &Battle| Battle { left: label(battle.left), right: label(battle.right), ..*battle };
    let battles = problem.battles.iter().map(relabel).collect();
    let before = rate(ranker, problem)?;
    let after = rate(ranker, &RankingProblem { battles, ..problem.clone() })?;
    let width = rounding(&before).max(rounding(&after));
    for (player, label) in order.iter().enumerate() {
        let (before, after) = (before.ratings[player], after.ratings[*label]);
        ensure((after - before).abs() <= width, || {
            format!("rating of player {player}, relabelled {label}: found {after}, expected {before}")
        })?;
    }
    Ok(())
}

fn another_win(
    ranker: &dyn Ranker,
    mut problem: RankingProblem,
    winner: usize,
    loser: usize,
    left: bool,
) -> Result<(), String> {
    let before = rate(ranker, &problem)?;
    let (w, l) = (winner as u32, loser as u32);
    problem.battles.push(if left {
        Battle { left: w, right: l, left_wins: 1.0, ..Battle::default() }
    } else {
        Battle { left: l, right: w, right_wins: 1.0, ..Battle::default() }
    });
    let after = rate(ranker, &problem)?;
    let width = rounding(&before).max(rounding(&after));
    for other in (0..problem.players as usize).filter(|other| *other != winner) {
        let lead = before.ratings[winner] - before.ratings[other];
        let lead_after = after.ratings[winner] - after.ratings[other];
        ensure(!(lead > width && lead_after < -width), || {
            format!("player {winner} beat {loser} once more and fell behind {other}: lead {lead} became {lead_after}")
        })?;
    }
    Ok(())
}

fn mirrored(ranker: &dyn Ranker, problem: &RankingProblem, ratings: bool) -> Result<(), String> {
    let swap = |battle: &Battle| Battle { left_wins: battle.right_wins, right_wins: battle.left_wins, ..*battle };
    let battles = problem.battles.iter().map(swap).collect();
    let before = rate(ranker, problem)?;
    let after = rate(ranker, &RankingProblem { battles, ..problem.clone() })?;
    let width = rounding(&before).max(rounding(&after));
    for a in 0..problem.players as usize {
        for b in 0..a {
            let lead = before.ratings[a] - before.ratings[b];
            let lead_after = after.ratings[a] - after.ratings[b];
            let holds = if ratings {
                (lead + lead_after).abs() <= 4.0 * width
            } else {
                lead.abs() <= width || lead_after.abs() <= width || (lead > 0.0) != (lead_after > 0.0)
            };
            ensure(holds, || format!("player {a} leads {b} by {lead}, and by {lead_after} with all results swapped"))?;
        }
    }
    Ok(())
}

/// Whether a tie is half a win or nothing is the ranker's to say, so where only ties decide both remarks are right.
fn said(rating: &Rating, problem: &RankingProblem) -> Result<(), String> {
    let wins = BattleMatrix::of(problem, 0.0);
    let halves = BattleMatrix::of(problem, 0.5);
    let players = problem.players as usize;
    let some = |matrix: &BattleMatrix| matrix.wins.iter().any(|weight| *weight > 0.0);
    let won = |player: usize| (0..players).any(|other| wins.get(player, other) > 0.0);
    let lost = |player: usize| (0..players).any(|other| wins.get(other, player) > 0.0);
    let tied = |player: usize| (0..players).any(|other| halves.get(player, other) > wins.get(player, other));
    let groups = [groups(&wins), groups(&halves)];

    let has = |wanted: fn(&Remark) -> bool| rating.remarks.iter().any(wanted);
    if !some(&halves) {
        return ensure(has(|remark| *remark == Remark::NoBattles), || "not said: no battles".to_owned());
    }
    let mut named = [Vec::new(), Vec::new()];
    for remark in &rating.remarks {
        let holds = match remark {
            Remark::NoBattles => !some(&wins),
            Remark::Undefeated(who) => {
                named[0].clone_from(who);
                who.iter().all(|who| won(*who as usize) && !lost(*who as usize))
            }
            Remark::Winless(who) => {
                named[1].clone_from(who);
                who.iter().all(|who| lost(*who as usize) && !won(*who as usize))
            }
            Remark::Disconnected(said) => groups.contains(said) && *said > 1,
            Remark::NotConverged => true,
        };
        ensure(holds, || format!("said, but not so: {remark}"))?;
    }
    let [undefeated, winless] = &named;
    for player in 0..players {
        let listed = |list: &[u32]| list.contains(&(player as u32));
        ensure(!(won(player) && !lost(player) && !tied(player)) || listed(undefeated), || {
            format!("not said: {player} is undefeated")
        })?;
        ensure(!(lost(player) && !won(player) && !tied(player)) || listed(winless), || {
            format!("not said: {player} is winless")
        })?;
    }
    let apart = has(|remark| matches!(remark, Remark::Disconnected(_) | Remark::NoBattles));
    ensure(apart || groups.contains(&1), || format!("not said: {} groups without battles between them", groups[1]))
}

/// Number of groups without battles between them.
fn groups(matrix: &BattleMatrix) -> u32 {
    let mut group: Vec<usize> = (0..matrix.players).collect();
    for a in 0..matrix.players {
        for b in 0..matrix.players {
            if matrix.get(a, b) > 0.0 {
                let (from, to) = (group[a], group[b]);
                for member in &mut group {
                    if *member == from {
                        *member = to;
                    }
                }
            }
        }
    }
    group.sort_unstable();
    group.dedup();
    u32::try_from(group.len()).unwrap_or(u32::MAX)
}

fn maximum(ranker: &dyn Ranker, problem: &RankingProblem, likelihood: Likelihood) -> Result<(), String> {
    let battles = BattleMatrix::of(problem, likelihood.tie_share);
    let rating = rate(ranker, problem)?;
    ensure(rating.converged, || "not converged".to_owned())?;
    let mean = rating.ratings.iter().sum::<f64>() / battles.players.max(1) as f64;
    let eps: Vec<f64> = rating.ratings.iter().map(|rating| (rating - mean) / likelihood.points).collect();
    for a in 0..battles.players {
        let (mut gradient, mut weight) = (-likelihood.regularization * eps[a], 1.0);
        for b in 0..battles.players {
            let chance = 1.0 / (1.0 + libm::exp(eps[b] - eps[a]));
            gradient += battles.get(a, b) * (1.0 - chance) - battles.get(b, a) * chance;
            weight += battles.get(a, b) + battles.get(b, a);
        }
        // The rating's own rounding, seen through the weights.
        ensure(gradient.abs() <= ROUNDING * weight, || format!("the gradient of player {a} is {gradient}"))?;
    }
    Ok(())
}
