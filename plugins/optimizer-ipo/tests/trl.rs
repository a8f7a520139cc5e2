//! Losses, gradients and rewards against TRL's own loss functions (`fixtures/make.py` of optimizer-dpo).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../optimizer-dpo/tests/fixture/mod.rs"]
mod fixture;

use optimizer_ipo::Ipo;

#[test]
fn agrees_with_trl() {
    // TRL logs log ratios of sums, whatever the loss compares.
    fixture::agrees::<Ipo>(include_str!("../fixtures/trl.json"), 3, |pair, options| {
        if options["length_normalized"] == false {
            [1.0, 1.0]
        } else {
            [f64::from(pair.chosen_tokens), f64::from(pair.rejected_tokens)]
        }
    });
}
