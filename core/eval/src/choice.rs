//! Which of two answers is preferred.

use serde::{Deserialize, Serialize};

/// A preference between two answers, by the place in which they are shown or listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The first one.
    First,
    /// The second one.
    Second,
    /// Neither.
    Tie,
}

impl Choice {
    /// The answer with the higher score, a tie when they are equal. `None` with a score that is not a number.
    pub fn by_score(first: f64, second: f64) -> Option<Choice> {
        first.partial_cmp(&second).map(|order| match order {
            std::cmp::Ordering::Greater => Choice::First,
            std::cmp::Ordering::Less => Choice::Second,
            std::cmp::Ordering::Equal => Choice::Tie,
        })
    }

    /// The same preference with the answers in the other order.
    pub fn turned(self) -> Choice {
        match self {
            Choice::First => Choice::Second,
            Choice::Second => Choice::First,
            Choice::Tie => Choice::Tie,
        }
    }

    /// What the first answer gets: 1 for a win, half for a tie, 0 for a loss.
    pub fn points(self) -> f64 {
        match self {
            Choice::First => 1.0,
            Choice::Second => 0.0,
            Choice::Tie => 0.5,
        }
    }

    /// Whether one answer is preferred.
    pub fn is_decided(self) -> bool {
        self != Choice::Tie
    }
}
