//! Rubric: five points added up, read from the closing line of the judgment (paper section 2, steps 2 and 3).
//!
//! The response cannot set its own score: only the judge's own words are parsed, and in the judge's prompt the response
//! cannot end its place ([`metareward_plugin::Template`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod options;
mod rubric;

pub use metareward_plugin::{Aggregate, Conflict};
pub use options::AdditiveOptions;
pub use rubric::Additive;

metareward_plugin::export!(rubric: Additive);
