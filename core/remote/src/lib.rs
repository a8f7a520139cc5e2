//! A client and a pool of OpenAI-compatible servers (vLLM, SGLang, llama.cpp, `transformers serve`, hosted ones).
//!
//! A [`Request`] is a conversation, a text or tokens with the [`Parameters`] of its answer. A [`Pool`] sends any number of
//! them to one or many servers: bounded in flight, within limits per minute, with retries, and each request ends as exactly
//! one [`Answer`] or one [`Failure`]. What is sent where and when is decided by a [`Schedule`], which knows neither clock nor
//! network; [`simulate`] drives it with simulated servers. A [`Cache`] keeps answers on disk, so that nothing is asked
//! twice. [`RemoteGenerator`] is a pool as the engine of a run.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod affinity;
mod answer;
mod cache;
mod card;
mod client;
mod closing;
mod endpoint;
mod error;
mod fault;
mod folder;
mod generator;
mod key;
mod pace;
mod pool;
mod process;
mod request;
mod retry;
mod schedule;
mod servers;
pub mod simulate;
mod trainer;
mod weights;

pub use answer::{Answer, Completion, TokenLogProb, Usage};
pub use cache::Cache;
pub use card::read_card;
pub use client::{Client, Served, Timeouts};
pub use closing::Until;
pub use endpoint::{Address, Dialect, Endpoint};
pub use error::RemoteError;
pub use fault::{Blame, Failure, Fault, FaultKind};
pub use generator::{ReadPrompt, RemoteGenerator};
pub use key::Key;
pub use pace::Pace;
pub use pool::{Counts, Pool, PoolOptions, only_model};
pub use process::{kill_all, misspelt};
pub use request::{Fingerprint, Parameters, Prompt, Request};
pub use retry::Backoff;
pub use schedule::{After, Schedule, ScheduleOptions, Step};
pub use servers::{Change, Identify, Proof, Reload, ServedRecord, ServerRecord, Servers, ServersOptions};
pub use trainer::{CommandTrainer, TRAINER_WORDS, TrainCommand, TrainCommands};
pub use weights::{Measure, Measured, Said};
