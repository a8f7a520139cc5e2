//! What can go wrong in this crate.

use std::path::{Path, PathBuf};

use metareward_api::EngineError;
use tch::TchError;

/// Why something in this crate failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TorchError {
    /// The model folder cannot be used.
    #[error("model folder {}: {message}", folder.display())]
    Model {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, with the tensor's, file's or key's name.
        message: String,
    },
    /// Reading or writing failed.
    #[error("{}: {message}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A text or conversation cannot be used.
    #[error("{0}")]
    Input(String),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// There is no memory left, on the device or in the machine. What was asked for, and what of it is taken.
    #[error("{0}")]
    Memory(String),
    /// The processes of a group do not find each other or lost each other, or what says which they are is wrong.
    #[error("process group: {0}")]
    Group(String),
    /// The machine cannot do it: libtorch, device.
    #[error("{0}")]
    Machine(String),
}

/// Result with this crate's error.
pub type Result<T, E = TorchError> = std::result::Result<T, E>;

impl TorchError {
    /// The folder cannot be used as a model.
    pub fn model(folder: &Path, message: impl Into<String>) -> Self {
        Self::Model { folder: folder.to_owned(), message: message.into() }
    }

    /// Reading or writing `path` failed.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), message: error.to_string() }
    }
}

impl TorchError {
    /// The error as the loop sees it, about the record named `record` where a text or conversation is at fault.
    pub fn about(self, record: &str) -> EngineError {
        match self {
            Self::Input(message) => EngineError::Input { record: record.to_owned(), message },
            other => other.into(),
        }
    }
}

impl From<TchError> for TorchError {
    /// Keeps the first line: the rest is a C++ stack trace.
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("Internal torch error: ");
        // CUDA's allocator, and the one of the CPU.
        if ["out of memory", "can't allocate memory", "not enough memory"].iter().any(|words| line.contains(words)) {
            return Self::Memory(line.to_owned());
        }
        Self::Libtorch(line.to_owned())
    }
}

impl From<TorchError> for EngineError {
    fn from(error: TorchError) -> Self {
        match error {
            TorchError::Model { folder, message } => EngineError::Model { folder, message },
            TorchError::Io { path, message } => EngineError::Io { path, message },
            TorchError::Input(message) => EngineError::Input { record: "input".to_owned(), message },
            TorchError::Libtorch(message) => EngineError::Machine(format!("libtorch: {message}")),
            TorchError::Group(message) => EngineError::Machine(format!("process group: {message}")),
            TorchError::Memory(message) | TorchError::Machine(message) => EngineError::Machine(message),
        }
    }
}
