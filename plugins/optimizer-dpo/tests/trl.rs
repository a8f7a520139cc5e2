//! Losses, gradients and rewards against TRL's own loss functions (`fixtures/make.py` of optimizer-dpo).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fixture;

use metareward_api::{Optimizer, PairLogProbs};
use metareward_plugin::FromOptions;
use optimizer_dpo::{Dpo, DpoOptions};

#[test]
fn agrees_with_trl() {
    fixture::agrees::<Dpo>(include_str!("../fixtures/trl.json"), 4, |_, _| [1.0, 1.0]);
}

#[test]
fn starts_at_ln_2_whatever_the_length() {
    let pair = PairLogProbs {
        policy_chosen: -310.5,
        policy_rejected: -12.25,
        reference_chosen: -310.5,
        reference_rejected: -12.25,
        chosen_tokens: 80,
        rejected_tokens: 4,
        weight: 1.0,
    };
    for length_normalized in [false, true] {
        let dpo = Dpo::from_options(DpoOptions { length_normalized, ..DpoOptions::default() }).unwrap();
        assert_eq!(dpo.loss(&[pair]).unwrap().losses, [std::f64::consts::LN_2]);
    }
    let with_nll = Dpo::from_options(DpoOptions { nll_weight: 0.1, ..DpoOptions::default() }).unwrap();
    assert_eq!(with_nll.loss_at_start().unwrap(), None);
}
