//! Arena-Hard (Li et al. 2024) from judgment files: every answer against an anchor's, in both orders, with five labels
//! from `A>>B` to `B>>A`; strong wins weigh three times; the score is the chance of winning against the anchor.

mod answers;
mod judgments;
mod score;

pub use answers::Answers;
pub use judgments::{Game, Judgment, Judgments, Label, read_label};
pub use score::{ArenaOptions, ArenaReport, ArenaRow, Draws, Statistic, score};
