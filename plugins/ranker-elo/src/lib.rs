//! Ranker: Elo ratings by maximum likelihood (paper section 3, step 6), that is, Bradley–Terry on the Elo scale.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cholesky;
mod elo;
mod graph;
mod newton;

pub use elo::{Elo, EloOptions};
