//! Figures with their number of measurements and an interval: win rates, shares, means, rank correlations, and how
//! well a judge agrees with an oracle.
//!
//! Figures are pure functions of measurements grouped by prompt ([`Groups`]). An interval draws prompts, not
//! single answers, since answers to one prompt resemble each other. The same measurements and the same seed give the same
//! interval on every machine. [`measure`] reads what a run measured.
//!
//! The public benchmarks from their own files: [`alpaca`] (AlpacaEval 2), [`arena`] (Arena-Hard), [`mt_bench`]. One's own
//! comparisons: [`pairwise`], [`judge`] (agreement with a reference), [`bias`]. Each has a result that serialises to JSON and
//! displays as plain lines of text. [`ask`] is what a judge is asked for them, and [`live`] turns files in which judgments
//! are missing into questions and back.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod agreement;
pub mod alpaca;
pub mod arena;
pub mod ask;
pub mod bias;
mod bootstrap;
pub mod bracketed;
mod choice;
mod error;
mod from_run;
mod groups;
pub mod judge;
pub mod live;
pub mod logistic;
mod mean;
mod models;
pub mod mt_bench;
pub mod pairwise;
mod random;
mod rank;
mod records;
mod seeds;
mod show;
mod table;
mod words;

pub use agreement::{Ties, agreement, agreement_of};
pub use bootstrap::{Bootstrap, Figure, Interval, Statistic, quantile};
pub use choice::Choice;
pub use error::EvalError;
pub use from_run::{LengthUnit, measure};
pub use groups::Groups;
pub use mean::{Spread, mean, mean_of, reaches, share_from, win_rate, wins};
pub use models::{COLUMNS, Measurements, ModelMeasurements, main_table};
pub use rank::{kendall, kendall_figure, spearman, spearman_figure, spearman_of};
pub use seeds::{mean_over_seeds, over_seeds};
pub use table::{Column, Intervals, Row, Table};
pub use words::in_words;
