//! Task: small list puzzles with an exact oracle.
//!
//! A prompt asks for something checkable to be done with a short list of words: `sort then first three : owl red key
//! cake`. The demonstrations, judge examples and verdicts are imperfect on purpose: a model that learns from them
//! answers half of the prompts perfectly, judges with noise, and favours length. The oracle knows better and is used
//! for measuring only. Everything is small enough for a model of a million parameters on two cores.
//!
//! Every draw is by counting ([`TinyWorld`] holds no state), so lists are the same everywhere and a longer list
//! begins with the shorter one.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod draws;
mod judgment;
mod mistake;
mod operation;
mod options;
mod oracle;
mod puzzle;
mod world;

pub use operation::OperationName;
pub use options::{Category, TinyWorldOptions};
pub use world::TinyWorld;

metareward_plugin::export!(task: TinyWorld);
