//! Sampler: keeps the tokens whose logit is within n standard deviations of the largest (top-nσ, Tang et al. 2024).
//!
//! No parameter of a plan says this, so the sampler reshapes the distribution itself.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod sigma;

pub use options::TopNSigmaOptions;
pub use sigma::TopNSigma;

metareward_plugin::export!(sampler: TopNSigma);
