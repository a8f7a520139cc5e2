//! What can be typed after `plugin` and `rate`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use metareward_api::Kind;
use metareward_host::{KINDS, Settings};

/// `metareward plugin`.
#[derive(Debug, Args)]
pub struct PluginArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// One subcommand each.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins that are built in and those that are found as files.
    List(ListArgs),
    /// Say what a plugin is, which options it takes, under which limits it runs and which laws it must obey.
    Info(InfoArgs),
    /// Hold a plugin to the laws of its kind; ends with 1 where one is broken.
    Check(CheckArgs),
    /// Write the sha256 of every plugin file that an experiment names into the experiment.
    Pin(PinArgs),
    /// Begin a plugin: a folder that builds, and that passes `check` as it is.
    New(NewArgs),
}

/// `metareward plugin list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Plugins of this kind alone.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Kind>,
    /// Look in the folders of this experiment's `[plugins]` as well.
    #[arg(long)]
    pub experiment: Option<PathBuf>,
    /// Folders to look in beside `plugins`, and the folders in them; or files.
    pub folders: Vec<PathBuf>,
}

/// How far a library is trusted.
#[derive(Clone, Debug, Default, Args)]
pub struct TrustArgs {
    /// Hash that the plugin's file must have. A dynamic library needs it, or --trust.
    #[arg(long)]
    pub sha256: Option<String>,
    /// Run a dynamic library whatever its hash is. It runs with your rights: it can do all that you can.
    #[arg(long)]
    pub trust: bool,
}

/// What a component may use.
#[derive(Clone, Debug, Args)]
pub struct LimitArgs {
    /// Instructions that a component may take in one call, roughly.
    #[arg(long, default_value_t = Settings::default().fuel, value_parser = clap::value_parser!(u64).range(1..))]
    pub fuel: u64,
    /// Memory of a component in MiB.
    #[arg(long, default_value_t = Settings::default().memory_mib, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub memory_mib: u32,
}

/// `metareward plugin info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Name of a built-in plugin, or the path of a file: `.wasm`, or `.so`, `.dylib`, `.dll`.
    pub plugin: String,
    /// The plugin's kind, where several kinds have one of the name.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Kind>,
    /// How far a library is trusted.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// What a component may use.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `metareward plugin check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Name of a built-in plugin, or the path of a file: `.wasm`, or `.so`, `.dylib`, `.dll`.
    pub plugin: String,
    /// The plugin's kind, where several kinds have one of the name.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Kind>,
    /// The plugin's options, as a JSON object.
    #[arg(long)]
    pub options: Option<String>,
    /// Cases per law.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub cases: u32,
    /// Seed of the cases: the same seed gives the same ones.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Another form of the same plugin, by name or file, that must answer alike to the bit.
    #[arg(long, value_name = "PLUGIN")]
    pub same_as: Option<String>,
    /// How far a library is trusted.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// What a component may use.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `metareward plugin pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// Folder with an `experiment.toml`, or the file itself.
    pub experiment: PathBuf,
}

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust: built in, as a component or as a library.
    Rust,
    /// Python: as a component.
    Python,
    /// JavaScript: as a component.
    Js,
}

impl Language {
    /// The folder of its templates.
    pub fn folder(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::Js => "js",
        }
    }
}

/// `metareward plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The plugin's kind.
    #[arg(long, value_parser = kind)]
    pub kind: Kind,
    /// The language to write it in.
    #[arg(long, value_enum)]
    pub language: Language,
    /// The plugin's name; by default the folder's.
    #[arg(long)]
    pub name: Option<String>,
    /// Rust: the checkout of metareward whose SDK is used; by default the one that this binary was built from, and where
    /// that is not there any more, the repository.
    #[arg(long, value_name = "CHECKOUT")]
    pub sdk: Option<PathBuf>,
    /// The folder to make.
    pub folder: PathBuf,
}

/// `metareward rate`.
#[derive(Debug, Args)]
pub struct RateArgs {
    /// CSV file with the columns `left`, `right` and `winner` (`left`, `right` or `tie`); `-` reads standard input.
    pub battles: PathBuf,
    /// Name of a built-in ranker, or the path of a file.
    #[arg(long)]
    pub ranker: String,
    /// The ranker's options, as a JSON object.
    #[arg(long)]
    pub options: Option<String>,
    /// How far a library is trusted.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// What a component may use.
    #[command(flatten)]
    pub limits: LimitArgs,
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = KINDS.map(|kind| kind.to_string());
    let named = KINDS.into_iter().zip(&known).find(|(_, name)| name.replace('-', "_") == text.replace('-', "_"));
    named.map(|(kind, _)| kind).ok_or_else(|| format!("kinds are {}", known.join(", ")))
}
