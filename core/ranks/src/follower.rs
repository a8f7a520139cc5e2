//! The ranks after 0: they do what rank 0 wants until it ends.

use metareward_api::{
    EngineError, Example, GenerationRequest, Generator, Guides, Occasion, Optimizer, PreferenceData, PreferenceExample,
    Progress, SftData, StepMetrics, TrainData, TrainJob, Trainer, Watch,
};

use crate::{
    Exchange, RanksError,
    message::{Command, Guided, Job, broadcast, gather, scatter},
    rounds::{Ended, Work, beside},
};

/// The plugins of an experiment, which every rank makes from the same config.
pub trait Plugins {
    /// Calls `draw` with what guides the draws of an occasion.
    ///
    /// # Errors
    /// When a plugin fails; else what `draw` returns.
    fn guided(
        &self,
        occasion: Occasion,
        draw: &mut dyn FnMut(&Guides<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError>;

    /// The loss of an iteration.
    ///
    /// # Errors
    /// When there is none.
    fn optimizer(&self, iteration: u32) -> Result<&dyn Optimizer, EngineError>;
}

/// What a rank computes with.
struct Follower<'a> {
    exchange: &'a dyn Exchange,
    generator: &'a mut dyn Generator,
    trainer: &'a mut dyn Trainer,
    plugins: &'a dyn Plugins,
    watch: Stop<'a>,
}

/// Does rank 0's commands, and returns the exit code that it ends with. `stop` says whether this rank was asked to stop;
/// rank 0 hears of it and all stop.
///
/// # Errors
/// When another rank is gone; when this one fails in training, where the others cannot go on without it.
pub fn follow(
    exchange: &dyn Exchange,
    generator: &mut dyn Generator,
    trainer: &mut dyn Trainer,
    plugins: &dyn Plugins,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<u8, EngineError> {
    let mut follower = Follower { exchange, generator, trainer, plugins, watch: Stop(stop) };
    loop {
        match broadcast::<Command>(exchange, None)? {
            Command::End(code) => return Ok(code),
            command => follower.obey(command)?,
        }
    }
}

impl Follower<'_> {
    fn obey(&mut self, command: Command) -> Result<(), EngineError> {
        let Self { exchange, generator, trainer, plugins, watch } = self;
        let exchange = *exchange;
        match command {
            Command::End(_) => {}
            Command::Load(folder) => {
                let Ended { outcome, .. } = beside(exchange, Work::Shares, watch, |_| generator.load(&folder))?;
                gather(exchange, &outcome)?;
            }
            Command::Generate(guided) => {
                let own: Vec<GenerationRequest> = scatter(exchange, &[])?;
                let Ended { outcome, .. } = beside(exchange, Work::Shares, watch, |watch| {
                    let mut answers = Vec::new();
                    guiding(*plugins, guided, &mut |guides| {
                        answers = generator.generate(&own, guides, watch)?;
                        Ok(())
                    })?;
                    Ok(answers)
                })?;
                gather(exchange, &outcome)?;
            }
            Command::Measure { folder, max_length } => {
                let own: Vec<Example> = scatter(exchange, &[])?;
                let Ended { outcome, .. } = beside(exchange, Work::Shares, watch, |watch| {
                    trainer.log_probabilities(&folder, &own, max_length, watch)
                })?;
                gather(exchange, &outcome)?;
            }
            Command::Train(job) => {
                let Ended { outcome, .. } =
                    beside(exchange, Work::Lockstep, watch, |watch| train(*trainer, *plugins, *job, watch))?;
                match outcome {
                    Ok(()) | Err(EngineError::Stopped) => {}
                    // Rank 0 knows it from the rounds, and may wait for this rank in vain until it is gone.
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Draws with the guides that rank 0 has.
fn guiding(
    plugins: &dyn Plugins,
    guided: Guided,
    draw: &mut dyn FnMut(&Guides<'_>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let Some(occasion) = guided.occasion else { return draw(&Guides::default()) };
    plugins.guided(occasion, &mut |guides| {
        if (guides.reshape.is_some(), guides.complete.is_some()) != (guided.reshape, guided.complete) {
            return Err(EngineError::Machine(
                RanksError::Differs("its plugins guide the draws otherwise than those of rank 0".to_owned())
                    .to_string(),
            ));
        }
        draw(guides)
    })
}

fn train(trainer: &mut dyn Trainer, plugins: &dyn Plugins, job: Job, watch: &dyn Watch) -> Result<(), EngineError> {
    let data = match job.preference {
        false => TrainData::Sft(&Elsewhere),
        true => TrainData::Preference { data: &Elsewhere, optimizer: plugins.optimizer(job.iteration)? },
    };
    let job = TrainJob {
        model: job.model,
        folder: job.folder,
        fingerprint: job.fingerprint,
        iteration: job.iteration,
        data,
        epochs: Vec::new(),
        validation: Vec::new(),
        settings: job.settings,
    };
    trainer.train(&job, watch).map(|_| ())
}

/// Examples that rank 0 has.
struct Elsewhere;

impl SftData for Elsewhere {
    fn len(&self) -> u32 {
        0
    }

    fn example(&self, index: u32) -> Result<Example, EngineError> {
        Err(EngineError::Machine(format!("example {index} is rank 0's: this is a bug")))
    }
}

impl PreferenceData for Elsewhere {
    fn len(&self) -> u32 {
        0
    }

    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        Err(EngineError::Machine(format!("pair {index} is rank 0's: this is a bug")))
    }
}

/// Watches nothing but the wish to stop.
struct Stop<'a>(&'a (dyn Fn() -> bool + Sync));

impl Watch for Stop<'_> {
    fn progress(&self, _: Progress) {}

    fn step(&self, _: &StepMetrics, _: f64) {}

    fn stop(&self) -> bool {
        (self.0)()
    }
}
