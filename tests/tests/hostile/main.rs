//! Plugins that are broken or mean harm: each ends in an error that names plugin and call, and nothing else ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod captured;
mod cases;
mod files;
mod runs;
#[path = "../../../core/runtime/tests/scripted/mod.rs"]
mod scripted;
mod table;
