//! What can be typed.

mod bench;
mod eval;
mod plugin;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use metareward_api::Message;

pub use bench::{BenchArgs, BenchCommand, BenchEngineArgs, BenchPoolArgs, EngineOfPlanArgs};
pub use eval::{
    AlpacaArgs, ArenaArgs, BiasArgs, EvalArgs, EvalCommand, JudgeArgs, LiveArgs, MtBenchArgs, PairwiseArgs,
};
pub use plugin::{
    CheckArgs, InfoArgs, Language, LimitArgs, ListArgs, NewArgs, PinArgs, PluginArgs, PluginCommand, RateArgs,
    TrustArgs,
};

/// Meta-Rewarding experiments: a model answers, judges its answers, judges its judgments, and learns from both.
#[derive(Debug, Parser)]
#[command(name = "metareward", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print machine-readable JSON on standard output instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
}

/// One subcommand each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment, or go on with one that was stopped.
    Run(RunArgs),
    /// Run a grid of settings with several seeds each, sharing what they have in common, and compare them.
    Sweep(SweepArgs),
    /// Say what a run will cost before it starts: calls, tokens, memory and disk per stage, and its time on an engine.
    Plan(PlanArgs),
    /// Measure an engine for `plan`, or simulate a pool of servers.
    Bench(BenchArgs),
    /// Let a model answer a prompt.
    Generate(GenerateArgs),
    /// Log-probability of a completion, in sum and per token.
    Logprobs(LogprobsArgs),
    /// Show a preference pair token by token: prompt, chosen, rejected, end of the turn, and what is trained on.
    Tokens(TokensArgs),
    /// Make the small model that an experiment starts from, as its `seed-model.toml` says.
    SeedModel(SeedModelArgs),
    /// Print the table of a run that has finished, or of the part that is there.
    Table(TableArgs),
    /// Write a run, or several side by side, as one HTML page with figures and every text.
    Report(ReportArgs),
    /// Set runs against the first one: the table, differences with intervals, settings that differ.
    Compare(TableArgs),
    /// Write a run's records for other tools: TRL, AlpacaEval, Parquet, CSV.
    Export(ExportArgs),
    /// List plugins, look at one, hold one to the laws of its kind, pin hashes, begin a new one.
    Plugin(PluginArgs),
    /// Rate players from a CSV of comparisons with any ranker.
    Rate(RateArgs),
    /// Figures of AlpacaEval 2, Arena-Hard and MT-Bench from their files, of comparisons of your own, and of judges.
    Eval(Box<EvalArgs>),
    /// Say what was found on this machine and, for what is missing, what to do.
    Doctor,
}

/// An experiment and changes to it.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Folder with an `experiment.toml`, or the file itself.
    pub experiment: PathBuf,
    /// A TOML file over the experiment's, such as one that says which engine: `--with FOLDER/slurm/servers.toml`. May be given
    /// many times.
    #[arg(long = "with", value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Change a value: `--set train.learning_rate=1e-5`. May be given many times; the last one wins.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `metareward run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The experiment.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Folder under which run folders are made.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// The run folder itself, instead of `<runs>/<name>-<seed>`.
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Go on in a run folder that was made with other plugins (another name, version, form or hash); what depends on them
    /// is computed again.
    #[arg(long)]
    pub accept_changed_plugins: bool,
    /// Do not write the run's page, `report.html` in its folder, at the end.
    #[arg(long)]
    pub no_report: bool,
}

/// `metareward sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The experiment.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Keys with the values that they take in turn: `selector.actor.options.rho=0.0,0.4 meta_judge.pairs=true,false`. A list
    /// is one value: `train.keep=[1,2],last`. Every combination is a cell; `seed=1,5` names seeds.
    #[arg(value_name = "KEY=VALUE,VALUE")]
    pub grid: Vec<String>,
    /// Runs of every cell: the config's seed and those that follow it.
    #[arg(long, value_name = "N")]
    pub seeds: Option<u32>,
    /// Folder under which sweep folders are made.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// The sweep's folder itself, instead of `<runs>/<name>-sweep`. A further grid in the same folder takes over what it can.
    #[arg(long, short, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Only print the plan: the runs, and what they share.
    #[arg(long)]
    pub dry_run: bool,
}

/// `metareward plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The experiment.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// The engine that its time is predicted for.
    #[command(flatten)]
    pub engine: EngineOfPlanArgs,
}

/// A model and what it is asked.
#[derive(Debug, Args)]
pub struct QuestionArgs {
    /// Model folder, or a model id on the Hugging Face hub.
    #[arg(long)]
    pub model: String,
    /// What the person says.
    #[arg(long)]
    pub prompt: String,
    /// Instructions before it.
    #[arg(long)]
    pub system: Option<String>,
}

impl QuestionArgs {
    /// The conversation that the model continues.
    pub fn messages(&self) -> Vec<Message> {
        self.system.iter().map(Message::system).chain([Message::user(&self.prompt)]).collect()
    }
}

/// `metareward generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The model and what it is asked.
    #[command(flatten)]
    pub question: QuestionArgs,
    /// Take the most probable token at every step.
    #[arg(long)]
    pub greedy: bool,
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 256)]
    pub max_tokens: u32,
    /// Divides the logits.
    #[arg(long, default_value_t = 0.8, conflicts_with = "greedy")]
    pub temperature: f64,
    /// Keeps the smallest set of tokens whose probability reaches this.
    #[arg(long, default_value_t = 0.95)]
    pub top_p: f64,
    /// Keeps this many of the most probable tokens.
    #[arg(long)]
    pub top_k: Option<u32>,
    /// Keeps tokens at least this probable relative to the most probable one.
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f64,
    /// Ends the answer; may be given many times.
    #[arg(long)]
    pub stop: Vec<String>,
    /// Number of answers.
    #[arg(long, short = 'n', default_value_t = 1)]
    pub count: u32,
    /// Seed of the first answer; the following ones take the following seeds.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where and how to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `metareward logprobs`.
#[derive(Debug, Args)]
pub struct LogprobsArgs {
    /// The model and what it is asked.
    #[command(flatten)]
    pub question: QuestionArgs,
    /// What the model answers.
    #[arg(long)]
    pub completion: String,
    /// Where and how to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `metareward tokens`.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// Model folder, or a model id on the Hugging Face hub.
    #[arg(long)]
    pub model: String,
    /// JSON or JSONL with `prompt`, `chosen` and `rejected` as TRL reads them, or a shard of a run's pairs.
    #[arg(long, value_name = "FILE")]
    pub pair: PathBuf,
    /// Which pair of the file, from 1.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub record: usize,
    /// Longest sequence in tokens, as `train.max_length`; what is cut off is marked.
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
}

/// Where and how to compute.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// `auto`, `cpu`, `cuda` or `cuda:<n>`.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// `auto` (as stored), `f32` or `bf16`.
    #[arg(long, default_value = "auto")]
    pub dtype: String,
    /// Threads; 0 takes as many as there are cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// `metareward seed-model`.
#[derive(Debug, Args)]
pub struct SeedModelArgs {
    /// The experiment; its folder holds a `seed-model.toml`.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Where to write the model folder; by default `seed-model` in the experiment's folder.
    #[arg(long, short)]
    pub out: Option<PathBuf>,
}

/// `metareward report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run folders; with several, each is set against the first.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The page. Without it: `report.html` in the first run's folder.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `metareward export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The run folder.
    pub run: PathBuf,
    /// `trl`: preference pairs for DPOTrainer, with a script; `alpaca-eval`: answers to the held-out prompts per model;
    /// `parquet` and `csv`: pairs, responses, judgments, verdicts and ratings as tables.
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// The folder for the files; by default `export-<format>` in the run folder.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Only this iteration, from 1; without it all, and what was measured on held-out prompts.
    #[arg(long, value_name = "N")]
    pub iteration: Option<u32>,
}

/// Formats of `metareward export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// JSONL of TRL.
    Trl,
    /// JSON of AlpacaEval.
    AlpacaEval,
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
}

/// `metareward table`.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// The run folders.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
}
