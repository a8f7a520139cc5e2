//! Selector: chosen from a score upwards, rejected from a score downwards, a least gap between them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod threshold;

pub use options::{Prefer, ThresholdOptions};
pub use threshold::Threshold;

metareward_plugin::export!(selector: Threshold);
