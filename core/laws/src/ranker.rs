//! Laws of rankers.

use metareward_api::{BattleMatrix, Ranker, Rating, Remark};
use proptest::{collection::vec, prelude::*};

use crate::{
    generators::{battles, permutation},
    outcome::{LawOutcome, Plan, ensure, equal, law, near, only, pure_law},
};

/// The Bradley–Terry likelihood with a quadratic penalty, for rankers that promise its maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// What a rating is divided by to be a natural log odds: 400 / ln 10 on the Elo scale.
    pub points: f64,
    /// λ of the penalty (λ/2)·Σ eps². Above 0, so that there always is a finite maximum.
    pub regularization: f64,
}

/// What not every honest ranker promises.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankerPromises {
    /// Swapping all results mirrors the ratings themselves, not only their order.
    pub mirrors_ratings: bool,
    /// The ratings maximise this likelihood.
    pub likelihood: Option<Likelihood>,
}

/// Two ratings that differ by less, relative to the largest rating, are equal: what rounding makes of one number.
const ROUNDING: f64 = 1e-9;

/// Checks all laws of rankers.
pub fn check_ranker(ranker: &dyn Ranker, promises: RankerPromises, plan: Plan) -> Vec<LawOutcome> {
    vec![
        law("every player has one finite rating", plan, battles(), |battles| {
            well_formed(&rate(ranker, &battles)?, &battles)
        }),
        law(
            "relabelling the players relabels the ratings",
            plan,
            battles().prop_flat_map(|battles| (permutation(battles.players), Just(battles))),
            |(order, battles)| relabelling(ranker, &battles, &order),
        ),
        law(
            "a win more never lowers the winner's place",
            plan,
            (battles(), any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            |(battles, winner, loser)| {
                if battles.players < 2 {
                    return Ok(());
                }
                let winner = winner.index(battles.players);
                let loser = (winner + 1 + loser.index(battles.players - 1)) % battles.players;
                another_win(ranker, battles, winner, loser)
            },
        ),
        law("swapping all results mirrors the ratings", plan, battles(), |battles| {
            mirrored(ranker, &battles, promises.mirrors_ratings)
        }),
        law("who never lost, who never won and what is disconnected is said", plan, battles(), |battles| {
            degenerate(&rate(ranker, &battles)?, &battles)
        }),
        match promises.likelihood {
            Some(likelihood) => law(MAXIMUM, plan, battles(), |battles| maximum(ranker, &battles, likelihood)),
            None => LawOutcome::not_checked(MAXIMUM, plan, "the ranker promises no likelihood"),
        },
        law(
            "weights that are not finite, negative or no square are refused",
            plan,
            (battles(), any::<prop::sample::Index>(), prop::sample::select(vec![f64::NAN, f64::INFINITY, -1.0])),
            |(mut battles, cell, bad)| {
                if battles.players < 2 {
                    battles.wins.push(bad);
                } else {
                    let off_diagonal = cell.index(battles.players - 1) + 1;
                    battles.wins[off_diagonal] = bad;
                }
                ensure(ranker.rate(&[battles]).is_err(), || "it was rated".to_owned())
            },
        ),
        pure_law(plan, vec(battles(), 0..4), |problems| ranker.rate(problems)),
    ]
}

const MAXIMUM: &str = "the ratings are the likelihood's maximum: its gradient is zero";

fn rate(ranker: &dyn Ranker, battles: &BattleMatrix) -> Result<Rating, String> {
    let rating = only(ranker.rate(std::slice::from_ref(battles)))?;
    equal("number of ratings", &rating.ratings.len(), &battles.players)?;
    Ok(rating)
}

fn well_formed(rating: &Rating, battles: &BattleMatrix) -> Result<(), String> {
    equal("number of ratings", &rating.ratings.len(), &battles.players)?;
    ensure(rating.ratings.iter().all(|rating| rating.is_finite()), || format!("ratings {:?}", rating.ratings))
}

/// The width of equality between the ratings of one problem.
fn rounding(rating: &Rating) -> f64 {
    ROUNDING * rating.ratings.iter().fold(1.0, |widest: f64, rating| widest.max(rating.abs()))
}

fn relabelling(ranker: &dyn Ranker, battles: &BattleMatrix, order: &[usize]) -> Result<(), String> {
    let mut relabelled = BattleMatrix::new(battles.players);
    for row in 0..battles.players {
        for column in 0..battles.players {
            relabelled.add(order[row], order[column], battles.get(row, column));
        }
    }
    let before = rate(ranker, battles)?;
    let after = rate(ranker, &relabelled)?;
    for (player, label) in order.iter().enumerate() {
        near(
            &format!("rating of player {player}, relabelled {label}"),
            after.ratings[*label],
            before.ratings[player],
            ROUNDING,
        )?;
    }
    Ok(())
}

fn another_win(ranker: &dyn Ranker, mut battles: BattleMatrix, winner: usize, loser: usize) -> Result<(), String> {
    let before = rate(ranker, &battles)?;
    battles.add(winner, loser, 1.0);
    let after = rate(ranker, &battles)?;
    let width = rounding(&before).max(rounding(&after));
    for other in (0..battles.players).filter(|other| *other != winner) {
        let lead = before.ratings[winner] - before.ratings[other];
        let lead_after = after.ratings[winner] - after.ratings[other];
        ensure(!(lead > width && lead_after < -width), || {
            format!("player {winner} beat {loser} once more and fell behind {other}: lead {lead} became {lead_after}")
        })?;
    }
    Ok(())
}

fn mirrored(ranker: &dyn Ranker, battles: &BattleMatrix, ratings: bool) -> Result<(), String> {
    let mut swapped = BattleMatrix::new(battles.players);
    for row in 0..battles.players {
        for column in 0..battles.players {
            swapped.add(column, row, battles.get(row, column));
        }
    }
    let before = rate(ranker, battles)?;
    let after = rate(ranker, &swapped)?;
    let width = rounding(&before).max(rounding(&after));
    for a in 0..battles.players {
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

fn degenerate(rating: &Rating, battles: &BattleMatrix) -> Result<(), String> {
    let players = 0..battles.players;
    let won = |a: usize| players.clone().any(|b| battles.get(a, b) > 0.0);
    let lost = |a: usize| players.clone().any(|b| battles.get(b, a) > 0.0);
    let list = |filter: &dyn Fn(usize) -> bool| -> Vec<u32> {
        (0u32..).zip(players.clone()).filter(|(_, player)| filter(*player)).map(|(index, _)| index).collect()
    };
    let undefeated = list(&|player| won(player) && !lost(player));
    let winless = list(&|player| lost(player) && !won(player));
    let said = |remark: Remark| ensure(rating.remarks.contains(&remark), || format!("not said: {remark}"));
    if battles.wins.iter().all(|weight| *weight == 0.0) {
        return said(Remark::NoBattles);
    }
    if !undefeated.is_empty() {
        said(Remark::Undefeated(undefeated))?;
    }
    if !winless.is_empty() {
        said(Remark::Winless(winless))?;
    }
    let groups = groups(battles);
    if groups > 1 {
        said(Remark::Disconnected(groups))?;
    }
    let wrong = rating.remarks.iter().find(|remark| match remark {
        Remark::NoBattles => true,
        Remark::Undefeated(who) => who.iter().any(|who| lost(*who as usize)),
        Remark::Winless(who) => who.iter().any(|who| won(*who as usize)),
        Remark::Disconnected(said) => *said != groups,
        Remark::NotConverged => false,
    });
    ensure(wrong.is_none(), || format!("said, but not so: {wrong:?}"))
}

/// Groups without battles between them.
fn groups(battles: &BattleMatrix) -> u32 {
    let mut group: Vec<usize> = (0..battles.players).collect();
    for a in 0..battles.players {
        for b in 0..battles.players {
            if battles.get(a, b) > 0.0 {
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

fn maximum(ranker: &dyn Ranker, battles: &BattleMatrix, likelihood: Likelihood) -> Result<(), String> {
    let rating = rate(ranker, battles)?;
    ensure(rating.converged, || "not converged".to_owned())?;
    let mean = rating.ratings.iter().sum::<f64>() / battles.players.max(1) as f64;
    let eps: Vec<f64> = rating.ratings.iter().map(|rating| (rating - mean) / likelihood.points).collect();
    for a in 0..battles.players {
        let (mut gradient, mut weight) = (-likelihood.regularization * eps[a], 1.0);
        for b in 0..battles.players {
            let chance = 1.0 / (1.0 + (eps[b] - eps[a]).exp());
            gradient += battles.get(a, b) * (1.0 - chance) - battles.get(b, a) * chance;
            weight += battles.get(a, b) + battles.get(b, a);
        }
        // The rating's own rounding, seen through the weights.
        ensure(gradient.abs() <= ROUNDING * weight, || format!("the gradient of player {a} is {gradient}"))?;
    }
    Ok(())
}
