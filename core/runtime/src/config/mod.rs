//! The config of an experiment: keys and defaults ([`Config`]), layers, checks, and plugin options per iteration.

mod check;
mod layers;
mod options;
mod plugins;
mod schedule;
mod sections;
mod servers;

pub use layers::{Layers, Loaded};
pub(crate) use options::Chosen;
pub use options::PluginUse;
pub use plugins::{PluginSection, PluginsSection};
pub use schedule::Schedule;
pub use sections::{
    ActorSection, Checkpoints, Config, EngineSection, EvaluationSection, GroupTraining, JudgeSection, Keep,
    MetaJudgeSection, ModelSection, ModelShape, PairsSection, PromptsSection, Reference, SamplerSection,
    SelectorSection, SftSection, StoreSection, TrainSection,
};

pub use servers::{AskingSection, RolesSection, ServersSection};

impl Config {
    /// Value of a schedule in an iteration. Lengths are checked when a config is loaded, so there always is one.
    pub(crate) fn at<'a, T>(&self, schedule: &'a Schedule<T>, iteration: u32) -> Result<&'a T, crate::RunError> {
        schedule
            .at(iteration)
            .ok_or_else(|| crate::RunError::Bug(format!("a schedule has no value for iteration {iteration}")))
    }
}
