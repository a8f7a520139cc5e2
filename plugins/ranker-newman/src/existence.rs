//! Whether the likelihood without a penalty has a finite maximum.

use metareward_plugin::ranking::{Meetings, strongly_connected};

use crate::model::TieRate;

/// Whether there is a finite maximum.
///
/// There is none where some direction makes every result that was seen at least as likely as every other result of its pair.
/// With p the change of the logarithms of the strengths and q that of 2ν there are two kinds of such directions:
///
/// - q = 0: whoever won gains on whoever lost, and those who tied keep their distance. There is one unless in every group
///   everyone has beaten or tied everyone else, directly or through others.
/// - q > 0, where ν is estimated: winners gain at least 2q on losers, and those who tied move apart by at most 2q.
///
/// The second kind is a system of differences. It has a solution unless there is a circle along which the bounds sum to less
/// than nothing, as Bellman and Ford look for one.
pub(crate) fn maximum_exists(meetings: &Meetings, rate: TieRate) -> bool {
    if !strongly_connected(meetings, true).into_iter().all(|strong| strong) {
        return false;
    }
    if rate != TieRate::Estimated {
        return true;
    }
    let pairs = meetings.pairs();
    if pairs.iter().any(|pair| pair.low_wins > 0.0 && pair.high_wins > 0.0) {
        return true;
    }
    // (a, b, most): p_b is at most p_a + most.
    let mut bounds = Vec::new();
    for pair in pairs {
        let (low, high) = (pair.low as usize, pair.high as usize);
        for (winner, loser, wins) in [(low, high, pair.low_wins), (high, low, pair.high_wins)] {
            if wins > 0.0 {
                bounds.push((winner, loser, -2i64));
            }
            if pair.ties > 0.0 {
                bounds.push((winner, loser, 2));
            }
        }
    }
    let mut p = vec![0i64; meetings.players()];
    for _ in 0..=meetings.players() {
        let mut moved = false;
        for (a, b, most) in &bounds {
            if p[*b] > p[*a] + most {
                p[*b] = p[*a] + most;
                moved = true;
            }
        }
        if !moved {
            return false;
        }
    }
    true
}
