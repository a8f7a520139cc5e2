//! Speeds of log-probabilities and training, on pairs of a sample.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use metareward_api::{
    EngineError, Example, Optimizer, PreferenceData, PreferenceExample, Progress, StepMetrics, TrainData, TrainJob,
    TrainSettings, Trainer, Watch,
};
use metareward_runtime::{
    Config,
    plan::{Figure, Trained},
};

use crate::{
    engine::{self, Settings},
    failure::{Code, Failure},
    interrupt,
};

/// What training showed, a value for every repeat.
#[derive(Default)]
pub struct Trainings {
    tokens_per_second: Vec<f64>,
    outside: Vec<f64>,
    sequence: f64,
}

impl Trainings {
    /// Adds a repeat: tokens per second within steps, seconds outside of them, tokens of a sequence.
    pub fn add(&mut self, (tokens_per_second, outside, sequence): (f64, f64, f64)) {
        self.tokens_per_second.push(tokens_per_second);
        self.outside.push(outside);
        self.sequence = sequence;
    }

    /// The figures, where anything was trained.
    pub fn figures(self, config: &Config) -> Option<Trained> {
        (!self.outside.is_empty()).then(|| Trained {
            batch_size: config.train.batch_size.at(1).copied().unwrap_or(1),
            sequence: self.sequence,
            tokens_per_second: Figure::of(self.tokens_per_second),
            outside_seconds: Figure::of(self.outside),
        })
    }
}

/// Counts tokens and the seconds of steps.
#[derive(Default)]
struct Stopwatch {
    tokens: Mutex<u64>,
    steps: Mutex<f64>,
}

impl Watch for Stopwatch {
    fn progress(&self, progress: Progress) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = progress.tokens;
    }

    fn step(&self, _: &StepMetrics, seconds: f64) {
        *self.steps.lock().unwrap_or_else(PoisonError::into_inner) += seconds;
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}

impl Stopwatch {
    fn tokens(&self) -> Result<f64, Failure> {
        match *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) {
            0 => Err(Failure::new(Code::Bug, "the engine did not say how many tokens it computed")),
            tokens => Ok(tokens as f64),
        }
    }
}

/// Tokens per second of the log-probabilities of both sides of every pair, loading included as a run has it. The pairs have
/// them as their reference then.
///
/// # Errors
/// What the engine says.
pub fn log_probabilities(
    settings: &Settings,
    config: &Config,
    folder: &Path,
    pairs: &mut [PreferenceExample],
) -> Result<f64, Failure> {
    let examples: Vec<Example> = pairs
        .iter()
        .flat_map(|pair| {
            [&pair.chosen, &pair.rejected].map(|completion| Example {
                id: pair.id.clone(),
                messages: pair.messages.clone(),
                completion: completion.clone(),
            })
        })
        .collect();
    let mut trainer = settings.trainer(folder)?;
    let watch = Stopwatch::default();
    let began = Instant::now();
    let found =
        trainer.log_probabilities(folder, &examples, config.train.max_length, &watch).map_err(engine::failure)?;
    let seconds = began.elapsed().as_secs_f64();
    for (pair, found) in pairs.iter_mut().zip(found.chunks(2)) {
        if let [chosen, rejected] = found {
            (pair.reference_chosen, pair.reference_rejected) = (chosen.sum, rejected.sum);
        }
    }
    Ok(watch.tokens()? / seconds)
}

struct Pairs<'a>(&'a [PreferenceExample]);

impl PreferenceData for Pairs<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        let missing = || EngineError::Input { record: format!("pair {index}"), message: "is not there".into() };
        self.0.get(index as usize).cloned().ok_or_else(missing)
    }
}

/// Trains on steps of the config's size, pairs taken in turn: tokens per second within steps, seconds outside of them, and
/// tokens of a sequence.
///
/// # Errors
/// What the engine says.
pub fn train(
    settings: &Settings,
    config: &Config,
    (model, work): (&Path, &Path),
    pairs: &[PreferenceExample],
    (optimizer, steps): (&dyn Optimizer, usize),
) -> Result<(f64, f64, f64), Failure> {
    let section = &config.train;
    let batch = section.batch_size.at(1).copied().unwrap_or(1).max(1) as usize;
    let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX).max(1);
    let order: Vec<u32> = (0..count).cycle().take(steps * batch).collect();
    let data = Pairs(pairs);
    let job = TrainJob {
        model: model.to_owned(),
        folder: work.to_owned(),
        fingerprint: "bench".to_owned(),
        iteration: 1,
        data: TrainData::Preference { data: &data, optimizer },
        epochs: vec![order.chunks(batch).map(<[u32]>::to_vec).collect()],
        validation: Vec::new(),
        settings: TrainSettings {
            learning_rate: section.learning_rate.at(1).copied().unwrap_or_default(),
            lr_schedule: section.lr_schedule,
            warmup_steps: 0,
            schedule_steps: u32::try_from(steps).unwrap_or(u32::MAX),
            weight_decay: section.weight_decay,
            adam_beta1: section.adam_beta1,
            adam_beta2: section.adam_beta2,
            adam_epsilon: section.adam_epsilon,
            max_grad_norm: section.max_grad_norm,
            max_length: section.max_length,
            micro_batch_tokens: section.micro_batch_tokens,
            activation_checkpointing: section.activation_checkpointing,
            lora: section.lora.clone(),
            save_steps: 0,
            weights: section.weights,
            optimizer_state: section.optimizer_state,
            gradients: section.gradients,
        },
    };
    let mut trainer = settings.trainer(model)?;
    let watch = Stopwatch::default();
    let began = Instant::now();
    trainer.train(&job, &watch).map_err(engine::failure)?;
    let whole = began.elapsed().as_secs_f64();
    let within = *watch.steps.lock().unwrap_or_else(PoisonError::into_inner);
    let tokens = watch.tokens()?;
    Ok((tokens / within, (whole - within).max(0.0), tokens / (2.0 * order.len() as f64)))
}
