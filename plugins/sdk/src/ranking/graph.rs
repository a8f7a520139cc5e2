//! Who met whom: groups without battles between them, and whether everyone in a group has beaten everyone else.

use super::{Meetings, Pair};

/// Players joined by meetings, directly or through others.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Players, group by group; within a group, and by their first players among groups, in order.
    members: Vec<usize>,
    /// Where each group ends in `members`.
    ends: Vec<usize>,
    /// Group of each player.
    group: Vec<usize>,
}

impl Groups {
    /// How many groups there are; a player without battles is one.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no group, that is, no player.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The groups, each sorted.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.members.get(start..*end).unwrap_or_default())
    }

    /// The group that a player is in; 0 for a player that is not there.
    pub fn of(&self, player: u32) -> usize {
        self.group.get(player as usize).copied().unwrap_or(0)
    }

    /// Finds the groups. Every index in `pairs` is below `players`.
    pub(super) fn read(&mut self, players: usize, pairs: &[Pair]) {
        // Each player points to one with an index not above its own; the first player of a group points to itself.
        let first = &mut self.group;
        first.clear();
        first.extend(0..players);
        for pair in pairs {
            let (a, b) = (find(first, pair.low as usize), find(first, pair.high as usize));
            first[a.max(b)] = a.min(b);
        }
        self.ends.clear();
        for player in 0..players {
            // The first player of a group comes before its other players and already holds the group's number.
            if first[player] == player {
                first[player] = self.ends.len();
                self.ends.push(0);
            } else {
                first[player] = first[first[player]];
            }
            self.ends[first[player]] += 1;
        }
        let mut next = 0;
        for end in &mut self.ends {
            next += std::mem::replace(end, next);
        }
        self.members.clear();
        self.members.resize(players, 0);
        for (player, group) in self.group.iter().enumerate() {
            self.members[self.ends[*group]] = player;
            self.ends[*group] += 1;
        }
    }
}

/// The first player of the group so far, with shorter ways for the next time.
fn find(first: &mut [usize], mut player: usize) -> usize {
    while first[player] != player {
        first[player] = first[first[player]];
        player = first[player];
    }
    player
}

/// For each group, whether everyone in it has beaten everyone else, directly or through others. With `tied`, a tie counts
/// as having beaten one another. Then, and only then, the likelihood of Bradley and Terry has a finite maximum in that
/// group (Ford 1957).
pub fn strongly_connected(meetings: &Meetings, tied: bool) -> Vec<bool> {
    let players = meetings.players();
    let beaten = |pair: &Pair| {
        let ties = if tied { pair.ties } else { 0.0 };
        (pair.low_wins + ties > 0.0, pair.high_wins + ties > 0.0)
    };
    let mut both = vec![true; meetings.groups().len()];
    for forwards in [true, false] {
        // Out of each player: whom it has beaten, or by whom it was beaten.
        let mut ends = vec![0usize; players + 1];
        let mut arcs = Vec::with_capacity(2 * meetings.pairs().len());
        for pair in meetings.pairs() {
            let (low_beat, high_beat) = beaten(pair);
            let (low, high) = (pair.low as usize, pair.high as usize);
            if low_beat {
                arcs.push(if forwards { (low, high) } else { (high, low) });
            }
            if high_beat {
                arcs.push(if forwards { (high, low) } else { (low, high) });
            }
        }
        for (from, _) in &arcs {
            ends[from + 1] += 1;
        }
        for player in 0..players {
            ends[player + 1] += ends[player];
        }
        let mut targets = vec![0usize; arcs.len()];
        let mut place = ends.clone();
        for (from, to) in arcs {
            targets[place[from]] = to;
            place[from] += 1;
        }
        let mut seen = vec![false; players];
        for (group, all) in meetings.groups().iter().zip(&mut both) {
            let mut reached = group.get(..1).unwrap_or_default().to_vec();
            for start in &reached {
                seen[*start] = true;
            }
            let mut next = 0;
            while let Some(from) = reached.get(next).copied() {
                for to in &targets[ends[from]..ends[from + 1]] {
                    if !std::mem::replace(&mut seen[*to], true) {
                        reached.push(*to);
                    }
                }
                next += 1;
            }
            *all &= reached.len() == group.len();
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use metareward_api::{Battle, RankingProblem};
    use proptest::prelude::*;

    use super::{super::Ties, *};

    fn meetings(players: u32, wins: &[(u32, u32)]) -> Meetings {
        let battle =
            |(left, right): &(u32, u32)| Battle { left: *left, right: *right, left_wins: 1.0, ..Battle::default() };
        let problem = RankingProblem { players, battles: wins.iter().map(battle).collect() };
        Meetings::of(&problem, Ties::Counted).unwrap()
    }

    #[test]
    fn groups_are_in_order() {
        let meetings = meetings(7, &[(6, 4), (5, 1), (4, 1), (3, 2)]);
        let groups: Vec<&[usize]> = meetings.groups().iter().collect();
        assert_eq!(groups, [&[0][..], &[1, 4, 5, 6], &[2, 3]]);
        assert_eq!((0..7).map(|player| meetings.groups().of(player)).collect::<Vec<_>>(), [0, 1, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn a_circle_is_strongly_connected_and_a_ladder_is_not() {
        let meetings = meetings(7, &[(0, 1), (1, 2), (2, 0), (3, 4), (4, 5)]);
        assert_eq!(strongly_connected(&meetings, false), [true, false, true]);
    }

    proptest! {
        #[test]
        fn as_the_transitive_closure_says(arcs in prop::collection::vec((0u32..6, 1u32..6), 0..14)) {
            let wins: Vec<(u32, u32)> = arcs.iter().map(|(from, apart)| (*from, (from + apart) % 6)).collect();
            let mut beats = [[false; 6]; 6];
            let mut met = [[false; 6]; 6];
            for player in 0..6 {
                (beats[player][player], met[player][player]) = (true, true);
            }
            for (from, to) in &wins {
                let (from, to) = (*from as usize, *to as usize);
                (beats[from][to], met[from][to], met[to][from]) = (true, true, true);
            }
            for through in 0..6 {
                for from in 0..6 {
                    for to in 0..6 {
                        beats[from][to] |= beats[from][through] && beats[through][to];
                        met[from][to] |= met[from][through] && met[through][to];
                    }
                }
            }
            let meetings = meetings(6, &wins);
            for (from, row) in met.iter().enumerate() {
                for (to, together) in row.iter().enumerate() {
                    let same = meetings.groups().of(from as u32) == meetings.groups().of(to as u32);
                    prop_assert_eq!(same, *together);
                }
            }
            let strong = strongly_connected(&meetings, false);
            for (group, strong) in meetings.groups().iter().zip(strong) {
                let all = group.iter().all(|a| group.iter().all(|b| beats[*a][*b]));
                prop_assert_eq!(strong, all);
            }
        }
    }
}
