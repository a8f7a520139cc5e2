//! A pool as the engine that continues conversations.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use metareward_api::{
    EngineError, Finish, Generation, GenerationDraw, GenerationRequest, Generator, Guides, Message, ModelCard,
    Progress, Sampling, Watch,
};

use crate::{
    Answer, Cache, Failure, Fault, Parameters, Pool, Prompt, RemoteError, Request, Servers, Until, card::read_card,
};

/// Reads a conversation as the model would: tokenizer and chat template of a model folder. With it prompts are sent as
/// token ids, where the servers take them, and are exactly those of the engine in the process.
pub trait ReadPrompt: Send {
    /// Reads the folder's tokenizer and chat template.
    ///
    /// # Errors
    /// [`EngineError::Model`] when they cannot be used.
    fn load(&mut self, folder: &Path) -> Result<(), EngineError>;

    /// The conversation as token ids, ready for its answer.
    ///
    /// # Errors
    /// When it does not fit the chat template.
    fn tokens(&self, messages: &[Message]) -> Result<Vec<u32>, EngineError>;

    /// An answer's text as the engine in the process would have written it, and its length in tokens.
    ///
    /// # Errors
    /// When the tokenizer refuses it.
    fn answer(&self, text: &str) -> Result<(String, u32), EngineError>;
}

/// Answers from servers. Each draw is a request of its own with its own seed, so that it can be cached, repeated and
/// answered by any of the servers; the draws of one conversation go to the same one while it lives.
pub struct RemoteGenerator {
    pool: Pool,
    reader: Option<Box<dyn ReadPrompt>>,
    servers: Option<Servers>,
    /// The folder that was loaded last; servers take it up when they are asked.
    wanted: Option<PathBuf>,
    /// Where answers are kept as they come, before that is opened.
    folder: Option<PathBuf>,
    /// The last call's answers were given, so that its caller has kept them by the time of the next.
    given: bool,
    told: Box<Told>,
}

/// Is told of a model that servers have taken up.
type Told = dyn FnMut(&Servers) -> Result<(), EngineError> + Send;

impl RemoteGenerator {
    /// Over a pool. Without a reader, or with servers that take no token ids, the servers apply the chat template.
    pub fn new(pool: Pool, reader: Option<Box<dyn ReadPrompt>>) -> RemoteGenerator {
        RemoteGenerator {
            pool,
            reader,
            servers: None,
            wanted: None,
            folder: None,
            given: false,
            told: Box::new(|_| Ok(())),
        }
    }

    /// With servers that take up each model that is loaded, before they are first asked about it. `told` hears of it.
    pub fn serving(
        mut self,
        servers: Servers,
        told: impl FnMut(&Servers) -> Result<(), EngineError> + Send + 'static,
    ) -> RemoteGenerator {
        (self.servers, self.told) = (Some(servers), Box::new(told));
        self
    }

    /// Keeps answers in this folder as they come, from the first call on.
    pub fn keeping(mut self, folder: &Path) -> RemoteGenerator {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Makes the servers serve the model that was loaded last, unless they do.
    ///
    /// # Errors
    /// When a server does not take it up, or answers with other weights.
    pub fn serve(&mut self, stop: &dyn Fn() -> bool) -> Result<(), EngineError> {
        if let (Some(servers), Some(folder)) = (&mut self.servers, &self.wanted) {
            let before = servers.records().len();
            servers.serve(&mut self.pool, folder, self.reader.as_deref(), stop).map_err(engine_error)?;
            if servers.records().len() > before {
                (self.told)(servers)?;
            }
        }
        Ok(())
    }

    /// Ends the servers that were started here; they start again when they are asked. For a trainer that wants their
    /// memory.
    pub fn rest(&mut self) {
        if let Some(servers) = &mut self.servers {
            servers.end();
        }
    }

    /// Refuses what cannot be asked, before anything is.
    fn check(&self, requests: &[GenerationRequest]) -> Result<(), EngineError> {
        let reader = self.reader.as_deref().filter(|_| self.pool.takes_tokens());
        let mut checked: Option<&Sampling> = None;
        for request in requests {
            let input = |message: String| EngineError::Input { record: request.id.clone(), message };
            if let Some(reader) = reader {
                reader.tokens(&request.messages)?;
            }
            for GenerationDraw { sampling, .. } in &request.draws {
                if checked != Some(sampling) {
                    let prompt = Prompt::Chat(Vec::new());
                    let parameters = Parameters { sampling: sampling.clone(), seed: 0, n: 1, logprobs: None };
                    self.pool.check(&Request { prompt, parameters }).map_err(|error| input(error.to_string()))?;
                    checked = Some(sampling);
                }
            }
        }
        Ok(())
    }
}

/// Asks for as many requests as `total` says; each is made when it is needed.
fn ask(
    pool: &mut Pool,
    total: usize,
    request: &dyn Fn(usize) -> Request,
    until: Option<&Until<'_>>,
    (watch, stop): (&dyn Watch, &dyn Fn() -> bool),
    take: &mut dyn FnMut(usize, Result<Answer, Failure>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut progress = Progress { done: 0, total: total as u64, tokens: 0 };
    let mut failed = None;
    let mut each = |place: u64, outcome: Result<Answer, Failure>| {
        progress.done += 1;
        let usage = outcome.as_ref().ok().and_then(|answer| answer.usage);
        progress.tokens += usage.map_or(0, |usage| u64::from(usage.prompt) + u64::from(usage.completion));
        take(place as usize, outcome).map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            message
        })?;
        watch.progress(progress);
        Ok(())
    };
    let asked = pool.run_until((0..total).map(request), until, &mut each, stop);
    failed.map_or_else(|| asked.map(drop).map_err(engine_error), Err)
}

/// The answer in the loop's form. Without a reader tokens are the server's count, most of which have the token that ends a
/// turn in them; where it does not count, a quarter of the text's bytes.
fn generation(
    answer: Answer,
    max_tokens: u32,
    reader: Option<&dyn ReadPrompt>,
) -> Result<Option<Generation>, EngineError> {
    let usage = answer.usage;
    let Some(completion) = answer.completions.into_iter().next() else { return Ok(None) };
    let guess = || u32::try_from(completion.text.len().div_ceil(4)).unwrap_or(u32::MAX);
    let (text, tokens) = match reader {
        Some(reader) => reader.answer(&completion.text)?,
        None => (completion.text.clone(), usage.map_or_else(guess, |usage| usage.completion)),
    };
    let finish = match (completion.finish, usage) {
        // It ended for its length, but not for the one we gave.
        (Finish::Length, Some(usage)) if usage.completion < max_tokens => Finish::Context,
        (finish, _) => finish,
    };
    Ok(Some(Generation { text, tokens, finish }))
}

impl Generator for RemoteGenerator {
    /// What the folder says of the model. Servers that take up models do so when they are first asked.
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        if let Some(reader) = &mut self.reader {
            reader.load(folder)?;
        }
        self.wanted = Some(folder.to_owned());
        read_card(folder)
    }

    /// By the reader or, without one, as the servers count: each conversation is asked for an answer of one token.
    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        if let Some(reader) = &self.reader {
            let lengths = conversations.iter().map(|messages| Ok(reader.tokens(messages)?.len() as u32));
            return lengths.collect();
        }
        self.serve(&|| false)?;
        let sampling =
            Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 1, stop: Vec::new() };
        let request = |place: usize| Request::chat(conversations[place].clone(), sampling.clone(), 0);
        let mut counts: Vec<Result<u32, String>> = vec![Err("no answer".to_owned()); conversations.len()];
        let mut take = |place: usize, outcome: Result<Answer, Failure>| {
            counts[place] = match outcome {
                Ok(Answer { usage: Some(usage), .. }) => Ok(usage.prompt),
                Ok(_) => Err("the server does not count tokens".to_owned()),
                Err(failure) => Err(failure.to_string()),
            };
            Ok(())
        };
        ask(&mut self.pool, conversations.len(), &request, None, (&Patient, &|| false), &mut take)?;
        let counts: Result<Vec<u32>, String> = counts.into_iter().collect();
        counts.map_err(|why| EngineError::Machine(format!("conversations cannot be measured: {why}")))
    }

    /// As [`Generator::generate`] says, as far as servers keep to seeds. An answer that `guides.complete` ends comes as a
    /// stream, of which the rest is not waited for; its tokens are those of its text. When some requests have no answer after
    /// all tries, all others have been asked, and with a cache the same call asks for the missing ones only. The cache holds
    /// the answers of one call: by the next one its caller has kept them.
    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        if let Some(sampler) = guides.reshape {
            let message =
                "it gives every token's probability, which servers cannot be told; use a sampler that says all \
                           by its parameters, or the engine of this process"
                    .to_owned();
            let plugin = sampler.info().name;
            return Err(EngineError::Plugin { plugin, message });
        }
        self.check(requests)?;
        self.serve(&|| watch.stop())?;
        if let Some(folder) = self.folder.take() {
            self.pool.keep(Cache::open(&folder).map_err(engine_error)?);
        }
        if std::mem::take(&mut self.given)
            && let Some(cache) = self.pool.cache_mut()
        {
            cache.clear().map_err(engine_error)?;
        }
        let as_tokens = self.pool.takes_tokens();
        let RemoteGenerator { pool, reader, .. } = self;
        let reader = reader.as_deref();
        let draws = |owner: usize| requests[owner].draws.iter().map(move |draw| (owner, draw));
        let asked: Vec<(usize, &GenerationDraw)> = (0..requests.len()).flat_map(draws).collect();
        // Prompts are made when they are needed, and the draws of one conversation follow each other.
        let made: RefCell<Option<(usize, Prompt)>> = RefCell::new(None);
        let one = |place: usize| {
            let (owner, GenerationDraw { seed, sampling, .. }) = asked[place];
            let mut made = made.borrow_mut();
            let prompt = match made.take().filter(|(of, _)| *of == owner) {
                Some((_, prompt)) => prompt,
                None => {
                    let messages = &requests[owner].messages;
                    let tokens = reader.filter(|_| as_tokens).and_then(|reader| reader.tokens(messages).ok());
                    tokens.map_or_else(|| Prompt::Chat(messages.clone()), Prompt::Tokens)
                }
            };
            *made = Some((owner, prompt.clone()));
            Request { prompt, parameters: Parameters { sampling: sampling.clone(), seed: *seed, n: 1, logprobs: None } }
        };
        // A guide that fails ends the call.
        let failed: Mutex<Option<EngineError>> = Mutex::new(None);
        let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let complete = guides.complete.map(|complete| {
            |line: &str| {
                complete(line).unwrap_or_else(|error| {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    false
                })
            }
        });
        let until: Option<&Until<'_>> = complete.as_ref().map(|complete| complete as &Until<'_>);
        let mut answers: Vec<Option<Generation>> = vec![None; asked.len()];
        let mut failures: BTreeMap<usize, Failure> = BTreeMap::new();
        let mut take = |place: usize, outcome: Result<Answer, Failure>| {
            match outcome {
                Ok(answer) => match generation(answer, asked[place].1.sampling.max_tokens, reader)? {
                    Some(found) => answers[place] = Some(found),
                    None => {
                        let fault = Fault::Shape("no answer in it".to_owned());
                        failures.insert(place, Failure { fault, tries: 1 });
                    }
                },
                Err(failure) if context_is_full(&failure) => {
                    answers[place] = Some(Generation { text: String::new(), tokens: 0, finish: Finish::Context });
                }
                Err(failure) => drop(failures.insert(place, failure)),
            }
            Ok(())
        };
        let stop = || watch.stop() || has_failed();
        let ended = ask(pool, asked.len(), &one, until, (watch, &stop), &mut take);
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        ended?;
        if let Some((place, failure)) = failures.first_key_value() {
            let record = asked.get(*place).map_or("", |(owner, _)| requests[*owner].id.as_str());
            let (missing, all) = (failures.len(), asked.len());
            return Err(EngineError::Machine(format!(
                "{missing} of {all} answers are missing; the first, {record}: {failure}"
            )));
        }
        let mut results: Vec<Vec<Generation>> =
            requests.iter().map(|request| Vec::with_capacity(request.draws.len())).collect();
        for ((owner, _), answer) in asked.into_iter().zip(answers) {
            results[owner].extend(answer);
        }
        self.given = true;
        Ok(results)
    }
}

/// Servers refuse a prompt that leaves no room for an answer, each in its own words.
fn context_is_full(failure: &Failure) -> bool {
    let Fault::Status { status: 400 | 413 | 422, message, .. } = &failure.fault else { return false };
    let message = message.to_lowercase();
    message.contains("context")
        && ["length", "size", "exceed", "maximum", "longer"].iter().any(|word| message.contains(word))
}

fn engine_error(error: RemoteError) -> EngineError {
    match error {
        RemoteError::Stopped => EngineError::Stopped,
        RemoteError::Cache { path, message } => EngineError::Io { path, message },
        RemoteError::Engine(error) => error,
        error => EngineError::Machine(error.to_string()),
    }
}

/// Watches nothing.
struct Patient;

impl Watch for Patient {
    fn progress(&self, _progress: Progress) {}

    fn step(&self, _metrics: &metareward_api::StepMetrics, _seconds: f64) {}

    fn stop(&self) -> bool {
        false
    }
}
