//! Finds plugins, verifies and loads them, makes them from their options, and checks every answer before anything uses
//! it.
//!
//! A [`Registry`] is filled once with what is linked in ([`Constructor`]s, one per plugin) and asked by kind and
//! [`Source`]: the name of a built-in plugin, or the path of a WASM component or a dynamic library. What it hands out is
//! always [`Checked`]: a plugin that answers nonsense is an error that names plugin, call and item. The errors of a
//! checked plugin begin with "ranker elo failed in rate: …" or "ranker elo answered wrongly in rate: …", so callers
//! add only the record.
//!
//! Components run in a sandbox: no files, no network, no environment, limits on instructions and memory, the same random
//! numbers in every run and a clock that stands still. Libraries run with the user's rights, so a config must give their
//! hash, and the bytes that were hashed are the bytes that are loaded.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[doc(hidden)]
pub mod bindings;
mod check;
mod component;
mod constructor;
mod description;
mod elf;
mod error;
mod file;
mod files;
mod library;
mod log;
mod options;
mod outside;
mod parallel;
mod registry;
mod settings;
mod source;
mod version;
mod words;

pub use check::Checked;
pub use constructor::{Constructor, Form, Made};
pub use error::{HostError, LoadError};
pub use file::hash_file;
pub use files::{FoundFile, look_at};
pub use registry::{PluginCard, PluginRecord, Registry};
pub use settings::Settings;
pub use source::{Meaning, Source};
pub use version::{KINDS, spoken};
