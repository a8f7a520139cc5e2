//! The Meta-Rewarding loop (Wu et al. 2024): config, stages, run store, seeds, resume, events.
//!
//! [`Experiment::open`] reads a config and makes its plugins, [`Experiment::plan`] says what a run will cost, and
//! [`Experiment::run`] runs it or goes on with it. The loop itself is one function, `iterate`, and reads like sections
//! 2 and 3 of the paper. It works on `dyn Generator` and `dyn Trainer` and never sees a tensor.
//!
//! What a run leaves on disk is read with [`RunReader`]. Nothing in a stage's records depends on time, order or a
//! resume: an interrupted run ends with the same bytes as an uninterrupted one.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batches;
mod card;
mod changes;
pub mod config;
mod error;
mod events;
mod files_task;
mod fingerprint;
mod guide;
mod iterate;
mod lines;
pub mod plan;
mod plugins;
mod run;
pub mod sample;
mod seeds;
mod stages;
mod statistics;
mod store;
mod sweep;
mod tensorboard;

pub use changes::{AcceptedChange, PluginChange, PluginIdentity};
pub use config::{
    ActorSection, AskingSection, Checkpoints, Config, EngineSection, EvaluationSection, GroupTraining, JudgeSection,
    Keep, Layers, Loaded, MetaJudgeSection, ModelSection, ModelShape, PairsSection, PluginSection, PluginUse,
    PluginsSection, PromptsSection, Reference, RolesSection, SamplerSection, Schedule, SelectorSection, ServersSection,
    SftSection, StoreSection, TrainSection,
};
pub use error::RunError;
pub use events::{Event, Observer, Unobserved};
pub use fingerprint::{Fingerprint, model_fingerprint};
pub use guide::Guide;
pub use plan::{Plan, PlanRequest, StageCost};
pub use run::{Engines, Experiment, RunOutcome, RunRecord, RunRequest};
pub use seeds::{Purpose, Seeds, shuffled};
pub use stages::{evaluate::Points, examples::ExampleCounts, pairs::Unpaired, reference::ReferenceLogProbs};
pub use statistics::{
    EpochStatistics, JudgmentStatistics, Mean, PairStatistics, PairSummary, PointStatistics, RatingStatistics,
    ResponseStatistics, ScoreCount, Share, Statistics, TrainingStatistics, VerdictStatistics,
};
pub use store::{Disk, Fault, Model, ModelNote, Operation, Place, Records, RunReader, ShardRecord, Stage, StageRecord};
pub use sweep::{
    Axis, Cell, CellRecord, Ended, Grid, PlannedRun, State as RunState, Sweep, SweepFolder, SweepPlan, SweepRecord,
    SweepRun, Work,
};
