//! What comes back, read from a body or from a stream of events.

use metareward_api::Finish;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, shortened};

/// The log-probability of one token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogProb {
    /// The token's text, as the server writes it.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

/// One answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Why it ended: `length` where the server says so, else as if the model had ended its turn. Servers do not tell a
    /// stop text from the end of a turn.
    pub finish: Finish,
    /// Its tokens with their log-probabilities, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogProb>>,
}

/// Tokens as the server counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt: u32,
    /// Of all answers. Most servers count the token that ends a turn.
    pub completion: u32,
}

/// All answers to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// As many as were asked for.
    pub completions: Vec<Completion>,
    /// Tokens, where the server counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct RawUsage {
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    /// Of a chat.
    message: Option<Said>,
    /// Of a chat's stream.
    delta: Option<Said>,
    /// Of a completion.
    text: Option<String>,
    finish_reason: Option<String>,
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
}

/// An answer and the model that gave it, where it says so.
#[derive(Debug)]
pub(crate) struct Given {
    pub answer: Answer,
    pub model: Option<String>,
}

/// Reads a body; `n` is the number of answers asked for.
pub(crate) fn read_body(bytes: &[u8], n: u32) -> Result<Given, Fault> {
    let body = parse(bytes)?;
    let mut gathered = Gathered::default();
    gathered.add(body)?;
    gathered.finish(n, true)
}

/// Reads a stream of events: chunks of choices, until `[DONE]` or the end. A stream that ends before every choice has
/// said why it ended was cut.
pub(crate) fn read_events(bytes: &[u8], n: u32) -> Result<Given, Fault> {
    let text = String::from_utf8_lossy(bytes);
    let mut gathered = Gathered::default();
    for line in text.lines() {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        if data == "[DONE]" {
            break;
        }
        match parse(data.as_bytes()) {
            Ok(body) => gathered.add(body)?,
            // The last line may be torn: then the stream was cut, whatever is in it.
            Err(_) if !text.ends_with('\n') && text.trim_end().ends_with(data) => {
                return Err(Fault::Cut("in the middle of an event".to_owned()));
            }
            Err(fault) => return Err(fault),
        }
    }
    gathered.finish(n, false)
}

/// An answer that is read while it comes: one choice of a stream of events.
#[derive(Default)]
pub(crate) struct Reading {
    /// A line that has not ended.
    rest: Vec<u8>,
    gathered: Gathered,
}

impl Reading {
    /// Takes what has come; whether a line of the text has ended with it. What is not understood is passed over here: the
    /// end of the stream is judged as a whole.
    pub fn add(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        let before = self.text().len();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let data = text.strip_prefix("data:").map(str::trim).filter(|data| *data != "[DONE]");
            if let Some(Ok(body)) = data.map(|data| parse(data.as_bytes()))
                && self.gathered.add(body).is_err()
            {
                return false;
            }
        }
        self.text()[before..].contains('\n')
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        self.gathered.choices.first().map_or("", |choice| choice.text.as_str())
    }

    /// The model that answers, where it has said so.
    pub fn model(&self) -> Option<&str> {
        self.gathered.model.as_deref()
    }
}

fn parse(bytes: &[u8]) -> Result<Body, Fault> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Fault::NotJson(format!("{error}: {}", shortened(&String::from_utf8_lossy(bytes)))))?;
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(Fault::Shape(format!("an error instead: {}", shortened(&message(error)))));
    }
    serde_json::from_value(value).map_err(|error| Fault::Shape(error.to_string()))
}

/// The words of an error in OpenAI's form, or of any other.
pub(crate) fn message(error: &Value) -> String {
    let said = error.get("message").or_else(|| error.get("detail")).unwrap_or(error);
    said.as_str().map_or_else(|| said.to_string(), str::to_owned)
}

/// Choices put together from one body or from many chunks.
#[derive(Default)]
struct Gathered {
    model: Option<String>,
    usage: Option<Usage>,
    choices: Vec<Partial>,
}

#[derive(Default)]
struct Partial {
    text: String,
    finish: Option<Finish>,
    logprobs: Option<Vec<TokenLogProb>>,
    said: bool,
}

impl Gathered {
    fn add(&mut self, body: Body) -> Result<(), Fault> {
        /// More answers to one request than anyone asks for.
        const MOST: usize = 4096;
        self.model = self.model.take().or(body.model);
        if let Some(usage) = body.usage {
            self.usage = Some(Usage { prompt: usage.prompt_tokens, completion: usage.completion_tokens });
        }
        for choice in body.choices {
            let place = choice.index as usize;
            if place >= MOST {
                return Err(Fault::Shape(format!("the index of a choice is {place}")));
            }
            while self.choices.len() <= place {
                self.choices.push(Partial::default());
            }
            let partial = &mut self.choices[place];
            let said = choice.message.or(choice.delta);
            partial.said |= said.is_some() || choice.text.is_some();
            partial.text.push_str(&said.and_then(|said| said.content).or(choice.text).unwrap_or_default());
            if let Some(reason) = choice.finish_reason {
                partial.finish = Some(if reason == "length" { Finish::Length } else { Finish::EndOfTurn });
            }
            if let Some(logprobs) = choice.logprobs.as_ref().and_then(read_logprobs) {
                partial.logprobs.get_or_insert_default().extend(logprobs);
            }
        }
        Ok(())
    }

    fn finish(self, n: u32, whole: bool) -> Result<Given, Fault> {
        if self.choices.len() != n as usize {
            let found = self.choices.len();
            let why = format!("{found} choices where {n} were asked for");
            return Err(if whole { Fault::Shape(why) } else { Fault::Cut(why) });
        }
        let mut completions = Vec::with_capacity(self.choices.len());
        for choice in self.choices {
            if !choice.said {
                return Err(Fault::Shape("a choice with neither message nor text".to_owned()));
            }
            let finish = match choice.finish {
                Some(finish) => finish,
                None if whole => return Err(Fault::Shape("a choice without finish_reason".to_owned())),
                None => return Err(Fault::Cut("the stream ended before the answer".to_owned())),
            };
            completions.push(Completion { text: choice.text, finish, logprobs: choice.logprobs });
        }
        Ok(Given { answer: Answer { completions, usage: self.usage }, model: self.model })
    }
}

/// Log-probabilities in the form of a chat (`content`) or of a completion (`tokens`, `token_logprobs`). A number that is
/// missing, as for the first token of an echo, is left out with its token.
fn read_logprobs(value: &Value) -> Option<Vec<TokenLogProb>> {
    let text = |token: &Value| token.as_str().unwrap_or_default().to_owned();
    if let Some(content) = value.get("content").and_then(Value::as_array) {
        let entry = |item: &Value| {
            Some(TokenLogProb { token: text(item.get("token")?), logprob: item.get("logprob")?.as_f64()? })
        };
        return Some(content.iter().filter_map(entry).collect());
    }
    let tokens = value.get("tokens")?.as_array()?;
    let numbers = value.get("token_logprobs")?.as_array()?;
    let pairs = tokens.iter().zip(numbers);
    Some(
        pairs
            .filter_map(|(token, number)| Some(TokenLogProb { token: text(token), logprob: number.as_f64()? }))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<Given, Fault> {
        read_body(text.as_bytes(), 1)
    }

    #[test]
    fn chats_and_completions_are_read() {
        let given = body(
            r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop",
                "logprobs":{"content":[{"token":"hi","logprob":-0.5,"top_logprobs":[]}]}}],
                "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
        )
        .unwrap();
        assert_eq!(given.model.as_deref(), Some("m"));
        assert_eq!(given.answer.usage, Some(Usage { prompt: 3, completion: 2 }));
        let completion = &given.answer.completions[0];
        assert_eq!((completion.text.as_str(), completion.finish), ("hi", Finish::EndOfTurn));
        assert_eq!(completion.logprobs, Some(vec![TokenLogProb { token: "hi".into(), logprob: -0.5 }]));

        let given = read_body(
            br#"{"choices":[{"index":1,"text":"b","finish_reason":"length"},{"index":0,"text":"a","finish_reason":"stop",
                 "logprobs":{"tokens":["","a"],"token_logprobs":[null,-1.0]}}]}"#,
            2,
        )
        .unwrap();
        let texts: Vec<_> = given.answer.completions.iter().map(|choice| choice.text.as_str()).collect();
        assert_eq!(texts, ["a", "b"], "in the order of their indices");
        assert_eq!(given.answer.completions[1].finish, Finish::Length);
        assert_eq!(given.answer.completions[0].logprobs.as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        for (text, kind) in [
            ("", "NotJson"),
            ("<html>busy</html>", "NotJson"),
            (r#"{"choices":[{"index":0,"message":{"content":"h"#, "NotJson"),
            ("[]", "Shape"),
            ("{}", "Shape"),
            (r#"{"choices":[]}"#, "Shape"),
            (r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#, "Shape"),
            (r#"{"choices":[{"message":{"content":"x"}}]}"#, "Shape"),
            (r#"{"choices":[{"index":99999,"text":"x","finish_reason":"stop"}]}"#, "Shape"),
            (r#"{"choices":[{"text":7,"finish_reason":"stop"}]}"#, "Shape"),
            (r#"{"error":{"message":"overloaded"}}"#, "Shape"),
        ] {
            let found = format!("{:?}", body(text).unwrap_err());
            assert!(found.starts_with(kind), "{text}: {found}");
        }
    }

    const STREAM: &str = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n\
        : comment\n\n\
        data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"he\"}}]}\n\n\
        data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"llo\"}}]}\n\n\
        data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

    #[test]
    fn a_stream_is_put_together() {
        let given = read_events(STREAM.as_bytes(), 1).unwrap();
        assert_eq!(given.answer.completions[0].text, "hello");
        assert_eq!(given.answer.usage, Some(Usage { prompt: 1, completion: 2 }));
    }

    /// A stream cut anywhere before the word that ends the answer never passes for a shorter answer.
    #[test]
    fn a_cut_stream_is_never_an_answer() {
        let end = STREAM.find("\"finish_reason\":\"stop\"").unwrap();
        for cut in 0..end {
            let Err(Fault::Cut(_)) = read_events(&STREAM.as_bytes()[..cut], 1) else { panic!("cut at {cut}") };
        }
    }
}
