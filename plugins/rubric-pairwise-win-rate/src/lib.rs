//! Rubric: the better of two answers; the reward is the share of comparisons that an answer wins.
//!
//! The judge is shown two answers to one question and names the better one, or neither (the pairwise comparison of Zheng
//! et al. 2023). The wording is ours. No answer can end its place in the prompt ([`metareward_plugin::Template`]), and only the
//! judge's own words are parsed.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod rubric;

pub use options::PairwiseWinRateOptions;
pub use rubric::PairwiseWinRate;

metareward_plugin::export!(rubric: PairwiseWinRate);
