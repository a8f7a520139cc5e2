//! Rank 0: the engines that the loop sees.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use metareward_api::{
    EngineError, Example, Generation, GenerationRequest, Generator, Guides, Message, ModelCard, SequenceLogProb,
    TrainData, TrainJob, TrainReport, Trainer, Watch,
};

use crate::{
    Exchange, Piece, RanksError,
    error::{of_rank, together},
    message::{Command, Guided, Job, broadcast, gather, scatter},
    rounds::{Ended, Work, beside},
    share_examples, share_requests,
};

/// Rank 0 before the others, which [`follow`](crate::follow). When one of them was asked to stop, a call that was nearly
/// over still gives its answers, and every later one that draws, measures or trains ends with [`EngineError::Stopped`].
pub struct Leader<'x> {
    exchange: &'x dyn Exchange,
    wish: Wish,
}

/// Whether a rank was asked to stop.
#[derive(Clone, Default)]
struct Wish(Arc<AtomicBool>);

impl Wish {
    fn hear(&self, stop: bool) {
        self.0.fetch_or(stop, Ordering::Relaxed);
    }

    /// Refuses to begin anything once there is the wish.
    fn refuse(&self) -> Result<(), EngineError> {
        if self.0.load(Ordering::Relaxed) { Err(EngineError::Stopped) } else { Ok(()) }
    }
}

/// Who trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// Rank 0 alone; the others wait.
    Alone,
    /// All, in lockstep, with trainers that know of each other: rank 0's gives the others what they need of the data, and
    /// the others are called with a job that has none.
    Together,
}

impl<'x> Leader<'x> {
    /// Leads the ranks that `exchange` reaches.
    pub fn new(exchange: &'x dyn Exchange) -> Self {
        Self { exchange, wish: Wish::default() }
    }

    /// A generator whose draws all ranks share; `own` draws rank 0's share.
    pub fn generator<'g>(&self, own: &'g mut dyn Generator) -> LeadingGenerator<'x, 'g> {
        LeadingGenerator { exchange: self.exchange, wish: self.wish.clone(), own }
    }

    /// A trainer whose work all ranks share; `own` does rank 0's.
    pub fn trainer<'g>(&self, own: &'g mut dyn Trainer, training: Training) -> LeadingTrainer<'x, 'g> {
        LeadingTrainer { exchange: self.exchange, wish: self.wish.clone(), own, training }
    }

    /// Lets the others end with this exit code.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn end(self, code: u8) -> Result<(), RanksError> {
        broadcast(self.exchange, Some(&Command::End(code))).map(|_| ())
    }
}

/// What all ranks answered to work that was just commanded.
fn shared<T: serde::Serialize + serde::de::DeserializeOwned>(
    exchange: &dyn Exchange,
    wish: &Wish,
    watch: &dyn Watch,
    work: impl FnOnce(&dyn Watch) -> Result<T, EngineError>,
) -> Result<Vec<T>, EngineError> {
    let Ended { outcome, stop, .. } = beside(exchange, Work::Shares, watch, work)?;
    wish.hear(stop);
    together(gather(exchange, &outcome)?.unwrap_or_default())
}

/// The generator of [`Leader::generator`].
pub struct LeadingGenerator<'x, 'g> {
    exchange: &'x dyn Exchange,
    wish: Wish,
    own: &'g mut dyn Generator,
}

impl LeadingGenerator<'_, '_> {
    /// The answers, with the requests shared out like this.
    pub(crate) fn generate_shared(
        &mut self,
        requests: &[GenerationRequest],
        shares: &[Vec<Piece>],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        let guided = Guided {
            occasion: guides.occasion,
            reshape: guides.reshape.is_some(),
            complete: guides.complete.is_some(),
        };
        broadcast(self.exchange, Some(&Command::Generate(guided)))?;
        let of_pieces = |pieces: &Vec<Piece>| pieces.iter().filter_map(|piece| part(requests, piece)).collect();
        let parts: Vec<Vec<GenerationRequest>> = shares.iter().map(of_pieces).collect();
        let own: Vec<GenerationRequest> = scatter(self.exchange, &parts)?;
        let answers = shared(self.exchange, &self.wish, watch, |watch| self.own.generate(&own, guides, watch))?;
        let mut results: Vec<Vec<Option<Generation>>> =
            requests.iter().map(|request| vec![None; request.draws.len()]).collect();
        for (rank, (pieces, answers)) in shares.iter().zip(answers).enumerate() {
            let fits = pieces.len() == answers.len()
                && pieces.iter().zip(&answers).all(|(piece, answers)| piece.draws.len() == answers.len());
            if !fits {
                let message = format!("{}the engine gave other answers than were asked for", of_rank(rank));
                return Err(EngineError::Machine(message));
            }
            for (piece, answers) in pieces.iter().zip(answers) {
                let places = results.get_mut(piece.request).and_then(|row| row.get_mut(piece.draws.clone()));
                for (place, answer) in places.into_iter().flatten().zip(answers) {
                    *place = Some(answer);
                }
            }
        }
        let missing = || EngineError::Machine("a draw was given to no rank: this is a bug".to_owned());
        results.into_iter().map(|row| row.into_iter().map(|answer| answer.ok_or_else(missing)).collect()).collect()
    }
}

/// The request with a piece's draws alone.
fn part(requests: &[GenerationRequest], piece: &Piece) -> Option<GenerationRequest> {
    let request = requests.get(piece.request)?;
    let draws = request.draws.get(piece.draws.clone())?.to_vec();
    Some(GenerationRequest { id: request.id.clone(), messages: request.messages.clone(), draws })
}

impl Generator for LeadingGenerator<'_, '_> {
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        let folder = absolute(folder)?;
        broadcast(self.exchange, Some(&Command::Load(folder.clone())))?;
        let cards = shared(self.exchange, &self.wish, &Unwatched, |_| self.own.load(&folder))?;
        let card = cards.first().cloned();
        if let Some(rank) = cards.iter().position(|other| Some(other) != card.as_ref()) {
            let message = format!("rank {rank} finds another model there than rank 0; all ranks need the same files");
            return Err(EngineError::Model { folder, message });
        }
        card.ok_or_else(|| EngineError::Machine("no rank loaded the model: this is a bug".to_owned()))
    }

    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        self.own.count_tokens(conversations)
    }

    /// As in [`Generator`]. Guides that belong to no occasion cannot be made elsewhere: rank 0 then draws alone.
    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        self.wish.refuse()?;
        if guides.occasion.is_none() && (guides.reshape.is_some() || guides.complete.is_some()) {
            return self.own.generate(requests, guides, watch);
        }
        let shares = share_requests(requests, self.exchange.size());
        self.generate_shared(requests, &shares, guides, watch)
    }
}

/// The trainer of [`Leader::trainer`].
pub struct LeadingTrainer<'x, 'g> {
    exchange: &'x dyn Exchange,
    wish: Wish,
    own: &'g mut dyn Trainer,
    training: Training,
}

impl Trainer for LeadingTrainer<'_, '_> {
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        self.wish.refuse()?;
        let folder = absolute(folder)?;
        let shares = share_examples(examples, self.exchange.size());
        broadcast(self.exchange, Some(&Command::Measure { folder: folder.clone(), max_length }))?;
        let of_indices = |of: &Vec<usize>| of.iter().filter_map(|index| examples.get(*index).cloned()).collect();
        let parts: Vec<Vec<Example>> = shares.iter().map(of_indices).collect();
        let own: Vec<Example> = scatter(self.exchange, &parts)?;
        let found = shared(self.exchange, &self.wish, watch, |watch| {
            self.own.log_probabilities(&folder, &own, max_length, watch)
        })?;
        let mut results = vec![None; examples.len()];
        for (index, found) in shares.iter().zip(found).flat_map(|(of, found)| of.iter().zip(found)) {
            if let Some(place) = results.get_mut(*index) {
                *place = Some(found);
            }
        }
        let missing = || EngineError::Machine("the engine measured fewer examples than it was given".to_owned());
        results.into_iter().map(|found| found.ok_or_else(missing)).collect()
    }

    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        self.wish.refuse()?;
        if self.training == Training::Alone {
            return self.own.train(job, watch);
        }
        let message = Job {
            model: absolute(&job.model)?,
            folder: absolute(&job.folder)?,
            fingerprint: job.fingerprint.clone(),
            iteration: job.iteration,
            preference: matches!(job.data, TrainData::Preference { .. }),
            settings: job.settings.clone(),
        };
        broadcast(self.exchange, Some(&Command::Train(Box::new(message))))?;
        let Ended { outcome, failed, stop } =
            beside(self.exchange, Work::Lockstep, watch, |watch| self.own.train(job, watch))?;
        self.wish.hear(stop);
        // Where another rank failed, rank 0 lost it, and says what it failed of.
        match (outcome, failed) {
            (Err(EngineError::Stopped), None) => Err(EngineError::Stopped),
            (_, Some(error)) => Err(error),
            (outcome, None) => outcome,
        }
    }
}

/// The folder's name wherever a process was started.
fn absolute(folder: &Path) -> Result<PathBuf, EngineError> {
    std::path::absolute(folder).map_err(|error| EngineError::Io { path: folder.to_owned(), message: error.to_string() })
}

/// For calls that show nothing.
struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: metareward_api::Progress) {}

    fn step(&self, _: &metareward_api::StepMetrics, _: f64) {}

    fn stop(&self) -> bool {
        false
    }
}
