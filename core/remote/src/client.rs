//! One try of one request.

use std::{
    sync::Once,
    time::{Duration, SystemTime},
};

use metareward_api::Finish;
use reqwest::{Response, StatusCode, header, redirect};
use serde_json::Value;

use crate::{
    Completion, Endpoint, RemoteError, Request,
    answer::{Answer, Reading, message, read_body, read_events},
    closing::{Until, end_of_answer},
    fault::{Fault, shortened},
};

/// Longest answer that is read, in bytes.
const LONGEST: usize = 64 << 20;

/// How long a try may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection.
    pub connect: Duration,
    /// From the first byte sent to the last byte of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Duration::from_secs(10), total: Duration::from_secs(600) }
    }
}

/// A model that a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Longest sequence in tokens, where the server says.
    pub context: Option<u64>,
}

/// A server that can be asked.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    http: reqwest::Client,
}

impl Client {
    /// No connection is made yet.
    ///
    /// # Errors
    /// When TLS cannot be set up on this machine.
    pub fn new(endpoint: Endpoint, timeouts: Timeouts) -> Result<Client, RemoteError> {
        static RING: Once = Once::new();
        // An error means that the process already has one.
        RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let mut builder = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            // A redirect would carry the request, and perhaps the key, to where nobody said.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("metareward/", env!("CARGO_PKG_VERSION")));
        if endpoint.address.is_local() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| RemoteError::Http(chain(&error)))?;
        Ok(Client { endpoint, http })
    }

    /// Whom it asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The request as this server understands it.
    ///
    /// # Errors
    /// What its dialect cannot say.
    pub fn body(&self, request: &Request) -> Result<Value, RemoteError> {
        request.body(&self.endpoint.model, self.endpoint.address.dialect)
    }

    /// Sends a request once and reads all of the answer.
    ///
    /// # Errors
    /// What went wrong, told apart.
    pub async fn ask(&self, request: &Request) -> Result<Answer, Fault> {
        self.ask_until(request, None).await
    }

    /// As [`Client::ask`]; where a line completes the answer, the rest is not waited for, and the server is told so by the end
    /// of the connection. What was read up to there is one answer, without tokens counted.
    ///
    /// # Errors
    /// What went wrong, told apart.
    pub async fn ask_until(&self, request: &Request, until: Option<&Until<'_>>) -> Result<Answer, Fault> {
        let mut body = self.body(request).map_err(|error| Fault::Shape(error.to_string()))?;
        if until.is_some()
            && let Some(body) = body.as_object_mut()
        {
            body.insert("stream".to_owned(), Value::from(true));
            body.insert("stream_options".to_owned(), serde_json::json!({ "include_usage": true }));
        }
        let sending = self.with_key(self.http.post(self.endpoint.address.service(request.service())))?;
        let sending = sending.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        let mut response = self.send(sending).await?;
        let events = is_stream(&response);
        let n = request.parameters.n;
        let mut reading = until.filter(|_| events && n == 1).map(|until| (Reading::default(), until));
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, &mut bytes).await? {
            if let Some((reading, until)) = &mut reading
                && reading.add(&bytes[bytes.len() - chunk..])
                && let Some(end) = end_of_answer(reading.text(), until)
                && reading.model().is_none_or(|model| self.endpoint.is_model(model))
            {
                let text = reading.text()[..end].to_owned();
                let completion = Completion { text, finish: Finish::Stop, logprobs: None };
                return Ok(Answer { completions: vec![completion], usage: None });
            }
        }
        let given =
            if events { read_events(&bytes, n) } else { read_body(&bytes, n) }.map_err(|fault| self.hide(fault))?;
        match given.model {
            Some(found) if !self.endpoint.is_model(&found) => {
                let expected = self.endpoint.answers_as.as_ref().unwrap_or(&self.endpoint.model).clone();
                Err(self.hide(Fault::Model { expected, found: shortened(&found) }))
            }
            _ => Ok(given.answer),
        }
    }

    /// The models that the server has.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn models(&self) -> Result<Vec<Served>, Fault> {
        let sending = self.with_key(self.http.get(self.endpoint.address.service("models")))?;
        let list = self.json(sending).await?;
        let data = list.get("data").and_then(Value::as_array);
        let data = data.ok_or_else(|| Fault::Shape("no list of models under `data`".to_owned()))?;
        let served = |model: &Value| {
            let longest = model.get("max_model_len").or_else(|| model.get("context_length"));
            Some(Served { name: model.get("id")?.as_str()?.to_owned(), context: longest.and_then(Value::as_u64) })
        };
        Ok(data.iter().filter_map(served).collect())
    }

    /// What stands at a path beside the service, as in `/version`.
    ///
    /// # Errors
    /// When it does not answer with JSON.
    pub async fn get(&self, path: &str) -> Result<Value, Fault> {
        self.json(self.with_key(self.http.get(self.endpoint.address.beside(path)))?).await
    }

    /// Puts a JSON text to a path beside the service; what it answers with is not read.
    ///
    /// # Errors
    /// When the server refuses, or does not answer.
    pub async fn post(&self, path: &str, body: String) -> Result<(), Fault> {
        let sending = self.with_key(self.http.post(self.endpoint.address.beside(path)))?;
        self.read(sending.header(header::CONTENT_TYPE, "application/json").body(body)).await.map(drop)
    }

    async fn json(&self, sending: reqwest::RequestBuilder) -> Result<Value, Fault> {
        let bytes = self.read(sending).await?;
        serde_json::from_slice(&bytes).map_err(|error| Fault::NotJson(error.to_string()))
    }

    fn with_key(&self, sending: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, Fault> {
        Ok(match &self.endpoint.key {
            Some(key) => sending.header(header::AUTHORIZATION, self.header(key)?),
            None => sending,
        })
    }

    fn header(&self, key: &crate::Key) -> Result<header::HeaderValue, Fault> {
        let mut value = header::HeaderValue::from_str(&key.bearer())
            .map_err(|_| Fault::Shape("the key cannot be sent in a header".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Sends and reads all.
    async fn read(&self, sending: reqwest::RequestBuilder) -> Result<Vec<u8>, Fault> {
        let mut response = self.send(sending).await?;
        let mut bytes = Vec::new();
        while self.chunk(&mut response, &mut bytes).await?.is_some() {}
        Ok(bytes)
    }

    /// Sends, and turns an answer that is an error into one.
    async fn send(&self, sending: reqwest::RequestBuilder) -> Result<Response, Fault> {
        let mut response = sending.send().await.map_err(|error| self.network(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response);
        let mut bytes = Vec::new();
        // An error's text may be cut; its status is known.
        while let Ok(Some(_)) = self.chunk(&mut response, &mut bytes).await {}
        Err(self.hide(Fault::Status { status: status.as_u16(), message: said(&bytes, status), retry_after }))
    }

    /// Adds the next piece of an answer to `bytes`, and gives its length; `None` at the end.
    async fn chunk(&self, response: &mut Response, bytes: &mut Vec<u8>) -> Result<Option<usize>, Fault> {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > LONGEST => {
                Err(Fault::Shape(format!("more than {LONGEST} bytes")))
            }
            Ok(Some(chunk)) => {
                bytes.extend_from_slice(&chunk);
                Ok(Some(chunk.len()))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.network(&error)),
        }
    }

    fn network(&self, error: &reqwest::Error) -> Fault {
        let why = || chain(error);
        self.hide(match (error.is_connect(), error.is_timeout()) {
            (true, true) => Fault::ConnectTimeout,
            (true, false) => Fault::Connect(why()),
            (false, true) => Fault::Timeout,
            (false, false) => Fault::Cut(why()),
        })
    }

    /// The fault without the key, which a server may have repeated.
    fn hide(&self, fault: Fault) -> Fault {
        let Some(key) = &self.endpoint.key else { return fault };
        match fault {
            Fault::Connect(text) => Fault::Connect(key.hide(&text)),
            Fault::Cut(text) => Fault::Cut(key.hide(&text)),
            Fault::NotJson(text) => Fault::NotJson(key.hide(&text)),
            Fault::Shape(text) => Fault::Shape(key.hide(&text)),
            Fault::Model { expected, found } => Fault::Model { expected, found: key.hide(&found) },
            Fault::Status { status, message, retry_after } => {
                Fault::Status { status, message: key.hide(&message), retry_after }
            }
            Fault::ConnectTimeout | Fault::Timeout => fault,
        }
    }
}

/// Whether an answer comes as a stream of events.
fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// What the system says below HTTP's own words, without the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    shortened(&last.to_string())
}

/// The words of an error's body: OpenAI's form, FastAPI's, or the beginning of any text.
fn said(bytes: &[u8], status: StatusCode) -> String {
    let text = String::from_utf8_lossy(bytes);
    let found = match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => message(value.get("error").unwrap_or(&value)),
        Err(_) if text.trim().is_empty() => status.canonical_reason().unwrap_or_default().to_owned(),
        Err(_) => text.into_owned(),
    };
    shortened(&found)
}

/// Retry-After in seconds or as a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4));
    }
    let date = http_date(value)?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Reads HTTP's form of a date, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [day, month, year, time, "GMT"] = text.split_once(", ")?.1.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let [hour, minute, second] = time.split(':').map(str::parse::<i64>).collect::<Result<Vec<_>, _>>().ok()?[..] else {
        return None;
    };
    // Days since 1970 of a civil date: years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        let seconds = |text| http_date(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        for wrong in ["", "soon", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
