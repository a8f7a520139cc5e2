//! How often the judge puts two answers to one prompt in the order in which the oracle puts them.

use crate::{Bootstrap, Figure, Groups};

/// What a tie of the judge counts as. Two answers that the oracle holds equal have no right order and never count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// Half an agreement (paper, tables on judge agreement, first figure).
    Half,
    /// Nothing: the pair is left out (second figure).
    LeftOut,
}

/// Share of ordered pairs on which judge and oracle agree, from 0 to 1, over pairs of answers to one prompt. A point
/// is an answer: the judge's score and the oracle's. `None` without a pair that counts.
pub fn agreement_of(groups: &[&[(f64, f64)]], ties: Ties) -> Option<f64> {
    let (mut agreed, mut pairs) = (0.0, 0_usize);
    for group in groups {
        let (group_agreed, group_pairs) = agreed_pairs(group, ties);
        agreed += group_agreed;
        pairs += group_pairs;
    }
    (pairs > 0).then(|| agreed / pairs as f64)
}

/// Agreement with its interval; `n` is the number of pairs that count, and `prompts` that of the prompts they are from.
pub fn agreement(points: &Groups<(f64, f64)>, ties: Ties, bootstrap: &Bootstrap) -> Option<Figure> {
    let counted: Groups<(f64, f64)> = points
        .iter()
        .filter(|(_, group)| agreed_pairs(group, ties).1 > 0)
        .flat_map(|(prompt, group)| group.iter().map(|point| (prompt.clone(), *point)))
        .collect();
    let figure = bootstrap.figure(&counted, &|groups| agreement_of(groups, ties))?;
    Some(Figure { n: counted.iter().map(|(_, group)| agreed_pairs(group, ties).1).sum(), ..figure })
}

/// Agreements among the answers to one prompt, and of how many pairs.
fn agreed_pairs(group: &[(f64, f64)], ties: Ties) -> (f64, usize) {
    let (mut agreed, mut pairs) = (0.0, 0);
    for (place, (judge, oracle)) in group.iter().enumerate() {
        for (other_judge, other_oracle) in &group[place + 1..] {
            let (by_judge, by_oracle) = (judge.partial_cmp(other_judge), oracle.partial_cmp(other_oracle));
            let (Some(by_judge), Some(by_oracle)) = (by_judge, by_oracle) else { continue };
            if by_oracle.is_eq() || (by_judge.is_eq() && ties == Ties::LeftOut) {
                continue;
            }
            pairs += 1;
            agreed += if by_judge.is_eq() { 0.5 } else { f64::from(u8::from(by_judge == by_oracle)) };
        }
    }
    (agreed, pairs)
}
