//! Who met whom: groups without battles between them, and players who never lost or never won.

use metareward_api::BattleMatrix;

/// The battles of one matrix as a graph.
pub(crate) struct Graph<'a> {
    battles: &'a BattleMatrix,
    groups: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    /// Finds the groups: players joined by battles, whoever won.
    pub(crate) fn of(battles: &'a BattleMatrix) -> Self {
        let mut seen = vec![false; battles.players];
        let mut groups = Vec::new();
        for start in 0..battles.players {
            if !seen.get(start).copied().unwrap_or(true) {
                let met = |a: usize, b: usize| battles.get(a, b) > 0.0 || battles.get(b, a) > 0.0;
                let mut group = reach(start, battles.players, met);
                group.sort_unstable();
                for player in &group {
                    if let Some(mark) = seen.get_mut(*player) {
                        *mark = true;
                    }
                }
                groups.push(group);
            }
        }
        Self { battles, groups }
    }

    /// The groups, each sorted.
    pub(crate) fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// Whether nobody met anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.len() < 2)
    }

    /// Whether everyone in the group has beaten everyone else, directly or through others: then, and only then, the
    /// likelihood has a finite maximum (Ford 1957).
    pub(crate) fn strongly_connected(&self, group: &[usize]) -> bool {
        let Some(start) = group.first() else { return true };
        let players = self.battles.players;
        reach(*start, players, |a, b| self.battles.get(a, b) > 0.0).len() == group.len()
            && reach(*start, players, |a, b| self.battles.get(b, a) > 0.0).len() == group.len()
    }

    /// Players with wins and without losses.
    pub(crate) fn undefeated(&self) -> Vec<u32> {
        self.one_sided(|player, other| self.battles.get(player, other), |player, other| self.battles.get(other, player))
    }

    /// Players with losses and without wins.
    pub(crate) fn winless(&self) -> Vec<u32> {
        self.one_sided(|player, other| self.battles.get(other, player), |player, other| self.battles.get(player, other))
    }

    fn one_sided(&self, some: impl Fn(usize, usize) -> f64, none: impl Fn(usize, usize) -> f64) -> Vec<u32> {
        let players = self.battles.players;
        (0..players)
            .filter(|player| (0..players).any(|other| some(*player, other) > 0.0))
            .filter(|player| (0..players).all(|other| none(*player, other) == 0.0))
            .map(index)
            .collect()
    }
}

/// An index as records hold it.
pub(crate) fn index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Everyone who can be reached from `start`, `start` included.
fn reach(start: usize, players: usize, edge: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut unseen: Vec<usize> = (0..players).filter(|player| *player != start).collect();
    let mut reached = vec![start];
    let mut next = 0;
    while let Some(from) = reached.get(next).copied() {
        unseen.retain(|to| {
            let met = edge(from, *to);
            if met {
                reached.push(*to);
            }
            !met
        });
        next += 1;
    }
    reached
}
