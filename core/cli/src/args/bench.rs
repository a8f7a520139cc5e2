//! What can be typed after `metareward bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ExperimentArgs;

/// `metareward bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// One subcommand each.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure an engine on an experiment's prompts, templates and numbers of answers; `plan --engine` reads the figures.
    Engine(BenchEngineArgs),
    /// Simulate servers from a distribution file: how busy one coordinator keeps them, and where it no longer keeps up.
    Pool(BenchPoolArgs),
}

/// `metareward bench engine`.
#[derive(Debug, Args)]
pub struct BenchEngineArgs {
    /// The experiment whose shape is measured. Its `[engine]` is the engine: in process, or servers.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Model folder, or a model id on the Hugging Face hub, in place of the experiment's.
    #[arg(long, value_name = "DIR", conflicts_with = "random_weights")]
    pub model: Option<String>,
    /// A `config.json`: measure a model of that shape with random weights. Answers are half as long as the samplers allow.
    #[arg(long, value_name = "CONFIG.json")]
    pub random_weights: Option<PathBuf>,
    /// `auto`, `cpu`, `cuda` or `cuda:<n>`, in place of the experiment's.
    #[arg(long)]
    pub device: Option<String>,
    /// Prompts of a repeat; as many as a shard holds where not given.
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub repeats: u32,
    /// Optimizer steps of a repeat; 0 measures neither training nor log-probabilities.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub steps: usize,
    /// Folder for random weights and checkpoints while it measures; the system's folder for temporary files where not given.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Write the figures to this file.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `metareward bench pool`.
#[derive(Debug, Args)]
pub struct BenchPoolArgs {
    /// How the servers behave, as TOML: `core/remote/distributions` has an example, with its form described.
    #[arg(long, value_name = "FILE")]
    pub distribution: PathBuf,
    /// Number of servers.
    #[arg(long, default_value_t = 64)]
    pub servers: usize,
    /// Requests at one server at a time.
    #[arg(long, default_value_t = 32)]
    pub places: u32,
    /// Number of requests.
    #[arg(long, default_value_t = 1_000_000)]
    pub requests: u64,
    /// Requests that share a prefix, as judgments of one response do.
    #[arg(long, default_value_t = 11)]
    pub group: u64,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Processor time, in microseconds, that sending a request and taking its answer costs the coordinator on top of deciding.
    #[arg(long, default_value_t = 42.0)]
    pub handling: f64,
    /// Then double the number of servers until they are less busy than 95 %, or this many.
    #[arg(long, value_name = "SERVERS")]
    pub limit: Option<usize>,
}

/// For what a plan's time is predicted.
#[derive(Debug, Args)]
pub struct EngineOfPlanArgs {
    /// Figures of an engine, as `metareward bench engine -o` wrote them.
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// A card, where nothing was measured: a100-40gb, a100, h100, h200, l40s, rtx4090 or b200. With figures, its memory.
    #[arg(long, value_name = "NAME")]
    pub card: Option<String>,
    /// Number of GPUs.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub gpus: u32,
    /// `in-process`, `servers` or `torchrun`; without it in process on one GPU, and under torchrun on several.
    #[arg(long, value_name = "FORM")]
    pub form: Option<String>,
    /// Price of a GPU for an hour.
    #[arg(long, value_name = "PRICE")]
    pub gpu_hour: Option<f64>,
    /// Model folder or `config.json` of the model to plan for, in place of the experiment's.
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
}
