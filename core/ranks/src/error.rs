//! What can go wrong between the ranks.

use metareward_api::EngineError;

/// Why a group of processes cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RanksError {
    /// The others cannot be reached.
    #[error("{0}")]
    Lost(String),
    /// A message that cannot be read.
    #[error("a message between the ranks cannot be read: {0}; see that all run the same binary")]
    Unreadable(String),
    /// The ranks were not started alike.
    #[error("{0}")]
    Differs(String),
    /// A rank could not begin.
    #[error("{}{message}", of_rank(*rank))]
    NotReady {
        /// The rank.
        rank: usize,
        /// What it said.
        message: String,
        /// The exit code that goes with it.
        code: u8,
    },
}

impl From<RanksError> for EngineError {
    fn from(error: RanksError) -> Self {
        EngineError::Machine(error.to_string())
    }
}

/// `rank 2: `, and nothing for rank 0, which speaks for itself.
pub(crate) fn of_rank(rank: usize) -> String {
    if rank == 0 { String::new() } else { format!("rank {rank}: ") }
}

/// The error of a rank as rank 0 tells it.
pub(crate) fn on_rank(rank: usize, error: EngineError) -> EngineError {
    let told = |message: String| format!("{}{message}", of_rank(rank));
    match error {
        EngineError::Model { folder, message } => EngineError::Model { folder, message: told(message) },
        EngineError::Input { record, message } => EngineError::Input { record, message: told(message) },
        EngineError::Plugin { plugin, message } => EngineError::Plugin { plugin, message: told(message) },
        EngineError::Io { path, message } => EngineError::Io { path, message: told(message) },
        EngineError::NotFinite { step, records, message } => {
            EngineError::NotFinite { step, records, message: told(message) }
        }
        EngineError::Machine(message) => EngineError::Machine(told(message)),
        EngineError::Stopped => EngineError::Stopped,
    }
}

/// What came of a call on all ranks, in their order: all answers, or what went wrong. Ranks that were stopped because
/// another one failed are not what went wrong.
pub(crate) fn together<T>(outcomes: Vec<Result<T, EngineError>>) -> Result<Vec<T>, EngineError> {
    let (mut answers, mut stopped) = (Vec::new(), false);
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(answer) => answers.push(answer),
            Err(EngineError::Stopped) => stopped = true,
            Err(error) => return Err(on_rank(rank, error)),
        }
    }
    if stopped { Err(EngineError::Stopped) } else { Ok(answers) }
}
