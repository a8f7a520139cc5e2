//! What every plugin of a kind must obey, as properties over a trait object.
//!
//! One function per kind ([`check_ranker`], [`check_selector`] …), or [`check`] for any kind, returns a [`LawOutcome`]
//! per law. What differs between honest plugins of a kind (a ranker's likelihood, a selector's rho) is what the plugin
//! itself promises; laws about a promise that is not made are not checked, and say so. [`laws_of`] lists the laws without
//! running them.
//!
//! Some laws need more than one plugin: [`check_selector_family`] (selectors of different rho), [`check_task_readers`]
//! (a task and who reads its examples), [`check_options`] (the options that plugins are made from) and [`check_same`]
//! (two forms of one plugin).

mod all_kinds;
mod any_kind;
pub mod exact;
pub mod generators;
mod golden;
mod meta_judge;
mod optimizer;
mod options;
mod outcome;
mod place;
mod ranker;
mod rubric;
mod same;
mod sampler;
mod selector;
mod task;

pub use any_kind::{AnyPlugin, check, laws_of};
pub use golden::{Golden, golden};
pub use meta_judge::check_meta_judge;
pub use optimizer::check_optimizer;
pub use options::check_options;
pub use outcome::{Finding, LawOutcome, Plan, all_held};
pub use ranker::check_ranker;
pub use rubric::check_rubric;
pub use same::check_same;
pub use sampler::check_sampler;
pub use selector::{check_selector, check_selector_family};
pub use task::{check_task, check_task_readers};
