//! Before anything is computed: whether all ranks are ready and were started alike.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Exchange, RanksError,
    message::{broadcast, gather},
};

/// What a rank says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// What must be the same on all: version, config, plugins.
    pub same: Value,
    /// The host that it runs on.
    pub host: String,
}

/// What a rank knows of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Ranks on this rank's host, itself included.
    pub on_host: usize,
}

/// Rank 0's answer to all.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    /// Everyone's host.
    Alike(Vec<String>),
    Differs(String),
    NotReady {
        rank: usize,
        message: String,
        code: u8,
    },
}

/// Tells rank 0 that this rank is ready, or why it is not and with which exit code it will end. Returns when all are ready.
///
/// # Errors
/// At every rank: [`RanksError::NotReady`] when one is not; [`RanksError::Differs`] when two were not started alike, with
/// what differs; [`RanksError::Lost`] when one is gone.
pub fn agree(exchange: &dyn Exchange, own: Result<&Hello, (String, u8)>) -> Result<Met, RanksError> {
    let host = own.as_ref().map(|hello| hello.host.clone()).unwrap_or_default();
    let said: Result<Hello, (String, u8)> = own.cloned();
    let answer = gather(exchange, &said)?.map(answer);
    match broadcast(exchange, answer.as_ref())? {
        Answer::Alike(hosts) => Ok(Met { on_host: hosts.iter().filter(|other| **other == host).count() }),
        Answer::Differs(message) => Err(RanksError::Differs(message)),
        Answer::NotReady { rank, message, code } => Err(RanksError::NotReady { rank, message, code }),
    }
}

fn answer(said: Vec<Result<Hello, (String, u8)>>) -> Answer {
    let mut hellos = Vec::new();
    for (rank, said) in said.into_iter().enumerate() {
        match said {
            Ok(hello) => hellos.push(hello),
            Err((message, code)) => return Answer::NotReady { rank, message, code },
        }
    }
    let Some(first) = hellos.first() else { return Answer::Alike(Vec::new()) };
    for (rank, hello) in hellos.iter().enumerate() {
        if let Some((key, here, there)) = difference("", &first.same, &hello.same) {
            return Answer::Differs(format!(
                "rank {rank} was started with another `{key}` than rank 0: {there} instead of {here}; start all ranks from \
                 the same experiment, with the same variables, by the same binary"
            ));
        }
    }
    Answer::Alike(hellos.into_iter().map(|hello| hello.host).collect())
}

/// The first place where two values differ, and what is there.
fn difference(place: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                difference(&below(key), a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| difference(&below(&at.to_string()), a, b))
        }
        (a, b) => (a != b).then(|| (place.to_owned(), said(a), said(b))),
    }
}

fn said(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string(),
    }
}
