//! What verdicts weigh (paper section 3, steps 3 to 5).

use metareward_api::{BattleMatrix, Match, PositionWins, VerdictSet, Winner};

use crate::Disagreement;

/// w1 and w2: the share of wins of the *other* position, so that wins in the favoured position weigh less. A half each
/// where nobody has won.
pub(crate) fn of(wins: PositionWins) -> [f64; 2] {
    let total = wins.first + wins.second;
    if total == 0 {
        return [0.5, 0.5];
    }
    [wins.second as f64 / total as f64, wins.first as f64 / total as f64]
}

/// B_mn = w1·[r_mn = 1] + w2·[r_nm = −1]. Ties weigh nothing. A match that was played twice counts twice.
pub(crate) fn battles(
    set: &VerdictSet,
    [w1, w2]: [f64; 2],
    disagreement: Disagreement,
) -> Result<BattleMatrix, String> {
    let players = set.players as usize;
    let mut battles = BattleMatrix::new(players);
    for (Match { first, second }, winner) in &set.verdicts {
        if first == second || first.max(second) >= &set.players {
            return Err(format!("a verdict on judgments {first} and {second} of {}", set.players));
        }
        match winner {
            Winner::First => battles.add(*first as usize, *second as usize, w1),
            Winner::Second => battles.add(*second as usize, *first as usize, w2),
            Winner::Tie => {}
        }
    }
    if disagreement == Disagreement::Tie {
        let mut beaten = vec![false; players * players];
        for (Match { first, second }, winner) in &set.verdicts {
            let (a, b) = (*first as usize, *second as usize);
            let cell = match winner {
                Winner::First => a * players + b,
                Winner::Second => b * players + a,
                Winner::Tie => continue,
            };
            if let Some(cell) = beaten.get_mut(cell) {
                *cell = true;
            }
        }
        let has = |a: usize, b: usize| beaten.get(a * players + b).copied().unwrap_or(false);
        for (cell, weight) in battles.wins.iter_mut().enumerate() {
            let (row, column) = (cell / players, cell % players);
            if has(row, column) && has(column, row) {
                *weight = 0.0;
            }
        }
    }
    Ok(battles)
}
