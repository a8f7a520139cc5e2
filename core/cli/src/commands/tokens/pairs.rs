//! Preference pairs from a file: as TRL reads them, or as a run writes them.

use std::{fs, path::Path};

use metareward_api::{Message, Pair};
use serde_json::Value;

use crate::failure::{Code, Failure};

/// A conversation and its two completions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPair {
    /// The conversation that both continue.
    pub messages: Vec<Message>,
    /// The preferred completion.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The pair that was asked for.
    pub pair: PlainPair,
    /// Pairs in the file.
    pub count: usize,
}

const HINT: &str = "a pair has prompt, chosen and rejected (texts, or lists of turns with role and content), or is a line of a \
                    run's pairs";

/// Pair `record`, counted from 1, of the file at `path`: one JSON object, a list of them, or one per line.
///
/// # Errors
/// When the file cannot be read or holds no such pair, with the record.
pub fn read(path: &Path, record: usize) -> Result<Read, Failure> {
    let failed = |message: String| Failure::new(Code::Input, format!("{}: {message}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let records = records(&text).map_err(|message| failed(message).hint(HINT))?;
    let count = records.len();
    let place = record.checked_sub(1).filter(|place| *place < count);
    let Some(value) = place.and_then(|place| records.get(place)) else {
        return Err(failed(format!("there is no record {record}; the file has {count}")));
    };
    let pair = pair(value).map_err(|message| failed(format!("record {record}: {message}")).hint(HINT))?;
    Ok(Read { pair, count })
}

fn records(text: &str) -> Result<Vec<Value>, String> {
    // One JSON value, over many lines perhaps; else a value per line.
    match serde_json::from_str(text) {
        Ok(Value::Array(records)) => return Ok(records),
        Ok(record) => return Ok(vec![record]),
        Err(error) if text.trim().is_empty() => return Err(error.to_string()),
        Err(_) => {}
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1)))
        .collect()
}

fn pair(value: &Value) -> Result<PlainPair, String> {
    if value.get("messages").is_some() {
        let pair: Pair = serde_json::from_value(value.clone()).map_err(|error| format!("a run's pair, but {error}"))?;
        return Ok(PlainPair { messages: pair.messages, chosen: pair.chosen.text, rejected: pair.rejected.text });
    }
    let field = |name: &str| value.get(name).ok_or_else(|| format!("{name} is missing"));
    let (chosen, rejected) = (turns(field("chosen")?, "chosen")?, turns(field("rejected")?, "rejected")?);
    match value.get("prompt") {
        Some(prompt) => {
            let messages = match turns(prompt, "prompt")? {
                Turns::Text(text) => vec![Message::user(text)],
                Turns::List(messages) => messages,
            };
            Ok(PlainPair { messages, chosen: last(chosen, "chosen")?, rejected: last(rejected, "rejected")? })
        }
        // TRL's implicit prompt: what both conversations begin with.
        None => match (chosen, rejected) {
            (Turns::List(mut chosen), Turns::List(mut rejected)) => {
                let shared = chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
                let (chosen_end, rejected_end) = (chosen.split_off(shared), rejected.split_off(shared));
                Ok(PlainPair {
                    messages: chosen,
                    chosen: last(Turns::List(chosen_end), "chosen")?,
                    rejected: last(Turns::List(rejected_end), "rejected")?,
                })
            }
            _ => Err("prompt is missing".to_owned()),
        },
    }
}

enum Turns {
    Text(String),
    List(Vec<Message>),
}

fn turns(value: &Value, name: &str) -> Result<Turns, String> {
    match value {
        Value::String(text) => Ok(Turns::Text(text.clone())),
        Value::Array(_) => {
            serde_json::from_value(value.clone()).map(Turns::List).map_err(|error| format!("{name}: {error}"))
        }
        _ => Err(format!("{name} is neither a text nor a list of turns")),
    }
}

/// The text of a completion: one turn of the model.
fn last(turns: Turns, name: &str) -> Result<String, String> {
    match turns {
        Turns::Text(text) => Ok(text),
        Turns::List(messages) => match messages.as_slice() {
            [message] if message.role == metareward_api::Role::Assistant => Ok(message.content.clone()),
            _ => Err(format!("{name} is not one turn of the model but {} turns", messages.len())),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(messages: &[Message]) -> PlainPair {
        PlainPair { messages: messages.to_vec(), chosen: "yes".to_owned(), rejected: "no".to_owned() }
    }

    #[test]
    fn the_forms_of_a_pair() {
        let ask = [Message::user("Well?")];
        let turn = |text: &str| json!([{ "role": "assistant", "content": text }]);
        let asked = json!([{ "role": "user", "content": "Well?" }]);
        assert_eq!(pair(&json!({ "prompt": "Well?", "chosen": "yes", "rejected": "no" })).unwrap(), plain(&ask));
        assert_eq!(
            pair(&json!({ "prompt": asked, "chosen": turn("yes"), "rejected": turn("no") })).unwrap(),
            plain(&ask)
        );
        let whole =
            |text: &str| json!([{ "role": "user", "content": "Well?" }, { "role": "assistant", "content": text }]);
        assert_eq!(pair(&json!({ "chosen": whole("yes"), "rejected": whole("no") })).unwrap(), plain(&ask));
        let side = |text: &str| json!({ "draw": 0, "text": text, "score": 1.0, "length": 3 });
        let of_a_run = json!({
            "kind": "actor", "prompt": "p1", "model": "m", "messages": asked, "chosen": side("yes"), "rejected": side("no"),
            "weight": 1.0,
        });
        assert_eq!(pair(&of_a_run).unwrap(), plain(&ask));
    }

    #[test]
    fn what_is_no_pair_says_why() {
        for (value, message) in [
            (json!({ "prompt": "a", "chosen": "b" }), "rejected is missing"),
            (json!({ "chosen": "a", "rejected": "b" }), "prompt is missing"),
            (json!({ "prompt": 1, "chosen": "a", "rejected": "b" }), "prompt is neither a text nor a list of turns"),
            (
                json!({ "prompt": "a", "chosen": [], "rejected": "b" }),
                "chosen is not one turn of the model but 0 turns",
            ),
            (json!([1]), "chosen is missing"),
        ] {
            assert_eq!(pair(&value).unwrap_err(), message);
        }
        assert!(pair(&json!({ "messages": [] })).unwrap_err().starts_with("a run's pair, but missing field"));
        let role = json!({ "prompt": "a", "chosen": [{ "role": "tool", "content": "x" }], "rejected": "b" });
        assert!(pair(&role).unwrap_err().starts_with("chosen: unknown variant `tool`"));
    }

    #[test]
    fn files_are_one_object_a_list_or_lines() {
        let one = "{\"a\":\n1}";
        assert_eq!(records(one).unwrap().len(), 1);
        assert_eq!(records("[{}, {}]").unwrap().len(), 2);
        assert_eq!(records("{}\n\n{}\n{}\n").unwrap().len(), 3);
        assert!(records("{}\n{\n").unwrap_err().starts_with("line 2: "));
        assert!(records(" \n").is_err());
    }
}
