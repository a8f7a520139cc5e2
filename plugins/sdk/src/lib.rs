//! What a plugin author needs: options from JSON ([`Options`], [`FromOptions`]), prompt templates into which foreign
//! text can be put safely ([`Template`]), and closing lines read from a model's answer ([`ClosingLine`]).
//!
//! A plugin is a type that implements one of the traits of `metareward-api` and [`FromOptions`]. The host makes it
//! from the JSON object that a config gives. [`export!`] makes the crate a WASM component and a dynamic library as well.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod bindings;
pub mod calls;
pub mod candidate;
pub mod closing;
pub mod component;
pub mod draw;
mod export;
pub mod library;
pub mod log;
pub mod options;
pub mod preference;
pub mod ranking;
pub mod score;
pub mod template;
pub mod winner;
pub mod wire;

pub use candidate::{Unit, score_range};
pub use closing::{ClosingError, ClosingLine, Hit, Token};
pub use draw::check_sampling;
pub use metareward_api as api;
#[cfg(feature = "laws")]
pub use metareward_laws as laws;
pub use options::{FromOptions, Options, default_options, nearest, read_options, resolve_options, schema};
pub use score::{Aggregate, Conflict, read_score};
pub use template::{Guard, Template, TemplateError};
pub use winner::{check_labels, read_winner};
