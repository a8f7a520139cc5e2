//! Battles, checked and summed per pair of players.

use metareward_api::{Battle, RankingProblem};

use super::Groups;

/// What a method makes of ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// They weigh nothing: two players who only tied have not met.
    Ignored,
    /// They are part of the result.
    Counted,
}

/// All battles between two players. At least one weight is above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// Index of the player with the lower index.
    pub low: u32,
    /// Index of the other player.
    pub high: u32,
    /// Weight of the wins of `low` over `high`.
    pub low_wins: f64,
    /// Weight of the wins of `high` over `low`.
    pub high_wins: f64,
    /// Weight of the ties; 0 where they are ignored.
    pub ties: f64,
}

impl Pair {
    fn is_empty(&self) -> bool {
        self.low_wins == 0.0 && self.high_wins == 0.0 && self.ties == 0.0
    }
}

/// Weights of one pair: wins of the lower index, wins of the higher, ties.
type Cell = [f64; 3];

/// The battles of one problem, summed per pair of players. Reading a problem reuses the room of the one before.
#[derive(Clone, Debug, Default)]
pub struct Meetings {
    players: usize,
    pairs: Vec<Pair>,
    groups: Groups,
    cells: Vec<Cell>,
}

impl Meetings {
    /// The meetings of one problem.
    ///
    /// # Errors
    /// As [`Meetings::read`].
    pub fn of(problem: &RankingProblem, ties: Ties) -> Result<Self, String> {
        let mut meetings = Self::default();
        meetings.read(problem, ties)?;
        Ok(meetings)
    }

    /// Reads another problem.
    ///
    /// # Errors
    /// When a battle names a player that is not there, one player twice, or a weight that is negative or not finite, and
    /// when the sum of all weights is not finite.
    pub fn read(&mut self, problem: &RankingProblem, ties: Ties) -> Result<(), String> {
        self.players = problem.players as usize;
        self.pairs.clear();
        let tie_weight = if ties == Ties::Counted { 1.0 } else { 0.0 };
        // A cell for every pair where that is not much more than there are battles; else the battles are sorted.
        let cells = self.players.saturating_mul(self.players.saturating_sub(1)) / 2;
        if cells <= 4096 + 4 * problem.battles.len() {
            self.sum_in_cells(problem, tie_weight, cells)?;
        } else {
            self.sum_sorted(problem, tie_weight)?;
        }
        let mut total = 0.0;
        for pair in &self.pairs {
            total += pair.low_wins + pair.high_wins + pair.ties;
        }
        if !f64::is_finite(total) {
            return Err("the weights are too large to be added up".to_owned());
        }
        self.groups.read(self.players, &self.pairs);
        Ok(())
    }

    /// Number of players.
    pub fn players(&self) -> usize {
        self.players
    }

    /// Every pair that met, ordered by its higher index, then by its lower one.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Players joined by meetings, whoever won.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    fn sum_in_cells(&mut self, problem: &RankingProblem, tie_weight: f64, cells: usize) -> Result<(), String> {
        self.cells.clear();
        self.cells.resize(cells, [0.0; 3]);
        for (index, battle) in problem.battles.iter().enumerate() {
            if !is_well_formed(battle, problem.players) {
                return Err(complaint(index, battle, problem.players));
            }
            let pair = Pair::from(*battle);
            let cell = pair.high as usize * (pair.high as usize - 1) / 2 + pair.low as usize;
            if let Some(cell) = self.cells.get_mut(cell) {
                cell[0] += pair.low_wins;
                cell[1] += pair.high_wins;
                cell[2] += tie_weight * pair.ties;
            }
        }
        let mut cells = self.cells.iter();
        for high in 0..problem.players {
            for (low, [low_wins, high_wins, ties]) in (0..high).zip(&mut cells) {
                let pair = Pair { low, high, low_wins: *low_wins, high_wins: *high_wins, ties: *ties };
                if !pair.is_empty() {
                    self.pairs.push(pair);
                }
            }
        }
        Ok(())
    }

    fn sum_sorted(&mut self, problem: &RankingProblem, tie_weight: f64) -> Result<(), String> {
        for (index, battle) in problem.battles.iter().enumerate() {
            if !is_well_formed(battle, problem.players) {
                return Err(complaint(index, battle, problem.players));
            }
            let pair = Pair::from(*battle);
            self.pairs.push(Pair { ties: tie_weight * pair.ties, ..pair });
        }
        // Stable, so that a pair's weights are added in the order of its battles, as in the cells.
        self.pairs.sort_by_key(|pair| (pair.high, pair.low));
        self.pairs.dedup_by(|next, sum| {
            let same = (next.low, next.high) == (sum.low, sum.high);
            if same {
                sum.low_wins += next.low_wins;
                sum.high_wins += next.high_wins;
                sum.ties += next.ties;
            }
            same
        });
        self.pairs.retain(|pair| !pair.is_empty());
        Ok(())
    }
}

impl From<Battle> for Pair {
    fn from(battle: Battle) -> Self {
        let Battle { left, right, left_wins, right_wins, ties } = battle;
        // Selections, not a branch: which side has the lower index is a coin toss.
        let swap = left > right;
        Self {
            low: left.min(right),
            high: left.max(right),
            low_wins: if swap { right_wins } else { left_wins },
            high_wins: if swap { left_wins } else { right_wins },
            ties,
        }
    }
}

/// Two players who are there and differ, and three weights that are finite and not negative.
fn is_well_formed(battle: &Battle, players: u32) -> bool {
    let Battle { left, right, left_wins, right_wins, ties } = *battle;
    let weight = |weight: f64| (0.0..=f64::MAX).contains(&weight);
    // Without short cuts: a million battles are checked faster so.
    (left < players) & (right < players) & (left != right) & weight(left_wins) & weight(right_wins) & weight(ties)
}

/// What is wrong with a battle that is not well formed.
fn complaint(index: usize, battle: &Battle, players: u32) -> String {
    let Battle { left, right, left_wins, right_wins, ties } = *battle;
    if left.max(right) >= players {
        return format!("battle {index} is between players {left} and {right} of {players}");
    }
    if left == right {
        return format!("battle {index} is between player {left} and itself");
    }
    let bad = [("left_wins", left_wins), ("right_wins", right_wins), ("ties", ties)]
        .into_iter()
        .find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0));
    let (name, weight) = bad.unwrap_or(("ties", ties));
    format!("battle {index} has {name} = {weight}; expected a number from 0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn battle() -> impl Strategy<Value = Battle> {
        let weight = || prop::sample::select(vec![0.0, 1.0, 0.5, 3.25]);
        (0u32..5, 1u32..5, weight(), weight(), weight()).prop_map(|(left, apart, left_wins, right_wins, ties)| Battle {
            left,
            right: (left + apart) % 5,
            left_wins,
            right_wins,
            ties,
        })
    }

    proptest! {
        #[test]
        fn cells_and_sorting_agree(battles in prop::collection::vec(battle(), 0..30), counted: bool) {
            let problem = RankingProblem { players: 5, battles };
            let tie_weight = f64::from(u8::from(counted));
            let (mut cells, mut sorted) = (Meetings::default(), Meetings::default());
            cells.sum_in_cells(&problem, tie_weight, 10).unwrap();
            sorted.sum_sorted(&problem, tie_weight).unwrap();
            prop_assert_eq!(&cells.pairs, &sorted.pairs);
            let total: f64 = cells.pairs.iter().map(|pair| pair.low_wins + pair.high_wins + pair.ties).sum();
            let expected: f64 =
                problem.battles.iter().map(|b| b.left_wins + b.right_wins + tie_weight * b.ties).sum();
            prop_assert_eq!(total, expected);
        }
    }

    #[test]
    fn sides_are_kept_apart() {
        let battles = vec![
            Battle { left: 2, right: 0, left_wins: 3.0, right_wins: 1.0, ties: 0.5 },
            Battle { left: 0, right: 2, left_wins: 10.0, right_wins: 0.0, ties: 0.0 },
            Battle { left: 1, right: 3, left_wins: 0.0, right_wins: 0.0, ties: 2.0 },
        ];
        let problem = RankingProblem { players: 4, battles };
        let counted = Meetings::of(&problem, Ties::Counted).unwrap();
        let (first, second) = (
            Pair { low: 0, high: 2, low_wins: 11.0, high_wins: 3.0, ties: 0.5 },
            Pair { low: 1, high: 3, low_wins: 0.0, high_wins: 0.0, ties: 2.0 },
        );
        assert_eq!(counted.pairs(), [first, second]);
        let ignored = Meetings::of(&problem, Ties::Ignored).unwrap();
        assert_eq!(ignored.pairs(), [Pair { ties: 0.0, ..first }]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Battle { left: 0, right: 1, left_wins: 1.0, right_wins: 0.0, ties: 0.0 };
        for (bad, message) in [
            (Battle { right: 2, ..good }, "battle 1 is between players 0 and 2 of 2"),
            (Battle { right: 0, ..good }, "battle 1 is between player 0 and itself"),
            (Battle { ties: -1.0, ..good }, "battle 1 has ties = -1; expected a number from 0"),
            (Battle { left_wins: f64::NAN, ..good }, "battle 1 has left_wins = NaN; expected a number from 0"),
            (Battle { left_wins: f64::MAX, ..good }, "the weights are too large to be added up"),
        ] {
            let problem = RankingProblem { players: 2, battles: vec![Battle { left_wins: f64::MAX, ..good }, bad] };
            assert_eq!(Meetings::of(&problem, Ties::Ignored).unwrap_err(), message);
        }
    }
}
