//! What can go wrong in a run, one variant per kind, each with the place and what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use metareward_api::{EngineError, Kind, PluginError};

use crate::{Place, PluginChange, Stage};

/// Why a config, a plan or a run failed. Messages are lowercase fragments that fit "failed to …: {}".
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// A config file is not TOML, or cannot be read.
    #[error("{place}: {message}")]
    ConfigSyntax {
        /// The file, variable or `--set`.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A key that no one knows.
    #[error("{place}: unknown key `{key}`{}", hint(suggestion.as_deref()))]
    UnknownKey {
        /// The file, variable or `--set`.
        place: String,
        /// The key, with its section.
        key: String,
        /// The known key that looks most like it.
        suggestion: Option<String>,
    },
    /// A value of the wrong type or out of its range.
    #[error("{place}: `{key}` is {found}, but must be {expected}")]
    BadValue {
        /// The file, variable or `--set`.
        place: String,
        /// The key, with its section.
        key: String,
        /// What was found.
        found: String,
        /// What was expected, with what to write.
        expected: String,
    },
    /// A schedule whose list does not have one value per iteration.
    #[error(
        "{place}: `{key}` lists {length} values for {iterations} iterations; write one value for all, or a list of \
         {iterations}"
    )]
    ScheduleLength {
        /// The file, variable or `--set`.
        place: String,
        /// The key, with its section.
        key: String,
        /// Number of values in the list.
        length: usize,
        /// Number of iterations.
        iterations: u32,
    },
    /// A plugin that is not there or does not take its options.
    #[error("{place}: `{key}`: {message}")]
    PluginConfig {
        /// The file, variable or `--set`.
        place: String,
        /// The section.
        key: String,
        /// What the plugin host said.
        message: String,
    },
    /// A plugin failed or answered nonsense.
    #[error("{}{message}", at(record.as_deref()))]
    Plugin {
        /// The plugin's kind.
        kind: Kind,
        /// Its name.
        plugin: String,
        /// The record that it failed on, if it was one.
        record: Option<String>,
        /// What is wrong; names plugin and call.
        message: String,
    },
    /// A run folder was made with other plugins than are at hand now.
    #[error(
        "run folder {} was made with other plugins: {}; go on in it with --accept-changed-plugins, which computes again \
         what depends on them, or choose another folder", folder.display(), list(changes)
    )]
    ChangedPlugins {
        /// The run folder.
        folder: PathBuf,
        /// What differs.
        changes: Vec<PluginChange>,
    },
    /// A prompt or example file cannot be used.
    #[error("{place}: {message}")]
    Input {
        /// File with line number, or record.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The engine failed.
    #[error("{0}")]
    Engine(EngineError),
    /// A stop was asked for. Everything finished is on disk.
    #[error("stopped on request; start the same command again to go on")]
    Stopped,
    /// Reading or writing failed.
    #[error("{}: {message}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The disk is full.
    #[error(
        "no space left on the disk while writing {}: free some and start the same command again, nothing that was \
         finished is lost",
        path.display()
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// The disk has less space than the run is estimated to need.
    #[error(
        "{} has {} free, and the run is estimated to need {}: free some space, choose another folder, or set \
         store.check_disk = false", folder.display(), Bytes(*free), Bytes(*needed)
    )]
    DiskTooSmall {
        /// The run folder.
        folder: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes estimated.
        needed: u64,
    },
    /// Another process works in the run folder.
    #[error("run folder {} is in use by another process; wait for it or choose another folder", folder.display())]
    InUse {
        /// The run folder.
        folder: PathBuf,
    },
    /// The run folder holds another experiment.
    #[error(
        "run folder {} holds a run of `{found}`, not of `{wanted}`; choose another folder", folder.display()
    )]
    OtherExperiment {
        /// The run folder.
        folder: PathBuf,
        /// Name of the experiment in it.
        found: String,
        /// Name of the experiment to be run.
        wanted: String,
    },
    /// The folder is not a run folder.
    #[error("{} is not a run folder: {message}", folder.display())]
    NotARun {
        /// The folder.
        folder: PathBuf,
        /// What is missing or in the way.
        message: String,
    },
    /// An iteration made no preference pairs, so that there is nothing to train on. All its records are on disk.
    #[error("iteration {iteration} made no preference pairs, so there is nothing to train on: {reasons}")]
    NoPairs {
        /// The iteration.
        iteration: u32,
        /// How many prompts gave none for which reason.
        reasons: String,
    },
    /// A bug of ours.
    #[error("internal error: {0}")]
    Bug(String),
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

fn list(changes: &[PluginChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn at(record: Option<&str>) -> String {
    record.map(|name| format!("{name}: ")).unwrap_or_default()
}

/// The known key that looks most like a misspelt one, if any does.
pub(crate) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| {
            // One finds keys with the same beginning, the other swapped letters in short keys.
            let likeness =
                strsim::jaro_winkler(key, candidate).max(strsim::normalized_damerau_levenshtein(key, candidate));
            (likeness, candidate)
        })
        .filter(|(likeness, _)| *likeness > 0.65)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A number of bytes as people read it.
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} B", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes / 1e6),
            _ => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}

impl RunError {
    /// The exit code of a command that ends with this error: 1 the run failed, 2 the user's input or config, 3 a
    /// plugin, 4 the machine, 70 a bug.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::NoPairs { .. } | RunError::Stopped => 1,
            RunError::ConfigSyntax { .. }
            | RunError::UnknownKey { .. }
            | RunError::BadValue { .. }
            | RunError::ScheduleLength { .. }
            | RunError::PluginConfig { .. }
            | RunError::ChangedPlugins { .. }
            | RunError::Input { .. }
            | RunError::InUse { .. }
            | RunError::OtherExperiment { .. }
            | RunError::NotARun { .. } => 2,
            RunError::Plugin { .. } => 3,
            RunError::Io { .. } | RunError::DiskFull { .. } | RunError::DiskTooSmall { .. } => 4,
            RunError::Engine(engine) => match engine {
                EngineError::Model { .. } | EngineError::Input { .. } => 2,
                EngineError::Plugin { .. } => 3,
                EngineError::Io { .. } | EngineError::Machine(_) => 4,
                EngineError::NotFinite { .. } | EngineError::Stopped => 1,
            },
            RunError::Bug(_) => 70,
        }
    }

    /// An error of the file system, with a full disk told apart.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                RunError::DiskFull { path: path.to_owned() }
            }
            _ => RunError::Io { path: path.to_owned(), message: error.to_string() },
        }
    }

    /// The same error; one of a plugin that names no record names the shard.
    pub(crate) fn in_shard(mut self, place: &Place, stage: Stage, shard: usize) -> Self {
        if let RunError::Plugin { record: record @ None, .. } = &mut self {
            *record = Some(format!("{place}, {stage}, shard {shard}"));
        }
        self
    }

    /// A plugin's own error, whose message names plugin and call; `names` names the item of the batch.
    pub(crate) fn plugin(
        info: &metareward_api::PluginInfo,
        error: &PluginError,
        names: impl FnOnce(usize) -> String,
    ) -> Self {
        RunError::Plugin {
            kind: info.kind,
            plugin: info.name.clone(),
            record: error.item.map(names),
            message: error.message.clone(),
        }
    }
}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Stopped => RunError::Stopped,
            other => RunError::Engine(other),
        }
    }
}
