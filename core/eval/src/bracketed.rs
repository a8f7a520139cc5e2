//! Verdicts that a judge puts in double square brackets, as in `[[A>B]]` or `[[7.5]]`.

use serde::{Deserialize, Serialize};

/// What is read when a judge's text holds several bracketed verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Several {
    /// The first one (MT-Bench).
    First,
    /// The last one.
    Last,
    /// The one that they all say; different ones are a conflict (Arena-Hard).
    Agreeing,
}

/// Why a text holds no verdict. The names are what counts of failures are kept under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unread {
    /// There is no bracketed verdict.
    #[error("no verdict in double square brackets")]
    Missing,
    /// There are several, and they differ.
    #[error("different verdicts in one judgment")]
    Conflict,
    /// There is one, but off the scale.
    #[error("a rating off the scale")]
    OffScale,
    /// There is no judgment at all: a call that failed, or a score that was never filled in.
    #[error("no judgment")]
    NoJudgment,
}

/// The verdict among the bracketed parts of a text that `read` understands; others, such as `[[1]]` where a label is
/// expected, are passed over.
///
/// # Errors
/// When there is none, and when several differ and `several` asks for agreement.
pub(crate) fn verdict<T: PartialEq>(
    text: &str,
    several: Several,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, Unread> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("[[") {
        // Of `[[[A>B]]` the innermost pair of brackets counts.
        let inside = rest[open + 2..].trim_start_matches('[');
        match inside.find("]]") {
            Some(close) if !inside[..close].contains("[[") => {
                found.extend(read(inside[..close].trim()));
                rest = &inside[close + 2..];
            }
            _ => rest = inside,
        }
    }
    match several {
        Several::First => found.into_iter().next().ok_or(Unread::Missing),
        Several::Last => found.pop().ok_or(Unread::Missing),
        Several::Agreeing => {
            let last = found.pop().ok_or(Unread::Missing)?;
            if found.iter().all(|other| *other == last) { Ok(last) } else { Err(Unread::Conflict) }
        }
    }
}
