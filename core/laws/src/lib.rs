//! What every plugin of a kind must obey, as properties over a trait object.
//!
//! One function per kind ([`check_ranker`], [`check_selector`] …) returns a [`LawOutcome`] per law. What differs between
//! honest plugins of a kind (a ranker's likelihood, a selector's rho) is passed in as a promise; laws about a promise
//! that is not made are not checked, and say so.

pub mod generators;
mod meta_judge;
mod optimizer;
mod outcome;
mod place;
mod ranker;
mod rubric;
mod sampler;
mod selector;
mod task;

pub use meta_judge::{MetaJudgePromises, check_meta_judge};
pub use optimizer::{OptimizerPromises, check_optimizer};
pub use outcome::{Finding, LawOutcome, Plan, all_held};
pub use ranker::{Likelihood, RankerPromises, check_ranker};
pub use rubric::check_rubric;
pub use sampler::check_sampler;
pub use selector::{SelectorPromises, check_selector, check_selector_family};
pub use task::{PerfectAnswer, TaskPromises, check_task};
