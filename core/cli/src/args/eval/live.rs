//! What can be typed about a judge that is asked now.

use std::path::PathBuf;

use clap::Args;

use crate::args::DeviceArgs;

/// A judge that is asked for what the files lack.
#[derive(Debug, Args)]
#[command(next_help_heading = "A judge that is asked now")]
pub struct LiveArgs {
    /// The judge: `openai:URL` for any server with OpenAI's interface, `vllm:URL`, `sglang:URL` or `llama-cpp:URL`, or a
    /// model folder, which runs here. Given many times, servers of one model share the work.
    #[arg(long, value_name = "JUDGE")]
    pub judge: Vec<String>,
    /// The judge's name in tables and records; by default its model's.
    #[arg(long, value_name = "NAME")]
    pub judge_name: Option<String>,
    /// The model that servers are asked for; by default the only one that they have.
    #[arg(long, value_name = "MODEL", requires = "judge")]
    pub judge_model: Option<String>,
    /// The name under which that model answers, where it is another one, as a path is.
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub judge_answers_as: Option<String>,
    /// The environment variable with the servers' key. No common one is taken unasked: it would be sent to whatever URL
    /// was typed.
    #[arg(long, value_name = "VARIABLE", default_value = "METAREWARD_JUDGE_KEY")]
    pub judge_key_variable: String,
    /// A file with the servers' key, instead of the variable.
    #[arg(long, value_name = "FILE", requires = "judge")]
    pub judge_key_file: Option<PathBuf>,
    /// Longest judgment in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub judge_max_tokens: u32,
    /// Divides the judge's logits; 0 takes the most probable token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub judge_temperature: f64,
    /// Seed of the judge's draws. Servers keep to it as far as they can.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub judge_seed: u64,
    /// Keep answers in this folder, and ask for none that is there: what was stopped goes on, and a table is computed again
    /// without a call.
    #[arg(long, value_name = "DIR", requires = "judge")]
    pub cache: Option<PathBuf>,
    /// Write the records with the judge's words, in the form that this command and the public tools read.
    #[arg(long, short, value_name = "FILE", requires = "judge")]
    pub output: Option<PathBuf>,
    /// Requests at a server at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrency: u32,
    /// Most requests per minute to a server.
    #[arg(long, value_name = "N", requires = "judge")]
    pub requests_per_minute: Option<u32>,
    /// Most tokens per minute of a server.
    #[arg(long, value_name = "N", requires = "judge")]
    pub tokens_per_minute: Option<u32>,
    /// How often a request is sent again.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub retries: u32,
    /// Seconds until an answer must be there.
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    pub timeout: f64,
    /// Seconds for which all servers may be away or busy before the rest is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    pub patience: f64,
    /// Where a model folder is computed.
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl LiveArgs {
    /// Whether a judge is to be asked.
    pub fn is_asked(&self) -> bool {
        !self.judge.is_empty()
    }

    /// The judge's name in tables where none was asked.
    pub fn name(&self) -> String {
        self.judge_name.clone().unwrap_or_else(|| "judge".to_owned())
    }
}
