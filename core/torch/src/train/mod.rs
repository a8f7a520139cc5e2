//! Training and log-probabilities.
//!
//! A training run is [`TorchTrainer::train`]. An optimizer step takes the records that the job names for it, splits them
//! into micro-batches of similar length, and adds up their gradients in f32:
//!
//! 1. the trunk runs to the hidden states after the final norm;
//! 2. the hidden states that predict completion tokens go through the output projection, some rows at a time, and come
//!    back as log-probabilities;
//! 3. the loss (cross-entropy, or the optimizer plugin's) says what each completion's log-probability weighs in the
//!    gradient, and the projection's gradient is made by hand, again some rows at a time;
//! 4. the gradient of the hidden states goes back through the trunk.
//!
//! Then the gradient is clipped and AdamW updates the weights: f32 ones, or bf16 ones with f32 masters or another of the
//! forms in [`WeightUpdates`](metareward_api::WeightUpdates). The same job gives the same bytes, on any number of worker
//! threads and however often it was stopped.
//!
//! On several processes ([`TorchTrainer::in_group`]) every process computes some of a step's records, and their gradients are
//! added up before the update; the result differs from one process's by rounding alone. See `ranks`.

mod adamw;
mod batch;
mod eight_bit;
mod encode;
mod encoded;
mod fitted;
mod fused;
mod head;
mod learner;
mod memory;
mod native;
mod parameters;
mod ranks;
mod rounding;
mod run;
mod schedule;
mod state;
mod step;
mod trainable;
mod trunk;
mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use metareward_api::{
    EngineError, Example, GradientSum, Progress, SequenceLogProb, TrainData, TrainJob, TrainReport, TrainSettings,
    Trainer, Watch, WeightUpdates,
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use self::{
    adamw::AdamW,
    encode::Encoder,
    encoded::Encoded,
    fitted::{fitted, no_room},
    learner::Learner,
    memory::bytes_each,
    native::NativeWorker,
    parameters::Layout,
    ranks::{Begin, Exchange, Flaw, Outcome, Shares},
    run::{Run, report},
    state::{Held, TrainingFolder},
    step::{Team, set_own_threads},
    trainable::{Trainable, seed},
    trunk::Trunk,
    worker::{TensorWorker, Unit, Worker},
};
pub use self::{
    memory::{Forms, Load, Memory, training_memory},
    schedule::learning_rate,
};
use crate::{
    DeviceChoice, Group, Precision, chat::TemplateDate, error::TorchError, model::CausalLm, prompting::Prompting,
};

/// Parameters up to which micro-batches run side by side on the CPU, one thread each. Larger models run one micro-batch
/// at a time with all threads inside the operations: their gradients would not fit in memory several times.
const SMALL_MODEL: u64 = 50_000_000;

/// Records measured between two looks at [`Watch::stop`].
const WINDOW: usize = 2048;

/// How training uses the machine. Nothing here changes what is learned, but for rounding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainerOptions {
    /// Where tensors live.
    pub device: DeviceChoice,
    /// What the model computes in. How the weights take updates, and what moments and gradient sums are kept in, is said by
    /// the job's settings.
    pub precision: Precision,
    /// CPU threads; 0 takes all cores.
    pub threads: u32,
    /// Threads inside one operation on the CPU; micro-batches run on `threads / intra_op` threads side by side. 0 decides by
    /// the size of the model: 1 up to 50 million parameters, all threads above.
    pub intra_op: u32,
    /// Padded tokens per forward pass when log-probabilities are measured; training has its own setting.
    pub measure_tokens: u32,
    /// Use our own kernels where they can compute the job, which is f32 on the CPU without adapters; else libtorch
    /// computes everything.
    pub kernels: bool,
    /// Bytes of activations that a thread may hold with our own kernels; 0 for what the machine has. A micro-batch that needs
    /// more is cut in two.
    pub activation_bytes: u64,
    /// The day that chat templates see as today.
    pub date: TemplateDate,
    /// What the processes of a group share out among themselves.
    pub sharding: Sharding,
    /// Bytes of a gradient that processes exchange at a time, at least: small enough that much of it travels while the rest
    /// is computed, large enough that a message is worth it.
    pub bucket_bytes: u64,
}

/// What the processes of a group share out among themselves; what is shared out, a process has 1/n of. Every one takes more
/// exchange than the one before it. The stages are those of ZeRO (Rajbhandari et al. 2020).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharding {
    /// Nothing: every process has all weights, gradients and moments (data parallel).
    #[default]
    None,
    /// AdamW's moments, and what is kept beside bf16 weights (ZeRO 1).
    Optimizer,
    /// These, and the gradient (ZeRO 2). Our own kernels cannot, so libtorch computes.
    Gradients,
    /// These, and the weights (ZeRO 3): they are put together layer by layer, forwards and backwards, and activations are
    /// computed again on the way back. Not with adapters, where nearly all weights stay as they are.
    Parameters,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::default(),
            precision: Precision::default(),
            threads: 0,
            intra_op: 0,
            measure_tokens: 2048,
            kernels: true,
            activation_bytes: 0,
            date: TemplateDate::default(),
            sharding: Sharding::default(),
            bucket_bytes: 25 << 20,
        }
    }
}

/// The [`Trainer`] on libtorch.
#[derive(Default)]
pub struct TorchTrainer {
    options: TrainerOptions,
    measuring: Option<Measuring>,
    group: Option<Arc<Group>>,
}

/// A model that log-probabilities are measured with. It stays between calls, which come shard by shard.
struct Measuring {
    stamp: Stamp,
    encoder: Encoder,
    team: Team,
    intra_op: i32,
}

/// A model folder as it was read: its files with their sizes and times, and what the encoder depends on.
#[derive(PartialEq, Eq)]
struct Stamp {
    files: Vec<(PathBuf, u64, Option<SystemTime>)>,
    max_length: u32,
}

fn stamp(folder: &Path, max_length: u32) -> Result<Stamp, TorchError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|_| TorchError::model(folder, "there is no such folder"))? {
        let found = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
        let (path, metadata) = found.map_err(|error| TorchError::io(folder, &error))?;
        files.push((path, metadata.len(), metadata.modified().ok()));
    }
    files.sort();
    Ok(Stamp { files, max_length })
}

impl TorchTrainer {
    /// A trainer that uses the machine as `options` say.
    pub fn new(options: TrainerOptions) -> Self {
        Self { options, measuring: None, group: None }
    }

    /// One of several trainers that train together, each in a process of its own. All of them are called with the same job;
    /// that of process 0 is the one that counts, reads the data and keeps log, state and models, and its settings and
    /// sharding hold for all. The others need nothing but the loss of preference data. Every process reads the model's
    /// folder, and the saved state, under the name that process 0 gives.
    ///
    /// Log-probabilities are measured by each for itself.
    pub fn in_group(options: TrainerOptions, group: Arc<Group>) -> Self {
        Self { options, measuring: None, group: Some(group) }
    }

    fn load(&self, folder: &Path) -> Result<CausalLm, TorchError> {
        CausalLm::load(folder, self.options.device.resolve()?, self.options.precision)
    }

    /// Reads tokenizer and template; sequences are cut to `max_length` and to the model's context.
    fn encoder(&self, folder: &Path, model: &CausalLm, max_length: u32) -> Result<Encoder, TorchError> {
        let limit = i64::from(max_length).min(model.config().context);
        let prompting = Prompting::read(folder, model.config(), self.options.date)?;
        Ok(Encoder::new(prompting, usize::try_from(limit).unwrap_or(0)))
    }

    /// The model in `folder`, ready to measure with.
    fn measuring(&self, folder: &Path, max_length: u32, stamp: Stamp) -> Result<Measuring, EngineError> {
        let model = self.load(folder)?;
        let encoder = self.encoder(folder, &model, max_length)?;
        let native = self.native(&model);
        let (workers, intra_op) = self.threads(&model, native);
        let nothing = Layout::empty();
        let workers = (0..workers)
            .map(|_| {
                Ok(if native {
                    Worker::Native(Box::new(NativeWorker::new(&model, &nothing, false, self.options.activation_bytes)?))
                } else {
                    let trunk = Trunk::new(model.share()?, &nothing, Vec::new(), false);
                    Worker::Tensors(TensorWorker::new(trunk, &nothing))
                })
            })
            .collect::<Result<Vec<_>, TorchError>>()?;
        Ok(Measuring { stamp, encoder, team: Team::new(workers, intra_op), intra_op })
    }

    /// Whether our own kernels compute a job of all weights on `model`.
    fn native(&self, model: &CausalLm) -> bool {
        self.options.kernels && model.device() == Device::Cpu && model.precision() == Precision::F32
    }

    /// Threads side by side, and threads inside each operation.
    fn threads(&self, model: &CausalLm, native: bool) -> (usize, i32) {
        let all = match self.options.threads {
            0 => {
                let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                (all / self.group.as_ref().map_or(1, |group| group.local_size())).max(1)
            }
            threads => threads as usize,
        };
        if model.device() != Device::Cpu {
            return (1, all as i32);
        }
        if native {
            return (all, 1);
        }
        let inside = match self.options.intra_op {
            0 if model.card().parameters <= SMALL_MODEL => 1,
            0 => all,
            intra_op => intra_op as usize,
        };
        ((all / inside).max(1), inside as i32)
    }
}

/// Sets the threads inside operations, and sets them back at the end.
struct IntraOp {
    before: i32,
}

impl IntraOp {
    fn set(threads: i32) -> Self {
        Self { before: set_own_threads(threads) }
    }
}

impl Drop for IntraOp {
    fn drop(&mut self) {
        tch::set_num_threads(self.before);
    }
}

impl Trainer for TorchTrainer {
    /// As in [`Trainer`]. The same code as a training step's forward pass; a result depends on the other examples of the call
    /// only through rounding (sequences of similar length share a batch).
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        let stamp = stamp(folder, max_length)?;
        if self.measuring.as_ref().is_none_or(|measuring| measuring.stamp != stamp) {
            // The old model's memory is free before the new one's is taken.
            self.measuring = None;
            self.measuring = Some(self.measuring(folder, max_length, stamp)?);
        }
        let Some(Measuring { encoder, team, intra_op, .. }) = &mut self.measuring else {
            return Err(EngineError::Machine("no model is loaded: this is a bug".to_owned()));
        };
        let _intra_op = IntraOp::set(*intra_op);
        let mut limit = self.options.measure_tokens;
        let mut results = Vec::with_capacity(examples.len());
        let mut tokens = 0;
        for window in examples.chunks(WINDOW) {
            let units = window.iter().map(|example| encoder.example(example)).collect::<Result<Vec<Unit>, _>>()?;
            let found = fitted(team, &units, &mut limit, |team, batches| {
                let sums = team.run(batches.len(), &|| watch.stop(), |worker, index| {
                    let units: Vec<&Unit> = batches[index].iter().map(|&unit| &units[unit]).collect();
                    Ok(worker.log_probs(&units)?)
                })?;
                let mut found = vec![0.0; units.len()];
                for (unit, sum) in batches.iter().flatten().zip(sums.iter().flatten()) {
                    found[*unit] = *sum;
                }
                Ok(found)
            })
            .map_err(|failure| failure.at(0))?;
            for (unit, sum) in units.iter().zip(found) {
                if !sum.is_finite() {
                    let message = "its log-probability is not finite: the model's weights are broken".to_owned();
                    return Err(EngineError::Input { record: unit.id.clone(), message });
                }
                tokens += unit.sequences.iter().map(|sequence| sequence.tokens.len() as u64).sum::<u64>();
                results.push(SequenceLogProb { sum, tokens: unit.completion_tokens() as u32 });
            }
            watch.progress(Progress { done: results.len() as u64, total: examples.len() as u64, tokens });
        }
        Ok(results)
    }

    /// As in [`Trainer`]. The state is one safetensors file, `state/training.safetensors`: weights and moments as they are in
    /// memory, 12 bytes per trained parameter where all is f32.
    ///
    /// In a group, see [`TorchTrainer::in_group`]: at process 0 as above, at the others the report is empty.
    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        self.measuring = None;
        let group = self.group.clone();
        if let Some(group) = group.as_ref().filter(|group| group.rank() > 0) {
            return self.follow(group, job);
        }
        check(job)?;
        let folder = TrainingFolder::new(&job.folder);
        let opened = folder.open(&job.fingerprint)?;
        let saved = opened.saved.then_some(opened.position.step);
        if opened.position.finished {
            if let Some(group) = &group {
                group.command(ranks::TRAIN, &[])?;
            }
            return Ok(report(job, &folder, &opened.position));
        }
        let build = || -> Result<(Learner, Encoder, IntraOp), EngineError> {
            let (learner, intra_op) = self.learner(&job.model, &job.settings, &job.fingerprint, &folder, saved)?;
            let encoder = self.encoder(&job.model, learner.trainable.model(), job.settings.max_length)?;
            Ok((learner, encoder, intra_op))
        };
        let (learner, encoder, _intra_op) = match &group {
            None => build()?,
            Some(group) => {
                let begin = Begin {
                    folder: job.folder.clone(),
                    model: job.model.clone(),
                    fingerprint: job.fingerprint.clone(),
                    settings: job.settings.clone(),
                    precision: self.options.precision,
                    sharding: self.options.sharding,
                    bucket_bytes: self.options.bucket_bytes,
                    kernels: self.options.kernels,
                    saved,
                };
                ranks::begin(group, &begin, build)?
            }
        };
        let mut limit = job.settings.micro_batch_tokens;
        if opened.saved {
            limit = opened.position.micro_batch_tokens.map_or(limit, |saved| saved.min(limit));
        }
        let run = Run {
            job,
            watch,
            position: opened.position,
            encoder: Encoded::new(encoder, job.epochs.len()),
            learner,
            group,
            left: false,
            precision: self.options.precision,
            limit,
            total_steps: job.epochs.iter().map(|steps| steps.len() as u32).sum(),
            folder,
            tokens: 0,
        };
        run.train()
    }
}

impl TorchTrainer {
    /// Weights, optimizer, gradient and workers of a job, as they were saved where `saved` gives the steps of a state.
    fn learner(
        &self,
        model: &Path,
        settings: &TrainSettings,
        fingerprint: &str,
        folder: &TrainingFolder,
        saved: Option<u32>,
    ) -> Result<(Learner, IntraOp), EngineError> {
        let precision = self.options.precision;
        check_forms(settings, precision)?;
        let sharding = if self.group.is_some() { self.options.sharding } else { Sharding::None };
        let trainable = match (&self.group, sharding) {
            (Some(_), Sharding::Parameters) if settings.lora.is_some() => {
                let message =
                    "adapters leave nearly all weights as they are, and these are not shared out: use \"none\"";
                let record = "train.sharding".to_owned();
                return Err(EngineError::Input { record, message: message.to_owned() });
            }
            (Some(group), Sharding::Parameters) => {
                let own = |length| Shares::new(length, group.rank(), group.size()).own();
                Trainable::shared(model, precision, own, self.options.device.resolve()?)?
            }
            _ => Trainable::new(self.load(model)?, settings, fingerprint)?,
        };
        memory::give_back();
        let base = trainable.model();
        let native = self.native(base) && settings.lora.is_none() && sharding < Sharding::Gradients;
        let (workers, inside) = match self.threads(base, native) {
            // Threads side by side would each keep what is shared out.
            (workers, inside) if sharding >= Sharding::Gradients => (1, workers as i32 * inside),
            threads => threads,
        };
        let intra_op = IntraOp::set(inside);
        let gathering = trainable.gathering();
        let length = trainable.layout.length();
        let half = trainable.weights.all.kind() == Kind::BFloat16;
        let room = |error| no_room(error, length as u64, bytes_each(settings, half));
        let sum = match settings.gradients {
            GradientSum::F32 => Kind::Float,
            GradientSum::Bf16 => Kind::BFloat16,
        };
        let exchange = self.group.as_ref().map(|group| {
            let bucket = self.options.bucket_bytes / sum.elt_size_in_bytes() as u64;
            Exchange::new(Arc::clone(group), &trainable.layout, sharding, i64::try_from(bucket).unwrap_or(i64::MAX))
        });
        let gradient = ranks::gradient(&trainable.layout, exchange.as_ref(), sum, trainable.device()).map_err(room)?;
        let kernels = self.options.kernels.then_some(workers * inside.max(1) as usize);
        let checkpointing = settings.activation_checkpointing || gathering.is_some();
        let own = exchange.as_ref().map_or(0..length, |exchange| exchange.own(length));
        let weights = match &gathering {
            Some(gathering) => gathering.share.shallow_clone(),
            None => trainable.weights.all.f_narrow(0, own.start, own.end - own.start).map_err(TorchError::from)?,
        };
        let adamw =
            AdamW::new(settings, &trainable.layout, own.clone(), &weights, seed(fingerprint), kernels).map_err(room)?;
        let workers = (0..workers)
            .map(|_| trainable.worker(checkpointing, native, self.options.activation_bytes))
            .collect::<Result<Vec<_>, TorchError>>()?;
        let team = Team::new(workers, inside);
        let mut learner = Learner { trainable, adamw, gradient, gathering, team, exchange };
        if let Some(steps) = saved {
            let held = match (&self.group, sharding) {
                (None, _) | (_, Sharding::None) => Held::All,
                (Some(group), _) => Held::From(own.start, length, group),
            };
            folder.load(&mut learner.state()?, held)?;
            learner.loaded(steps)?;
        }
        tracing::info!(
            state_bytes = learner.state_bytes()?,
            parameters = length,
            rank = self.group.as_ref().map_or(0, |group| group.rank()),
            "weights, gradient and optimizer state of this process"
        );
        Ok((learner, intra_op))
    }

    /// Trains as process 0 says.
    fn follow(&mut self, group: &Arc<Group>, job: &TrainJob<'_>) -> Result<TrainReport, EngineError> {
        let nothing = TrainReport { epochs: Vec::new(), steps: 0, first_loss: 0.0, truncated: 0 };
        let command = group.next_command()?;
        if command.kind != ranks::TRAIN {
            let message = format!("process 0 says {:?} where a training run should begin: this is a bug", command.kind);
            return Err(EngineError::Machine(message));
        }
        if command.payload.is_empty() {
            return Ok(nothing);
        }
        let begin: Begin = ranks::unpacked(&command.payload)?;
        self.options = TrainerOptions {
            precision: begin.precision,
            sharding: begin.sharding,
            bucket_bytes: begin.bucket_bytes,
            kernels: begin.kernels,
            ..self.options.clone()
        };
        let folder = TrainingFolder::new(&begin.folder);
        let built = self.learner(&begin.model, &begin.settings, &begin.fingerprint, &folder, begin.saved);
        let outcome = match &built {
            Ok(_) => Outcome::Done(Box::default()),
            Err(error) => Outcome::Failed(Flaw::Engine(error.clone())),
        };
        ranks::settle_with_leader(group, outcome).map_err(|failure| failure.at(0))?;
        let (mut learner, _intra_op) = built?;
        let optimizer = match job.data {
            TrainData::Sft(_) => None,
            TrainData::Preference { optimizer, .. } => Some(optimizer),
        };
        ranks::follow(&mut learner, group, &begin.settings, optimizer)?;
        Ok(nothing)
    }
}

/// Refuses number formats that the model's own, `precision`, or adapters do not go with.
fn check_forms(settings: &TrainSettings, precision: Precision) -> Result<(), EngineError> {
    let why = match (&settings.lora, precision) {
        (Some(_), _) => "adapters are trained in f32",
        (None, Precision::F32) => "the model computes in f32 (engine.dtype)",
        (None, Precision::Bf16) => return Ok(()),
    };
    let wrong = |record: &str, default: &str| {
        let message = format!("{why}, and only weights that compute in bf16 go with it; leave it at {default:?}");
        Err(EngineError::Input { record: record.to_owned(), message })
    };
    if settings.weights != WeightUpdates::Masters {
        return wrong("train.weights", "masters");
    }
    if settings.gradients != GradientSum::F32 {
        return wrong("train.gradients", "f32");
    }
    Ok(())
}

/// Refuses what no step could be made of.
fn check(job: &TrainJob<'_>) -> Result<(), EngineError> {
    let wrong = |record: &str, message: String| Err(EngineError::Input { record: record.to_owned(), message });
    let TrainSettings { learning_rate, adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm, .. } =
        job.settings;
    for (name, value) in [
        ("learning_rate", learning_rate),
        ("weight_decay", weight_decay),
        ("adam_epsilon", adam_epsilon),
        ("max_grad_norm", max_grad_norm),
    ] {
        if !(value.is_finite() && value >= 0.0) {
            return wrong(name, format!("it is {value}; it must be a number from 0"));
        }
    }
    for (name, value) in [("adam_beta1", adam_beta1), ("adam_beta2", adam_beta2)] {
        if !(0.0..1.0).contains(&value) {
            return wrong(name, format!("it is {value}; it must be from 0 and below 1"));
        }
    }
    for (epoch, steps) in job.epochs.iter().enumerate() {
        if steps.is_empty() || steps.iter().any(Vec::is_empty) {
            return wrong(&format!("epoch {}", epoch + 1), "it has no steps, or a step without records".to_owned());
        }
    }
    Ok(())
}
