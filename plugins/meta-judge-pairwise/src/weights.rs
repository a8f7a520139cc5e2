//! What verdicts weigh (paper section 3, steps 3 to 5).

use std::collections::BTreeMap;

use metareward_api::{Battle, Match, PositionWins, VerdictSet, Winner};

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

/// One battle per pair that met, in the order of their first meetings, the lower index on the left. Wins are
/// B_mn = w1·[r_mn = 1] + w2·[r_nm = −1]; a tie verdict weighs (w1 + w2) / 2 on the side, so that ties favour no
/// position and leave B as it is. A match that was played twice counts twice.
pub(crate) fn battles(set: &VerdictSet, [w1, w2]: [f64; 2], disagreement: Disagreement) -> Result<Vec<Battle>, String> {
    let mut places: BTreeMap<[u32; 2], usize> = BTreeMap::new();
    let mut met: Vec<Meeting> = Vec::new();
    for (Match { first, second }, winner) in &set.verdicts {
        if first == second || first.max(second) >= &set.players {
            return Err(format!("a verdict on judgments {first} and {second} of {}", set.players));
        }
        let pair = [*first.min(second), *first.max(second)];
        let place = *places.entry(pair).or_insert(met.len());
        if place == met.len() {
            met.push(Meeting { pair, ..Meeting::default() });
        }
        let Some(meeting) = met.get_mut(place) else { continue };
        let (side, weight) = match winner {
            Winner::First => (usize::from(*first != pair[0]), w1),
            Winner::Second => (usize::from(*second != pair[0]), w2),
            Winner::Tie => {
                meeting.ties += 1;
                continue;
            }
        };
        if let Some(won) = meeting.won.get_mut(side) {
            won.0 += 1;
            won.1 += weight;
        }
    }
    Ok(met.into_iter().map(|meeting| meeting.battle((w1 + w2) / 2.0, disagreement)).collect())
}

/// What happened between two judgments.
#[derive(Default)]
struct Meeting {
    /// Their indices, the lower one first.
    pair: [u32; 2],
    /// Number and weight of the wins of either.
    won: [(u32, f64); 2],
    /// Number of ties.
    ties: u32,
}

impl Meeting {
    fn battle(self, tie: f64, disagreement: Disagreement) -> Battle {
        let Self { pair: [left, right], won: [(left_count, mut left_wins), (right_count, mut right_wins)], mut ties } =
            self;
        if disagreement == Disagreement::Tie && left_count > 0 && right_count > 0 {
            ties += left_count + right_count;
            (left_wins, right_wins) = (0.0, 0.0);
        }
        Battle { left, right, left_wins, right_wins, ties: f64::from(ties) * tie }
    }
}
