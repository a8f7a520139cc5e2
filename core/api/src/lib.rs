//! Records, plugin traits and engine traits: what every other crate of metareward depends on.
//!
//! The crate holds no logic worth the name. It names the things that Meta-Rewarding (Wu et al. 2024) passes from
//! one step to the next ([`record`]), the seven decisions that a researcher may replace (one module per plugin
//! kind), and the two engines that do the heavy work ([`engine`]). It depends on serde only, does no I/O and builds
//! for `wasm32`.
//!
//! Every plugin is a pure function over plain records: batch-first (one call for many items), deterministic, without
//! state between calls. What is random about a decision comes in as a number in the record.

pub mod engine;
pub mod meta_judge;
pub mod optimizer;
pub mod plugin;
pub mod ranker;
pub mod record;
pub mod rubric;
pub mod sampler;
pub mod selector;
pub mod task;

pub use engine::{
    Complete, EngineError, EpochReport, Example, Finish, Generation, GenerationDraw, GenerationRequest, Generator,
    GradientSum, Guides, LearningRateSchedule, Lora, ModelCard, Occasion, OptimizerState, Part, PreferenceData,
    PreferenceExample, Progress, SequenceLogProb, SftData, StepMetrics, TrainData, TrainJob, TrainReport,
    TrainSettings, Trainer, Watch, WeightUpdates,
};
pub use meta_judge::{MetaJudge, MetaJudgeItem, MetaJudgePromises, PositionWins, VerdictSet, Weighed, WeightScope};
pub use optimizer::{Optimizer, OptimizerPromises, PairLogProbs, PreferenceLoss};
pub use plugin::{API_VERSION, Kind, OptionError, Plugin, PluginError, PluginInfo};
pub use ranker::{Battle, BattleMatrix, Likelihood, Ranker, RankerPromises, RankingProblem, Rating, Remark};
pub use record::{
    Judgment, Match, Message, NoPair, Pair, PairKind, PairSide, Position, Prompt, PromptId, RatedResponse, Response,
    Role, Unreadable, Verdict, Winner,
};
pub use rubric::{Rubric, RubricItem, Scale};
pub use sampler::{DrawPlan, NextTokens, Sampler, SamplerItem, Sampling};
pub use selector::{Candidate, Selection, Selector, SelectorPromises};
pub use task::{Demonstration, JudgeExample, MetaExample, Task};
