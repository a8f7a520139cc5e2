//! Meta-judge: every two judgments in both orders, weighted against position bias (paper section 3, steps 2 to 5).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod pairwise;
mod weights;

pub use options::{Disagreement, PairwiseOptions};
pub use pairwise::Pairwise;

metareward_plugin::export!(meta_judge: Pairwise);
