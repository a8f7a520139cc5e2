//! A generator over servers that the trainer can tell to rest.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metareward_api::{
    EngineError, Example, Generation, GenerationRequest, Generator, Guides, Message, ModelCard, SequenceLogProb,
    TrainJob, TrainReport, Trainer, Watch,
};
use metareward_remote::RemoteGenerator;

/// A generator that two sides hold.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<RemoteGenerator>>);

impl Shared {
    /// Shares a generator.
    pub fn new(generator: RemoteGenerator) -> Self {
        Self(Arc::new(Mutex::new(generator)))
    }

    fn lock(&self) -> MutexGuard<'_, RemoteGenerator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generator for Shared {
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        self.lock().load(folder)
    }

    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        self.lock().count_tokens(conversations)
    }

    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        self.lock().generate(requests, guides, watch)
    }
}

/// A trainer beside servers: the first training of a new run waits until they have served the seed model, so that one that
/// cannot is known before hours are spent; and where they share its memory they rest while it works.
pub struct BesideServers<'a> {
    /// What trains.
    pub trainer: &'a mut dyn Trainer,
    /// The servers.
    pub servers: Shared,
    /// Whether they are still to be tried.
    pub try_first: bool,
    /// Whether they rest.
    pub rest: bool,
}

impl BesideServers<'_> {
    fn prepare(&mut self, watch: &dyn Watch) -> Result<(), EngineError> {
        if std::mem::take(&mut self.try_first) {
            self.servers.lock().serve(&|| watch.stop())?;
        }
        if self.rest {
            self.servers.lock().rest();
        }
        Ok(())
    }
}

impl Trainer for BesideServers<'_> {
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        self.prepare(watch)?;
        self.trainer.log_probabilities(folder, examples, max_length, watch)
    }

    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        self.prepare(watch)?;
        self.trainer.train(job, watch)
    }
}
