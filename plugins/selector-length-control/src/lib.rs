//! Selector: shortest of the best, longest of the worst (paper section 2, step 4), and for judge pairs highest against
//! lowest with ties at random (section 3, step 7).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod tiers;

pub use metareward_plugin::Unit;
pub use options::{LengthControlOptions, Prefer, Ties};
pub use tiers::LengthControl;

metareward_plugin::export!(selector: LengthControl);
