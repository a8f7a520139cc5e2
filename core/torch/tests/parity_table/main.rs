//! What this engine computes beside what transformers, TRL and jinja2 compute, in one table:
//!
//! ```sh
//! cargo test -p metareward-torch --test parity_table everything -- --nocapture
//! ```
//!
//! `fixtures/parity/*.py`, `fixtures/make.py` and `fixtures/make_train.py` made the expected values; their heads name the versions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chats;
mod generation;
mod logits;
mod models;
mod row;
mod sampling;
mod saved;
mod training;

use row::Row;

#[test]
fn everything_is_within_its_limit() {
    // The models are tiny: libtorch's threads would only wait for each other.
    tch::set_num_threads(1);
    let models = models::all();
    let mut rows = Vec::new();
    rows.extend(logits::rows(&models));
    rows.extend(generation::rows(&models));
    rows.extend(sampling::rows());
    rows.extend(chats::rows());
    rows.extend(training::rows(&models));
    rows.extend(saved::rows(&models));
    println!("\n{}", row::table(&rows));
    let wrong: Vec<&Row> = rows.iter().filter(|row| !row.holds()).collect();
    assert!(wrong.is_empty(), "{} of {} rows are over their limit:\n{wrong:#?}", wrong.len(), rows.len());
}
