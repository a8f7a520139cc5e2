//! Figures with their number of measurements and an interval: win rates, shares, means, rank correlations, and how
//! well a judge agrees with an oracle.
//!
//! Figures are pure functions of measurements grouped by prompt ([`Groups`]). An interval draws prompts, not
//! single answers, since answers to one prompt resemble each other. The same measurements and the same seed give the same
//! interval on every machine. [`measure`] alone reads files: what a run measured.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod agreement;
pub mod alpaca;
pub mod arena;
mod bootstrap;
pub mod bracketed;
mod error;
mod from_run;
mod groups;
pub mod logistic;
mod mean;
mod models;
mod random;
mod rank;
mod records;
mod show;
mod table;
mod words;

pub use agreement::{Ties, agreement, agreement_of};
pub use bootstrap::{Bootstrap, Figure, Interval, Statistic, quantile};
pub use error::EvalError;
pub use from_run::{LengthUnit, measure};
pub use groups::Groups;
pub use mean::{Spread, mean, mean_of, reaches, share_from, win_rate, wins};
pub use models::{COLUMNS, Measurements, ModelMeasurements, main_table};
pub use rank::{kendall, kendall_figure, spearman, spearman_figure, spearman_of};
pub use table::{Column, Row, Table};
pub use words::in_words;
