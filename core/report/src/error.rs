//! What can go wrong.

use std::path::PathBuf;

use metareward_runtime::RunError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No run was given.
    #[error("there is no run to report on; name at least one run folder")]
    NoRuns,
    /// A run cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The page cannot be written.
    #[error("{}: {message}; choose another file for the report, or make room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// The run has no such iteration.
    #[error("there is no iteration {wanted}; the run has {iterations}")]
    NoIteration {
        /// The one asked for.
        wanted: u32,
        /// How many the run has.
        iterations: u32,
    },
    /// No finished stage holds what was to be exported.
    #[error("{} holds nothing of this kind yet; run its experiment further, or choose another iteration", folder.display())]
    NothingToExport {
        /// The run folder.
        folder: PathBuf,
    },
    /// A record cannot be written as JSON: a bug.
    #[error("{what} cannot be put into the report: {message}")]
    Encode {
        /// What it is.
        what: String,
        /// Why.
        message: String,
    },
}
