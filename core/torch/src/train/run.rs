//! A training run from its first step, or from where it stopped, to its last epoch's model.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    sync::Arc,
    time::Instant,
};

use metareward_api::{EngineError, EpochReport, Progress, StepMetrics, TrainData, TrainJob, TrainReport, Watch};
use tch::Tensor;

use super::{
    encoded::Encoded,
    fitted::fitted,
    learner::Learner,
    ranks::{self, Order, What},
    state::{EpochRecord, Held, Position, TrainingFolder},
    worker::{Failure, Objective, Sums, Unit},
};
use crate::{Group, Precision, error::TorchError, save::save_model};

/// Records evaluated between two looks at [`Watch::stop`].
const VALIDATION_WINDOW: usize = 256;

/// Everything that a run changes as it goes.
pub(crate) struct Run<'a> {
    pub job: &'a TrainJob<'a>,
    pub watch: &'a dyn Watch,
    pub folder: TrainingFolder,
    pub position: Position,
    pub encoder: Encoded,
    pub learner: Learner,
    /// The processes that follow this one.
    pub group: Option<Arc<Group>>,
    /// Whether they have left the run by a failure that all know of.
    pub left: bool,
    pub precision: Precision,
    /// Tokens of a micro-batch: what the settings say, or less where there was no memory for that.
    pub limit: u32,
    pub total_steps: u32,
    pub tokens: u64,
}

impl Run<'_> {
    /// Takes all steps that are left. The other processes end with it, however it ends.
    pub fn train(mut self) -> Result<TrainReport, EngineError> {
        let report = self.steps();
        // A failure of the computation has been said to all of them, and they have ended by it.
        if let Some(group) = self.group.as_ref().filter(|_| !self.left) {
            let ended = ranks::order(group, &Order::End);
            if report.is_ok() {
                ended?;
            }
        }
        report
    }

    fn steps(&mut self) -> Result<TrainReport, EngineError> {
        let mut log = self.open_log()?;
        let mut before = 0;
        for (index, steps) in self.job.epochs.iter().enumerate() {
            let first = before;
            before += steps.len();
            if index < self.position.epochs.len() {
                continue;
            }
            for batch in &steps[(self.position.step as usize).saturating_sub(first)..] {
                if self.watch.stop() {
                    return self.stopped();
                }
                let started = Instant::now();
                let step = self.position.step + 1;
                let metrics = match self.step(index, batch) {
                    Ok(metrics) => metrics,
                    Err(Failure::Engine(EngineError::Stopped)) => return self.stopped(),
                    Err(failure) => return Err(failure.at(step)),
                };
                self.write_log(&mut log, &metrics)?;
                self.watch.step(&metrics, started.elapsed().as_secs_f64());
                self.watch.progress(Progress {
                    done: u64::from(step),
                    total: u64::from(self.total_steps),
                    tokens: self.tokens,
                });
                let save = self.job.settings.save_steps;
                if save > 0 && step.is_multiple_of(save) && (step as usize) < before {
                    self.save()?;
                }
            }
            self.end_epoch(index, steps.len())?;
        }
        self.position.finished = true;
        self.folder.save(&self.position, &[], Held::All)?;
        Ok(report(self.job, &self.folder, &self.position))
    }

    /// One optimizer step on the records `batch`.
    fn step(&mut self, epoch: usize, batch: &[u32]) -> Result<StepMetrics, Failure> {
        let step = self.position.step + 1;
        let units = self.records(batch)?;
        let cut = |unit: &Unit| unit.sequences.iter().any(|sequence| sequence.truncated);
        let truncated: Vec<u32> =
            batch.iter().zip(&units).filter(|(_, unit)| cut(unit)).map(|(index, _)| *index).collect();
        let objective = objective(self.job.data, &units);
        let Self { watch, learner, limit, group, left, job, .. } = self;
        let sums = match group {
            Some(group) => {
                let found = ranks::compute(learner, group, What::Step(step), &units, job.data, limit);
                *left = found.is_err();
                found?
            }
            None => fitted(learner, &units, limit, |learner, batches| {
                learner.gradients(&units, batches, batches.len(), objective, &|| watch.stop())
            })?,
        };
        let mut metrics = metrics(&sums, objective);
        let norm = self.learner.norm()?;
        if !norm.is_finite() {
            self.left = true;
            return Err(Failure::NotFinite {
                records: units.iter().map(|unit| unit.id.clone()).collect(),
                message: "the gradient is not finite".to_owned(),
            });
        }
        if step == 1 {
            self.position.first_loss = metrics.loss;
            self.check_start(&units, &sums, metrics.loss).map_err(Failure::Engine)?;
        }
        let rate = self.learner.update(step, norm, &self.job.settings)?;
        metrics.step = step;
        metrics.epoch = epoch as u32 + 1;
        metrics.gradient_norm = norm;
        metrics.learning_rate = rate;
        self.position.step = step;
        self.position.epoch_loss += metrics.loss;
        self.position.truncated.extend(truncated);
        self.tokens += sums.tokens;
        Ok(metrics)
    }

    /// Compares the first loss with the one that the method fixes for a policy equal to its reference.
    fn check_start(&self, units: &[Unit], sums: &Sums, loss: f64) -> Result<(), EngineError> {
        let TrainData::Preference { optimizer, .. } = self.job.data else { return Ok(()) };
        let failed = |error: metareward_api::PluginError| EngineError::Plugin {
            plugin: optimizer.info().name,
            message: error.message,
        };
        if !optimizer.needs_reference().map_err(failed)? {
            return Ok(());
        }
        let Some(start) = optimizer.loss_at_start().map_err(failed)? else { return Ok(()) };
        let weight = units.iter().map(|unit| unit.weight).sum::<f64>() / units.len() as f64;
        let tolerance = match self.precision {
            Precision::F32 => 1e-4,
            Precision::Bf16 => 2e-2,
        };
        let expected = start * weight;
        if (loss - expected).abs() > tolerance {
            tracing::warn!(
                loss,
                expected,
                farthest = sums.farthest,
                "the first step's loss is not that of a policy equal to its reference: the reference log-probabilities are \
                 those of another model, or of other tokens; the farthest is off by `farthest`"
            );
        }
        Ok(())
    }

    fn end_epoch(&mut self, index: usize, steps: usize) -> Result<(), EngineError> {
        let validation_loss = match self.validate() {
            Ok(loss) => loss,
            Err(Failure::Engine(EngineError::Stopped)) => return self.stopped(),
            Err(failure) => return Err(failure.at(self.position.step)),
        };
        let tensors = self.tensors()?;
        self.folder.publish(&self.folder.epoch(index + 1), |folder| {
            Ok(save_model(&self.job.model, folder, &tensors, self.precision)?)
        })?;
        let train_loss = self.position.epoch_loss / steps as f64;
        self.position.epochs.push(EpochRecord { train_loss, validation_loss });
        self.position.epoch_loss = 0.0;
        if self.position.epochs.len() < self.job.epochs.len() {
            self.save()?;
        }
        Ok(())
    }

    /// Mean loss on the held-out records: over completion tokens, or over pairs.
    fn validate(&mut self) -> Result<Option<f64>, Failure> {
        let job = self.job;
        if job.validation.is_empty() {
            return Ok(None);
        }
        let watch = self.watch;
        let mut total = Sums::default();
        for window in job.validation.chunks(VALIDATION_WINDOW) {
            let units = self.records(window)?;
            let objective = objective(job.data, &units);
            let Self { learner, limit, group, left, .. } = self;
            let sums = match group {
                Some(_) if watch.stop() => return Err(Failure::Engine(EngineError::Stopped)),
                Some(group) => {
                    let found = ranks::compute(learner, group, What::Loss, &units, job.data, limit);
                    *left = found.is_err();
                    found?
                }
                None => fitted(learner, &units, limit, |learner, batches| {
                    learner.evaluate(&units, batches, batches.len(), objective, &|| watch.stop())
                })?,
            };
            total.add(&sums);
        }
        let count = match job.data {
            TrainData::Sft(_) => total.trained_tokens as f64,
            TrainData::Preference { .. } => total.pairs as f64,
        };
        Ok(Some(total.loss / count))
    }

    fn records(&mut self, indices: &[u32]) -> Result<Vec<Unit>, Failure> {
        let units = self.encoder.records(self.job.data, indices, self.learner.team.size()).map_err(Failure::Engine)?;
        // What is no number does not travel.
        let broken = |unit: &&Unit| !unit.reference.iter().chain([&unit.weight]).all(|number| number.is_finite());
        let records: Vec<String> = units.iter().filter(broken).map(|unit| unit.id.clone()).collect();
        if self.group.is_some() && !records.is_empty() {
            let message = "a pair's weight or reference log-probability is not finite".to_owned();
            return Err(Failure::NotFinite { records, message });
        }
        Ok(units)
    }

    /// The model's tensors as they are now.
    fn tensors(&self) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let (Some(group), Some(gathering)) = (&self.group, &self.learner.gathering) else {
            let model = self.learner.trainable.merged()?;
            let tensors = model.weights().tensors();
            return Ok(tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect());
        };
        ranks::order(group, &Order::Publish)?;
        let layout = &self.learner.trainable.layout;
        let mut bytes = Vec::new();
        ranks::write_pieces(group, &gathering.share, &mut bytes)?
            .map_err(|error| EngineError::Machine(error.to_string()))?;
        let all = Tensor::f_from_data_size(&bytes, &[layout.length()], gathering.share.kind());
        let flat = layout.flat(all.map_err(TorchError::from)?)?;
        Ok(layout.slots().iter().map(|slot| slot.name.clone()).zip(flat.views).collect())
    }

    fn save(&mut self) -> Result<(), EngineError> {
        let asked = self.job.settings.micro_batch_tokens;
        // Sums in other micro-batches differ in their last bits, so a resumed run goes on with the same ones.
        self.position.micro_batch_tokens = (self.limit < asked).then_some(self.limit);
        let held = match (&self.group, &self.learner.exchange) {
            (Some(group), Some(exchange)) if exchange.sharded() => {
                ranks::order(group, &Order::Save)?;
                let length = self.learner.trainable.layout.length();
                Held::From(exchange.own(length).start, length, group)
            }
            _ => Held::All,
        };
        self.folder.save(&self.position, &self.learner.state()?, held)
    }

    fn stopped<T>(&mut self) -> Result<T, EngineError> {
        self.save()?;
        Err(EngineError::Stopped)
    }

    fn open_log(&self) -> Result<File, EngineError> {
        let path = self.folder.log();
        OpenOptions::new().create(true).append(true).open(&path).map_err(|error| TorchError::io(&path, &error).into())
    }

    fn write_log(&mut self, log: &mut File, metrics: &StepMetrics) -> Result<(), EngineError> {
        let path = self.folder.log();
        let io = |error: std::io::Error| EngineError::from(TorchError::io(&path, &error));
        let mut line = serde_json::to_vec(metrics).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        log.write_all(&line).map_err(io)?;
        self.position.log_bytes += line.len() as u64;
        Ok(())
    }
}

/// What a run that has come to `position` reports.
pub(crate) fn report(job: &TrainJob<'_>, folder: &TrainingFolder, position: &Position) -> TrainReport {
    TrainReport {
        epochs: position
            .epochs
            .iter()
            .enumerate()
            .map(|(index, record)| EpochReport {
                epoch: index as u32 + 1,
                folder: folder.epoch(index + 1),
                train_loss: record.train_loss,
                validation_loss: record.validation_loss,
            })
            .collect(),
        steps: job.epochs.iter().map(|steps| steps.len() as u32).sum(),
        first_loss: position.first_loss,
        truncated: position.truncated.len() as u32,
    }
}

fn objective<'a>(data: TrainData<'a>, units: &[Unit]) -> Objective<'a> {
    match data {
        TrainData::Sft(_) => Objective::Sft { tokens: units.iter().map(Unit::completion_tokens).sum() },
        TrainData::Preference { optimizer, .. } => Objective::Preference { pairs: units.len(), optimizer },
    }
}

fn metrics(sums: &Sums, objective: Objective<'_>) -> StepMetrics {
    let mut metrics = StepMetrics { tokens: sums.trained_tokens, ..StepMetrics::default() };
    match objective {
        Objective::Sft { tokens } => metrics.loss = sums.loss / tokens as f64,
        Objective::Preference { pairs, .. } => {
            let mean = |sum: f64| Some(sum / pairs as f64);
            metrics.loss = sums.loss / pairs as f64;
            metrics.reward_chosen = mean(sums.reward_chosen);
            metrics.reward_rejected = mean(sums.reward_rejected);
            metrics.margin = mean(sums.reward_chosen - sums.reward_rejected);
            metrics.accuracy = mean(sums.correct as f64);
            metrics.logp_chosen = mean(sums.logp_chosen);
            metrics.logp_rejected = mean(sums.logp_rejected);
            metrics.extra = sums.extra.iter().map(|(name, sum)| (name.clone(), sum / pairs as f64)).collect();
        }
    }
    metrics
}
