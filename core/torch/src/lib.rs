//! The libtorch engine: causal language models in and out of Hugging Face folders, generation, log-probabilities and
//! training.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod chat;
pub mod config;
pub mod create;
pub mod device;
pub mod error;
pub mod generate;
pub mod group;
pub mod library;
pub mod logprobs;
pub mod marked;
pub mod model;
pub mod prompting;
pub mod rope;
pub mod save;
pub mod tokenizer;
pub mod train;
pub mod weights;

pub use chat::TemplateDate;
pub use device::{DeviceChoice, Precision};
pub use error::{Result, TorchError};
pub use group::Group;
pub use library::{Cuda, LibtorchInfo, libtorch_info};
pub use model::{CausalLm, inspect};
pub use prompting::{Completed, Prompted, Prompting};
pub use tokenizer::TextTokenizer;
