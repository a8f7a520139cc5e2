//! Losses, gradients and rewards against TRL's own loss functions (`fixtures/make.py` of optimizer-dpo).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../optimizer-dpo/tests/fixture/mod.rs"]
mod fixture;

use optimizer_cdpo::Cdpo;

#[test]
fn agrees_with_trl() {
    fixture::agrees::<Cdpo>(include_str!("../fixtures/trl.json"), 4, |_, _| [1.0, 1.0]);
}
