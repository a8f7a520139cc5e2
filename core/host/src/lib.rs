//! Finds plugins by name, makes them from their options, and checks every answer before anything uses it.
//!
//! A [`Registry`] is filled once ([`Constructor`]s, one per plugin) and asked by kind and name. What it hands out is
//! always [`Checked`]: a plugin that answers nonsense is an error that names plugin, call and item. The errors of a
//! checked plugin begin with "ranker elo failed in rate: …" or "ranker elo answered wrongly in rate: …", so callers
//! add only the record.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod check;
mod constructor;
mod error;
mod registry;

pub use check::Checked;
pub use constructor::{Constructor, Form, Made};
pub use error::HostError;
pub use registry::{PluginRecord, Registry};
