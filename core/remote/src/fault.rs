//! Why one try of one request gave no answer, and what follows from that.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Longest message of a server that is kept, in characters.
const MESSAGE: usize = 300;

/// Why one try gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection: refused, unknown host, no TLS.
    Connect(String),
    /// No connection within the time allowed.
    ConnectTimeout,
    /// No answer within the time allowed.
    Timeout,
    /// The connection ended in the middle of an answer, or before it.
    Cut(String),
    /// The server answered with an error.
    Status {
        /// HTTP's number.
        status: u16,
        /// What the server said, shortened and without the key.
        message: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not JSON.
    NotJson(String),
    /// The answer is JSON of another shape.
    Shape(String),
    /// Another model answered.
    Model {
        /// The model asked for.
        expected: String,
        /// The one that answered.
        found: String,
    },
}

/// A [`Fault`] without its details: what counts are kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// Cut connection.
    Cut,
    /// Too many requests (429), or overloaded (503).
    Busy,
    /// Another error on the server's side (5xx).
    Server,
    /// The key was refused, or there is none (401, 403).
    Key,
    /// Nothing at this address (404): a wrong URL or an unknown model.
    NotFound,
    /// The server takes no such request (any other 4xx).
    Refused,
    /// Not JSON.
    NotJson,
    /// Wrong shape.
    Shape,
    /// Wrong model.
    Model,
}

/// Whose fault it is, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This request is never going to be answered.
    Request,
    /// This try went wrong; another may not.
    Try,
    /// The server is busy: it is left alone for a while, and the request is as good as not sent.
    Busy(Option<Duration>),
    /// The server is away, or not the one it should be: it is left out until it answers again.
    Away,
    /// The server will never answer us.
    Server,
}

impl Fault {
    /// What counts are kept under.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Connect(_) | Fault::ConnectTimeout => FaultKind::Connect,
            Fault::Timeout => FaultKind::Timeout,
            Fault::Cut(_) => FaultKind::Cut,
            Fault::Status { status, .. } => match status {
                429 | 503 => FaultKind::Busy,
                401 | 403 => FaultKind::Key,
                404 => FaultKind::NotFound,
                500.. => FaultKind::Server,
                _ => FaultKind::Refused,
            },
            Fault::NotJson(_) => FaultKind::NotJson,
            Fault::Shape(_) => FaultKind::Shape,
            Fault::Model { .. } => FaultKind::Model,
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Fault::Connect(_) | Fault::ConnectTimeout | Fault::Model { .. } => Blame::Away,
            Fault::Timeout | Fault::Cut(_) | Fault::NotJson(_) | Fault::Shape(_) => Blame::Try,
            Fault::Status { status, retry_after, .. } => match status {
                429 | 503 => Blame::Busy(*retry_after),
                401 | 403 | 404 => Blame::Server,
                // A redirect, a request time-out, a conflict, too early: these pass.
                300..=399 | 408 | 409 | 425 | 500.. => Blame::Try,
                _ => Blame::Request,
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(why) => write!(f, "no connection: {why}"),
            Fault::ConnectTimeout => f.write_str("no connection in time"),
            Fault::Timeout => f.write_str("no answer in time"),
            Fault::Cut(why) => write!(f, "the connection was cut: {why}"),
            Fault::Status { status, message, .. } if message.is_empty() => write!(f, "the server answered {status}"),
            Fault::Status { status, message, .. } => write!(f, "the server answered {status}: {message}"),
            Fault::NotJson(why) => write!(f, "the answer is not JSON: {why}"),
            Fault::Shape(why) => write!(f, "the answer has another shape: {why}"),
            Fault::Model { expected, found } => write!(f, "{found} answered instead of {expected}"),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Connect => "no connection",
            FaultKind::Timeout => "no answer in time",
            FaultKind::Cut => "cut connection",
            FaultKind::Busy => "server busy",
            FaultKind::Server => "server error",
            FaultKind::Key => "key refused",
            FaultKind::NotFound => "not found",
            FaultKind::Refused => "request refused",
            FaultKind::NotJson => "not JSON",
            FaultKind::Shape => "wrong shape",
            FaultKind::Model => "wrong model",
        })
    }
}

/// Why a request has no answer after all tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong at the last try.
    pub fault: Fault,
    /// How many times it was sent.
    pub tries: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tries {
            0 => write!(f, "{}; not sent", self.fault),
            1 => write!(f, "{}", self.fault),
            tries => write!(f, "{}; tried {tries} times", self.fault),
        }
    }
}

/// A server's text on one line, shortened.
pub(crate) fn shortened(text: &str) -> String {
    let line: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MESSAGE).collect();
    let line = line.trim();
    if text.chars().nth(MESSAGE).is_some() { format!("{line}…") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_blamed_on_someone() {
        let fault = |status| Fault::Status { status, message: String::new(), retry_after: None };
        for (status, kind, blame) in [
            (400, FaultKind::Refused, Blame::Request),
            (401, FaultKind::Key, Blame::Server),
            (404, FaultKind::NotFound, Blame::Server),
            (408, FaultKind::Refused, Blame::Try),
            (422, FaultKind::Refused, Blame::Request),
            (429, FaultKind::Busy, Blame::Busy(None)),
            (500, FaultKind::Server, Blame::Try),
            (503, FaultKind::Busy, Blame::Busy(None)),
            (504, FaultKind::Server, Blame::Try),
        ] {
            assert_eq!((fault(status).kind(), fault(status).blame()), (kind, blame), "{status}");
        }
    }

    #[test]
    fn a_servers_words_are_one_short_line() {
        assert_eq!(shortened("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(shortened(&"x".repeat(1000)).chars().count(), MESSAGE + 1);
    }
}
