//! libtorch engine: causal language models, generation, log-probabilities, training
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
pub mod generate;
