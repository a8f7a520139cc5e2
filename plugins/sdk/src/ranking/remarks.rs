//! What a reader should know of the battles.

use metareward_api::Remark;

use super::Meetings;

/// What a reader should know of the battles: that there are none, who never lost, who never won, and into how many groups
/// the players fall. Where ties are counted, whoever tied has both won and lost, a half of each; where they are ignored, two
/// players who only tied have not met.
pub fn remarks(meetings: &Meetings) -> Vec<Remark> {
    if meetings.pairs().is_empty() {
        return vec![Remark::NoBattles];
    }
    let mut won = vec![false; meetings.players()];
    let mut lost = vec![false; meetings.players()];
    for pair in meetings.pairs() {
        let (low, high) = (pair.low as usize, pair.high as usize);
        let (low_scored, high_scored) = (pair.low_wins + pair.ties > 0.0, pair.high_wins + pair.ties > 0.0);
        won[low] |= low_scored;
        lost[high] |= low_scored;
        won[high] |= high_scored;
        lost[low] |= high_scored;
    }
    let one_sided = |some: &[bool], none: &[bool]| -> Vec<u32> {
        let players = (0u32..).zip(some.iter().zip(none));
        players.filter(|(_, (some, none))| **some && !**none).map(|(player, _)| player).collect()
    };
    let mut remarks = Vec::new();
    let undefeated = one_sided(&won, &lost);
    if !undefeated.is_empty() {
        remarks.push(Remark::Undefeated(undefeated));
    }
    let winless = one_sided(&lost, &won);
    if !winless.is_empty() {
        remarks.push(Remark::Winless(winless));
    }
    if meetings.groups().len() > 1 {
        remarks.push(Remark::Disconnected(u32::try_from(meetings.groups().len()).unwrap_or(u32::MAX)));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use metareward_api::{Battle, RankingProblem};

    use super::{super::Ties, *};

    #[test]
    fn ties_save_from_a_remark_where_they_count() {
        let battles = vec![
            Battle { left: 0, right: 1, left_wins: 1.0, ..Battle::default() },
            Battle { left: 2, right: 1, right_wins: 0.0, ties: 1.0, ..Battle::default() },
        ];
        let problem = RankingProblem { players: 4, battles };
        let said = |ties| remarks(&Meetings::of(&problem, ties).unwrap());
        assert_eq!(said(Ties::Counted), [Remark::Undefeated(vec![0]), Remark::Disconnected(2)]);
        let ignored = [Remark::Undefeated(vec![0]), Remark::Winless(vec![1]), Remark::Disconnected(3)];
        assert_eq!(said(Ties::Ignored), ignored);
    }
}
