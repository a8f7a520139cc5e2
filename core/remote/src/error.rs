//! What can go wrong before a request is sent, or for all requests at once. What can go wrong with one request is a
//! [`crate::Failure`].

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// An address that cannot be used.
    #[error(
        "{address}: {message}; expected openai:URL, vllm:URL, sglang:URL or llama-cpp:URL, as in openai:http://localhost:8000/v1"
    )]
    Address {
        /// The address, without what may be a secret.
        address: String,
        /// What is wrong with it.
        message: String,
    },
    /// A key that cannot be used.
    #[error("{place} {message}")]
    Key {
        /// Where the key is kept.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// A request that no server of this kind understands.
    #[error("{name} cannot be asked of this kind of server: {message}")]
    Request {
        /// The parameter.
        name: &'static str,
        /// Why not.
        message: String,
    },
    /// A setting without meaning.
    #[error("{name}: {message}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The server does not say which model it has, or has several.
    #[error("{server}: {message}")]
    Models {
        /// The server's address.
        server: String,
        /// What is wrong.
        message: String,
    },
    /// A server does not have the weights that it should have.
    #[error("{server} has other weights: {message}")]
    Weights {
        /// The server's address.
        server: String,
        /// What is different.
        message: String,
    },
    /// A command of the user's failed.
    #[error("{message}; the command was: {command}")]
    Process {
        /// The command, filled in.
        command: String,
        /// What went wrong, with the end of its log.
        message: String,
    },
    /// A server did not take up a model.
    #[error("{server}: {message}")]
    Serve {
        /// The server's address.
        server: String,
        /// What went wrong, and what to do.
        message: String,
    },
    /// The engine beside the servers failed.
    #[error("{0}")]
    Engine(metareward_api::EngineError),
    /// The answers on disk cannot be read or written.
    #[error("{}: {message}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// HTTP or TLS cannot be set up on this machine.
    #[error("HTTP cannot be set up: {0}")]
    Http(String),
    /// The caller could not take an answer.
    #[error("{0}")]
    Taken(String),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
}
