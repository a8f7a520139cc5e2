//! Servers that serve a model which changes: after training each of them takes up the new one, by a command that starts
//! it anew, by requests that make it reload, or because the model's folder is the name that it is asked for. Then each must
//! prove that it answers with the right weights.
//!
//! Servers started here run in process groups of their own, remembered in files beside their logs: a later process finds
//! one that still serves the right model, or ends it before it starts another.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use metareward_api::{EngineError, Message, Sampling};
use serde::{Deserialize, Serialize};

use crate::{
    Answer, Blame, Client, Dialect, Failure, FaultKind, Measure, Parameters, Pool, Prompt, ReadPrompt, RemoteError,
    Request, Served,
    process::{Group, Running, Words, json_word, shell_word},
    weights::{Distance, distances},
};

/// How often a server that starts is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(100);
/// How long a server may take to end.
const GRACE: Duration = Duration::from_secs(20);
/// Tokens of the answer to a probe.
const PROBE_TOKENS: u32 = 12;
/// What servers are asked to prove their weights.
const PROBES: [&str; 6] = [
    "Name a thing that floats.",
    "What is the capital of France?",
    "two plus three",
    "Write one line about rain.",
    "Which is larger, 7 or 12?",
    "hello",
];

/// How servers take up another model. Words in braces are filled in: `{model}`, the model's folder; `{host}` and `{port}`
/// of the server's address; `{number}`, the server's place from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// They serve one model for good, or load what they are asked for: the name asked for then holds `{model}`.
    Nothing,
    /// A command per server, run by the shell, which ends when the next model comes. One that ends at once with success
    /// has started or told a server elsewhere.
    Restart(Vec<String>),
    /// Requests to each server, in order.
    Reload(Vec<Reload>),
}

/// A POST request that makes a server load weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Its path beside `/v1`, as in `/update_weights_from_disk`.
    pub path: String,
    /// Its body, in JSON.
    pub body: String,
}

impl Reload {
    /// Reads `PATH` or `PATH BODY`.
    pub fn read(text: &str) -> Reload {
        let (path, body) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), "{}"));
        Reload { path: path.to_owned(), body: body.trim().to_owned() }
    }
}

/// What servers are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Log-probabilities that the engine of this process computes of the model's folder.
    Engine,
    /// Each other: the first one's answers.
    Servers,
    /// Nothing.
    Off,
}

/// Settings of [`Servers`].
#[derive(Clone, Debug, PartialEq)]
pub struct ServersOptions {
    /// The name that servers are asked for; may hold `{model}`. `None`: the only model that each of them has.
    pub model: Option<String>,
    /// How they take up another model.
    pub change: Change,
    /// How long a server may take until it is ready.
    pub ready: Duration,
    /// What they are held against.
    pub proof: Proof,
    /// How far apart log-probabilities may be, in the mean over tokens.
    pub tolerance: f64,
    /// Folder for logs and for the files that remember what was started.
    pub folder: PathBuf,
}

/// Names the weights in a model folder.
pub type Identify = dyn Fn(&Path) -> Result<String, EngineError> + Send;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Its URL.
    pub url: String,
    /// Which parameters it is taken to understand.
    pub dialect: String,
    /// Its software and version, where it says so.
    pub version: Option<String>,
    /// The models that it has, with their contexts where it says so.
    pub models: Vec<(String, Option<u64>)>,
}

/// Which weights a server took up, and how that was proven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedRecord {
    /// The server.
    pub server: ServerRecord,
    /// The name that it is asked for.
    pub asked_for: String,
    /// The model's folder.
    pub folder: PathBuf,
    /// Names the weights.
    pub weights: String,
    /// How far its log-probabilities are from those it was held against, in the mean; `None` where nothing was proven.
    pub distance: Option<f64>,
    /// Tokens of which it is the mean.
    pub tokens: usize,
    /// Whether log-probabilities were compared, or texts alone.
    pub by: Option<String>,
}

/// The file that remembers what was started for a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Started {
    group: Group,
    command: String,
    weights: String,
}

/// One or many servers and the model that they serve.
pub struct Servers {
    options: ServersOptions,
    identify: Box<Identify>,
    measure: Option<Box<dyn Measure>>,
    /// What was started here for each server.
    running: Vec<Option<Running>>,
    /// What a process before this one started, and still serves.
    found: Vec<Option<Group>>,
    /// Weights served now.
    serving: Option<String>,
    /// What the weights before these say to the probes, as this engine computes it of the same texts.
    former: Option<PathBuf>,
    records: Vec<ServedRecord>,
}

impl Servers {
    /// Servers of a pool. `measure` computes what they are held against; without it they are held against each other.
    ///
    /// # Errors
    /// When the number of commands is not that of the servers.
    pub fn new(
        pool: &Pool,
        options: ServersOptions,
        identify: Box<Identify>,
        measure: Option<Box<dyn Measure>>,
    ) -> Result<Servers, RemoteError> {
        let count = pool.endpoints().count();
        if let Change::Restart(commands) = &options.change
            && commands.len() != count
        {
            let message = format!("there are {} commands for {count} servers", commands.len());
            return Err(RemoteError::Setting { name: "restart", message });
        }
        let running = (0..count).map(|_| None).collect();
        let found = vec![None; count];
        Ok(Servers { options, identify, measure, running, found, serving: None, former: None, records: Vec::new() })
    }

    /// What servers have taken up since this was made.
    pub fn records(&self) -> &[ServedRecord] {
        &self.records
    }

    /// Makes all servers serve the model in `folder`, and proves it. Nothing happens where they do already.
    ///
    /// # Errors
    /// When a server does not take it up in time, or answers with other weights; [`RemoteError::Stopped`].
    pub fn serve(
        &mut self,
        pool: &mut Pool,
        folder: &Path,
        reader: Option<&dyn ReadPrompt>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), RemoteError> {
        let weights = (self.identify)(folder).map_err(RemoteError::Engine)?;
        if self.serving.as_deref() == Some(weights.as_str()) {
            return Ok(());
        }
        self.serving = None;
        match self.options.change.clone() {
            Change::Nothing => {}
            Change::Restart(commands) => self.restart(pool, folder, &weights, &commands, stop)?,
            Change::Reload(requests) => reload(pool, folder, &requests, stop)?,
        }
        let asked_for = match &self.options.model {
            Some(name) => words(pool, folder, 0).fill(name, &str::to_owned),
            None => the_only_model(pool)?,
        };
        pool.ask_for(&asked_for, Some(weights.clone()))?;
        let proven = self.prove(pool, folder, reader, stop)?;
        self.note(pool, folder, &asked_for, &weights, &proven);
        self.serving = Some(weights);
        self.former = Some(folder.to_owned());
        Ok(())
    }

    /// Ends what was started here, and forgets it.
    pub fn end(&mut self) {
        self.serving = None;
        for (place, running) in self.running.iter_mut().enumerate() {
            if let Some(mut running) = running.take() {
                running.end(GRACE);
                drop(fs::remove_file(remembered(&self.options.folder, place)));
            }
        }
        for (place, found) in self.found.iter_mut().enumerate() {
            if let Some(group) = found.take() {
                group.end(GRACE);
                drop(fs::remove_file(remembered(&self.options.folder, place)));
            }
        }
    }

    fn restart(
        &mut self,
        pool: &Pool,
        folder: &Path,
        weights: &str,
        commands: &[String],
        stop: &dyn Fn() -> bool,
    ) -> Result<(), RemoteError> {
        let mut starts = Vec::new();
        for (place, template) in commands.iter().enumerate() {
            let command = words(pool, folder, place).fill(template, &shell_word);
            starts.push(self.replace(pool, place, &command, weights)?);
        }
        let begun = Instant::now();
        for (place, answered_before) in starts.into_iter().enumerate() {
            self.wait(pool, place, begun, answered_before, stop)?;
        }
        Ok(())
    }

    /// Ends what runs for a server and starts the command, unless a process before this one left a server that was started
    /// by the same command for the same weights. Whether another server answered there already.
    fn replace(&mut self, pool: &Pool, place: usize, command: &str, weights: &str) -> Result<bool, RemoteError> {
        let file = remembered(&self.options.folder, place);
        if let Some(mut running) = self.running.get_mut(place).and_then(Option::take) {
            running.end(GRACE);
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Ok(started) = serde_json::from_str::<Started>(&text)
            && started.group.is_there()
        {
            let same = started.command == command && started.weights == weights;
            if same && is_ready(pool, place) {
                tracing::info!("{} was started before and still serves {weights}", url(pool, place));
                if let Some(found) = self.found.get_mut(place) {
                    *found = Some(started.group);
                }
                return Ok(false);
            }
            started.group.end(GRACE);
        }
        let answered_before = is_ready(pool, place);
        let log = self.options.folder.join(format!("server-{place}.log"));
        let running = Running::start(command, &log, &[])?;
        let started =
            Started { group: running.group().clone(), command: command.to_owned(), weights: weights.to_owned() };
        let text = serde_json::to_string(&started).unwrap_or_default();
        if let Some(folder) = file.parent() {
            let failed = |error: std::io::Error| RemoteError::Cache { path: folder.into(), message: error.to_string() };
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&file, text).map_err(|error| RemoteError::Cache { path: file, message: error.to_string() })?;
        tracing::info!("{}: started {command}", url(pool, place));
        if let Some(place) = self.running.get_mut(place) {
            *place = Some(running);
        }
        Ok(answered_before)
    }

    /// Until a server is ready.
    fn wait(
        &mut self,
        pool: &Pool,
        place: usize,
        begun: Instant,
        answered_before: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), RemoteError> {
        let server = || url(pool, place);
        let also = if answered_before { "; another server answered at this address before" } else { "" };
        loop {
            if stop() {
                return Err(RemoteError::Stopped);
            }
            let ended = self.running.get_mut(place).and_then(Option::as_mut).and_then(|running| {
                let status = running.ended().filter(|status| !status.success())?;
                Some(format!("its command ended with {status}{also}; the end of its log:\n{}", running.tail()))
            });
            if let Some(message) = ended {
                return Err(RemoteError::Serve { server: server(), message });
            }
            if is_ready(pool, place) {
                return Ok(());
            }
            if begun.elapsed() > self.options.ready {
                let tail = self.running.get(place).and_then(Option::as_ref).map(Running::tail).unwrap_or_default();
                let message = format!(
                    "it is not ready after {:.0} s; give it longer with engine.servers.ready_seconds, or see the end of its log:\n{tail}",
                    self.options.ready.as_secs_f64()
                );
                return Err(RemoteError::Serve { server: server(), message });
            }
            thread::sleep(LOOK);
        }
    }

    /// Holds every server against the expected weights.
    fn prove(
        &mut self,
        pool: &mut Pool,
        folder: &Path,
        reader: Option<&dyn ReadPrompt>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Option<Distance>>, RemoteError> {
        if self.options.proof == Proof::Off {
            return Ok(vec![None; self.running.len()]);
        }
        let conversations: Vec<Vec<Message>> = PROBES.iter().map(|text| vec![Message::user(*text)]).collect();
        let probes = conversations.iter().map(|messages| probe(pool, messages, reader));
        let mut probes = probes.collect::<Result<Vec<Request>, EngineError>>().map_err(RemoteError::Engine)?;
        let mut found = pool.ask_past_cache(&probes, stop)?;
        let refuses = |outcome: &Result<Answer, Failure>| {
            outcome.as_ref().is_err_and(|failure| failure.fault.kind() == FaultKind::Refused)
        };
        if found.iter().any(|(_, outcomes)| outcomes.iter().any(refuses)) {
            // Some servers know no log-probabilities and refuse to be asked for them.
            probes.iter_mut().for_each(|probe| probe.parameters.logprobs = None);
            found = pool.ask_past_cache(&probes, stop)?;
        }
        let mut servers = Vec::new();
        let mut urls = Vec::new();
        for (url, outcomes) in found {
            let answers: Vec<Answer> = outcomes.into_iter().collect::<Result<_, _>>().map_err(|failure| {
                let message = format!("it does not answer a probe: {failure}");
                RemoteError::Weights { server: url.clone(), message }
            })?;
            urls.push(url);
            servers.push(answers);
        }
        let differs = |place: usize, message: String| {
            let server = urls.get(place).cloned().unwrap_or_default();
            RemoteError::Weights { server, message }
        };
        let mut proven = vec![None; servers.len()];
        if let (Proof::Engine, Some(measure)) = (self.options.proof, &mut self.measure) {
            proven = distances(measure.as_mut(), folder, &conversations, &servers)?;
            // A folder may have gone meanwhile.
            let former = self.former.as_deref().filter(|former| *former != folder && former.is_dir());
            let before = match former {
                Some(former) => distances(measure.as_mut(), former, &conversations, &servers)?,
                None => vec![None; servers.len()],
            };
            for (place, (now, before)) in proven.iter().zip(&before).enumerate() {
                let Some(now) = now else {
                    return Err(differs(place, "it says nothing that could be compared".to_owned()));
                };
                now.judge(before.as_ref(), self.options.tolerance).map_err(|message| differs(place, message))?;
            }
        }
        if let Some((first, others)) = servers.split_first() {
            for (place, answers) in others.iter().enumerate() {
                crate::weights::same(&probes, first, answers, self.options.tolerance)
                    .map_err(|message| differs(place + 1, message))?;
            }
        }
        Ok(proven)
    }

    /// Keeps what a server took up.
    fn note(&mut self, pool: &Pool, folder: &Path, asked_for: &str, weights: &str, proven: &[Option<Distance>]) {
        for (place, found) in proven.iter().enumerate() {
            let server = pool.describe(place);
            self.records.push(ServedRecord {
                server,
                asked_for: asked_for.to_owned(),
                folder: folder.to_owned(),
                weights: weights.to_owned(),
                distance: found.as_ref().map(|found| found.mean),
                tokens: found.as_ref().map_or(0, |found| found.tokens),
                by: found.as_ref().map(|found| found.by().to_owned()),
            });
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end();
    }
}

fn remembered(folder: &Path, place: usize) -> PathBuf {
    folder.join(format!("server-{place}.pid.json"))
}

fn words<'a>(pool: &Pool, folder: &Path, place: usize) -> Words<'a> {
    let address = pool.endpoints().nth(place).map(|endpoint| &endpoint.address);
    Words(vec![
        ("model", folder.display().to_string()),
        ("host", address.map(|address| address.host().to_owned()).unwrap_or_default()),
        ("port", address.map(|address| address.port().to_string()).unwrap_or_default()),
        ("number", place.to_string()),
    ])
}

fn url(pool: &Pool, place: usize) -> String {
    pool.endpoints().nth(place).map(|endpoint| endpoint.address.url().to_owned()).unwrap_or_default()
}

/// Whether a server lists its models.
fn is_ready(pool: &Pool, place: usize) -> bool {
    let asked = pool.with(place, async |client: &Client| {
        tokio::time::timeout(Duration::from_secs(10), client.models()).await.is_ok_and(|models| models.is_ok())
    });
    asked.unwrap_or_default()
}

/// Tells each server to load the model; a try that went wrong is repeated as a question is.
fn reload(pool: &Pool, folder: &Path, requests: &[Reload], stop: &dyn Fn() -> bool) -> Result<(), RemoteError> {
    let schedule = &pool.options().schedule;
    for place in 0..pool.endpoints().count() {
        let words = words(pool, folder, place);
        for Reload { path, body } in requests {
            let filled = (words.fill(path, &str::to_owned), words.fill(body, &json_word));
            let mut failures = 0;
            loop {
                if stop() {
                    return Err(RemoteError::Stopped);
                }
                let told = pool.with(place, async |client: &Client| client.post(&filled.0, filled.1.clone()).await);
                let Some(Err(fault)) = told else { break };
                failures += 1;
                if failures > schedule.retries || matches!(fault.blame(), Blame::Request | Blame::Server) {
                    let message = format!("POST {} failed: {fault}", filled.0);
                    return Err(RemoteError::Serve { server: url(pool, place), message });
                }
                thread::sleep(schedule.backoff.wait(place as u64, failures));
            }
        }
    }
    Ok(())
}

/// The name of the model that every server has alone.
fn the_only_model(pool: &Pool) -> Result<String, RemoteError> {
    let mut name: Option<String> = None;
    for place in 0..pool.endpoints().count() {
        let failed = |message: String| RemoteError::Models { server: url(pool, place), message };
        let models = pool.models(place).map_err(|fault| failed(fault.to_string()))?;
        let [Served { name: found, .. }] = models.as_slice() else {
            let names: Vec<&str> = models.iter().take(10).map(|model| model.name.as_str()).collect();
            let message =
                format!("it has {} models; set engine.servers.model to one of: {}", models.len(), names.join(", "));
            return Err(failed(message));
        };
        if let Some(first) = name.as_ref().filter(|first| *first != found) {
            return Err(failed(format!(
                "its model is called {found}, the first server's {first}; give them one name, as with --served-model-name"
            )));
        }
        name = Some(found.clone());
    }
    Ok(name.unwrap_or_default())
}

/// A question whose answer shows the weights.
fn probe(pool: &Pool, messages: &[Message], reader: Option<&dyn ReadPrompt>) -> Result<Request, EngineError> {
    let sampling =
        Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: PROBE_TOKENS, stop: Vec::new() };
    let prompt = match reader.filter(|_| pool.takes_tokens()) {
        Some(reader) => Prompt::Tokens(reader.tokens(messages)?),
        None => Prompt::Chat(messages.to_vec()),
    };
    Ok(Request { prompt, parameters: Parameters { sampling, seed: 0, n: 1, logprobs: Some(1) } })
}

impl Pool {
    /// What a server says of itself; what it does not say is left out.
    pub fn describe(&self, place: usize) -> ServerRecord {
        let endpoint = self.endpoints().nth(place);
        let dialect = endpoint.map_or(Dialect::OpenAi, |endpoint| endpoint.address.dialect);
        let asked = self.with(place, async |client: &Client| {
            let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
            let models = client.models().await.unwrap_or_default();
            // Each kind says it elsewhere; hosted servers say nothing.
            let version = match dialect {
                Dialect::OpenAi => None,
                Dialect::Vllm => match client.get("version").await {
                    Ok(found) => found.get("version").and_then(text).map(|version| format!("vLLM {version}")),
                    Err(_) => {
                        let found = client.get("get_server_info").await.unwrap_or_default();
                        found.get("version").and_then(text).map(|version| format!("SGLang {version}"))
                    }
                },
                Dialect::LlamaCpp => {
                    let found = client.get("props").await.unwrap_or_default();
                    found.get("build_info").and_then(text).map(|version| format!("llama.cpp {version}"))
                }
            };
            (models, version)
        });
        let (models, version) = asked.unwrap_or_default();
        ServerRecord {
            url: endpoint.map(|endpoint| endpoint.address.url().to_owned()).unwrap_or_default(),
            dialect: dialect.to_string(),
            version,
            models: models.into_iter().map(|model| (model.name, model.context)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_are_read() {
        let expected = Reload { path: "/sleep?level=2".into(), body: "{}".into() };
        assert_eq!(Reload::read(" /sleep?level=2 "), expected);
        let read = Reload::read(r#"/update_weights_from_disk  {"model_path": "{model}"}"#);
        assert_eq!(
            (read.path.as_str(), read.body.as_str()),
            ("/update_weights_from_disk", r#"{"model_path": "{model}"}"#)
        );
    }
}
