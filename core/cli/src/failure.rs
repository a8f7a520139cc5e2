//! An error as a person sees it: one sentence, a hint, an exit code.

use std::fmt;

use metareward_remote::RemoteError;

/// Exit codes, as documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A run failed.
    Run = 1,
    /// The user's input or config.
    Input = 2,
    /// A plugin.
    Plugin = 3,
    /// The machine: libtorch, GPU, memory, disk.
    Machine = 4,
    /// A mistake of ours.
    Bug = 70,
    /// Stopped by Ctrl-C, as shells count it.
    Interrupted = 130,
}

impl Code {
    /// The code that another process of the group ended with.
    pub fn of(code: u8) -> Self {
        let known = [Code::Run, Code::Input, Code::Plugin, Code::Machine, Code::Interrupted];
        known.into_iter().find(|known| *known as u8 == code).unwrap_or(Code::Bug)
    }
}

/// An error on its way out of the process.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub code: Code,
    /// What happened and where.
    pub sentence: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// An error without a hint.
    pub fn new(code: Code, sentence: impl fmt::Display) -> Self {
        Self { code, sentence: sentence.to_string(), hint: None }
    }

    /// The same error with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let code = match &error {
            RemoteError::Stopped => Code::Interrupted,
            RemoteError::Cache { .. } | RemoteError::Http(_) => Code::Machine,
            RemoteError::Models { .. } => Code::Run,
            _ => Code::Input,
        };
        Self::new(code, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.sentence)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n hint: {hint}")?;
        }
        Ok(())
    }
}
