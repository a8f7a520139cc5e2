//! Makes a fresh machine ready: finds libtorch 2.11 or fetches it, adds the wasm targets, and installs the tools
//! that plugins in other languages are tested with.
//!
//! The binary runs behind three cargo aliases (`.cargo/config.toml`): `cargo setup`, `cargo quickstart`, `cargo selftest`.
//! The library is what `metareward doctor` looks at the machine with. Nothing but the standard library is used, so that
//! the first command on a fresh machine starts in seconds.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
pub mod guests;
mod layout;
mod linker;
mod locate;
mod machine;
mod prepare;
pub mod references;
mod report;
pub mod steps;
mod version;
mod wheels;

pub use error::Error;
pub use layout::Layout;
pub use locate::{Found, Libtorch, Origin, Rejected, examine, locate, pythons};
pub use machine::{
    Environment, OLDEST_GLIBC, WASM_TARGETS, free_disk, gibibytes, glibc, system, threads, wasm_targets,
};
pub use prepare::{Wishes, add_wasm_targets, prepare};
pub use report::{Report, probe};
pub use version::{Version, WANTED};
pub use wheels::cuda_requirements;
