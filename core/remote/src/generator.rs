//! A pool as the engine that continues conversations.

use std::{collections::BTreeMap, path::Path};

use metareward_api::{
    EngineError, Finish, Generation, GenerationDraw, GenerationRequest, Generator, Guides, Message, ModelCard,
    Progress, Sampling, Watch,
};

use crate::{Answer, Failure, Fault, Parameters, Pool, Prompt, RemoteError, Request, card::read_card};

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
}

/// Answers from servers. Each draw is a request of its own with its own seed, so that it can be cached, repeated and
/// answered by any of the servers; the draws of one conversation go to the same one while it lives.
pub struct RemoteGenerator {
    pool: Pool,
    reader: Option<Box<dyn ReadPrompt>>,
}

impl RemoteGenerator {
    /// Over a pool. Without a reader, or with servers that take no token ids, the servers apply the chat template.
    pub fn new(pool: Pool, reader: Option<Box<dyn ReadPrompt>>) -> RemoteGenerator {
        RemoteGenerator { pool, reader }
    }

    fn prompt(&self, messages: &[Message]) -> Result<Prompt, EngineError> {
        match self.reader.as_ref().filter(|_| self.pool.takes_tokens()) {
            Some(reader) => Ok(Prompt::Tokens(reader.tokens(messages)?)),
            None => Ok(Prompt::Chat(messages.to_vec())),
        }
    }

    /// Asks for as many requests as `total` says; each is made when it is needed.
    fn ask(
        &mut self,
        total: usize,
        request: &dyn Fn(usize) -> Request,
        watch: &dyn Watch,
        take: &mut dyn FnMut(usize, Result<Answer, Failure>),
    ) -> Result<(), EngineError> {
        let mut progress = Progress { done: 0, total: total as u64, tokens: 0 };
        let mut each = |place: u64, outcome: Result<Answer, Failure>| {
            progress.done += 1;
            let usage = outcome.as_ref().ok().and_then(|answer| answer.usage);
            progress.tokens += usage.map_or(0, |usage| u64::from(usage.prompt) + u64::from(usage.completion));
            take(place as usize, outcome);
            watch.progress(progress);
            Ok(())
        };
        self.pool.run((0..total).map(request), &mut each, &|| watch.stop()).map(drop).map_err(engine_error)
    }
}

impl Generator for RemoteGenerator {
    /// What the folder says of the model. That the servers have the same model is not seen from here.
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        if let Some(reader) = &mut self.reader {
            reader.load(folder)?;
        }
        read_card(folder)
    }

    /// By the reader or, without one, as the servers count: each conversation is asked for an answer of one token.
    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        if let Some(reader) = &self.reader {
            let lengths = conversations.iter().map(|messages| Ok(reader.tokens(messages)?.len() as u32));
            return lengths.collect();
        }
        let sampling =
            Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 1, stop: Vec::new() };
        let request = |place: usize| Request::chat(conversations[place].clone(), sampling.clone(), 0);
        let mut counts: Vec<Result<u32, String>> = vec![Err("no answer".to_owned()); conversations.len()];
        self.ask(conversations.len(), &request, &Patient, &mut |place, outcome| {
            counts[place] = match outcome {
                Ok(Answer { usage: Some(usage), .. }) => Ok(usage.prompt),
                Ok(_) => Err("the server does not count tokens".to_owned()),
                Err(failure) => Err(failure.to_string()),
            };
        })?;
        let counts: Result<Vec<u32>, String> = counts.into_iter().collect();
        counts.map_err(|why| EngineError::Machine(format!("conversations cannot be measured: {why}")))
    }

    /// As [`Generator::generate`] says, as far as servers keep to seeds. Tokens are counted by the server or, where it does
    /// not, guessed as a quarter of the text's bytes. When some requests have no answer after all tries, all others have
    /// been asked, and with a cache the same call asks for the missing ones only. `guides.complete` is not asked: answers go on
    /// to the end of the turn.
    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        if let Some(sampler) = guides.reshape {
            let message = "it gives every token's probability, which servers cannot be told".to_owned();
            let plugin = sampler.info().name;
            return Err(EngineError::Plugin { plugin, message });
        }
        let prompts: Vec<Prompt> =
            requests.iter().map(|request| self.prompt(&request.messages)).collect::<Result<_, _>>()?;
        let draws = |owner: usize| requests[owner].draws.iter().map(move |draw| (owner, draw));
        let asked: Vec<(usize, &GenerationDraw)> = (0..requests.len()).flat_map(draws).collect();
        let one = |place: usize| {
            let (owner, GenerationDraw { seed, sampling, .. }) = asked[place];
            let parameters = Parameters { sampling: sampling.clone(), seed: *seed, n: 1, logprobs: None };
            Request { prompt: prompts[owner].clone(), parameters }
        };
        for (place, (owner, _)) in asked.iter().enumerate() {
            let record = || requests[*owner].id.clone();
            let input = |error: RemoteError| EngineError::Input { record: record(), message: error.to_string() };
            self.pool.check(&one(place)).map_err(input)?;
        }
        let mut answers: Vec<Option<Generation>> = vec![None; asked.len()];
        let mut failures: BTreeMap<usize, Failure> = BTreeMap::new();
        self.ask(asked.len(), &one, watch, &mut |place, outcome| match outcome
            .map_err(Some)
            .and_then(|answer| generation(answer, asked[place].1.sampling.max_tokens).ok_or(None))
        {
            Ok(found) => answers[place] = Some(found),
            Err(Some(failure)) if context_is_full(&failure) => {
                answers[place] = Some(Generation { text: String::new(), tokens: 0, finish: Finish::Context });
            }
            Err(failure) => {
                let none = || Failure { fault: Fault::Shape("no answer in it".to_owned()), tries: 1 };
                failures.insert(place, failure.unwrap_or_else(none));
            }
        })?;
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
        Ok(results)
    }
}

fn generation(answer: Answer, max_tokens: u32) -> Option<Generation> {
    let usage = answer.usage;
    let completion = answer.completions.into_iter().next()?;
    let guess = u32::try_from(completion.text.len().div_ceil(4)).unwrap_or(u32::MAX);
    let finish = match (completion.finish, usage) {
        // It ended for its length, but not for the one we gave.
        (Finish::Length, Some(usage)) if usage.completion < max_tokens => Finish::Context,
        (finish, _) => finish,
    };
    Some(Generation { text: completion.text, tokens: usage.map_or(guess, |usage| usage.completion), finish })
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
