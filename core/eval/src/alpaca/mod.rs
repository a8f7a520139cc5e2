//! AlpacaEval 2 from annotation files: win rate, standard error, draws, lengths, and the length-controlled win rate
//! (Dubois et al. 2023 and 2024), equal to the public leaderboard's.

mod annotations;
mod length_control;
mod report;
mod tables;

pub use annotations::{Allow, Annotation, Annotations};
pub use length_control::{
    ANCHOR_WEIGHT, Comparison, FitOptions, LengthControlled, Method, Regularization, fit_annotations, fit_comparisons,
    predict,
};
pub(crate) use report::one_sided;
pub use report::{AlpacaReport, WinRate, win_rate};
pub use tables::{Anchor, Anchors, Difficulties, GlmWeights, Leaderboard, LeaderboardRow, WeightTable};
