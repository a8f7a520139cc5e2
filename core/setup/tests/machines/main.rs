//! Set-up on machines made of files: where it looks, what it makes, and what a kill leaves behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod fetching;
mod guests;
mod machine;
mod search;
