//! One file per subcommand.

pub mod bench;
pub mod compare;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod generate;
pub mod logprobs;
pub mod plan;
pub mod plugin;
pub mod rate;
pub mod report;
pub mod run;
pub mod seed_model;
pub mod sweep;
pub mod table;
pub mod tokens;
