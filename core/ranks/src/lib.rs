//! A group of processes behind one [`Generator`](metareward_api::Generator) and one
//! [`Trainer`](metareward_api::Trainer).
//!
//! The loop runs on rank 0 alone and knows nothing of the others. Its engines are those of a [`Leader`]: every call goes
//! out as a command, every rank computes its share with engines of its own, and the answers come back to rank 0. The other
//! ranks [`follow`] until they are told that it is over.
//!
//! How the processes reach each other is an [`Exchange`]: bytes from rank 0 to all, bytes from all to rank 0. This crate
//! knows neither libtorch nor the network, so what it does is tested with threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod agree;
mod error;
mod exchange;
mod follower;
mod leader;
mod message;
mod rounds;
mod share;
#[cfg(test)]
mod tests;

pub use agree::{Hello, Met, agree};
pub use error::RanksError;
pub use exchange::Exchange;
pub use follower::{Plugins, follow};
pub use leader::{Leader, LeadingGenerator, LeadingTrainer, Training};
pub use share::{Piece, share_examples, share_requests};
