//! Rubric: one score from 1 to 10 for the answer as a whole (the single-answer grading of Zheng et al. 2023).
//!
//! The wording is ours. The response cannot set its own score: only the judge's own words are parsed, and in the judge's prompt
//! the response cannot end its place ([`metareward_plugin::Template`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod rubric;

pub use options::Holistic10Options;
pub use rubric::Holistic10;

metareward_plugin::export!(rubric: Holistic10);
