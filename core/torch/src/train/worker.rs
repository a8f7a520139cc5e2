//! One micro-batch: log-probabilities, loss and gradient.

use std::collections::BTreeMap;

use metareward_api::{EngineError, Optimizer, PairLogProbs, PreferenceLoss};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    batch::{Padded, Sequence},
    head::{Head, HeadBackward},
    native::NativeWorker,
    parameters::Layout,
    trunk::{Along, Nobody, Place, Tape, Trunk, place},
};
use crate::error::{Result, TorchError};

/// An example with its one sequence, or a pair with its chosen and its rejected one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// Name of the record.
    pub id: String,
    /// One sequence, or chosen and rejected.
    pub sequences: Vec<Sequence>,
    /// log π_ref of chosen and rejected.
    pub reference: [f64; 2],
    /// Weight of the pair.
    pub weight: f64,
}

impl Unit {
    /// Sequences, and tokens of the longest.
    pub fn size(&self) -> (usize, usize) {
        (self.sequences.len(), self.sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0))
    }

    /// Completion tokens of all its sequences.
    pub fn completion_tokens(&self) -> usize {
        self.sequences.iter().map(Sequence::completion_tokens).sum()
    }
}

/// The loss of a step, as far as it concerns one micro-batch.
#[derive(Clone, Copy)]
pub(crate) enum Objective<'a> {
    /// Mean cross-entropy over the step's completion tokens.
    Sft {
        /// Completion tokens of the whole step.
        tokens: usize,
    },
    /// Mean of the plugin's loss over the step's pairs.
    Preference {
        /// Pairs of the whole step.
        pairs: usize,
        /// The loss.
        optimizer: &'a dyn Optimizer,
    },
}

/// Sums over a micro-batch; those of a step add up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sums {
    /// Loss: of tokens or of pairs.
    pub loss: f64,
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// Completion tokens.
    pub trained_tokens: u64,
    /// Pairs.
    pub pairs: usize,
    /// Implicit rewards of the chosen completions.
    pub reward_chosen: f64,
    /// Implicit rewards of the rejected completions.
    pub reward_rejected: f64,
    /// Pairs whose chosen reward is the higher one.
    pub correct: usize,
    /// log π(chosen).
    pub logp_chosen: f64,
    /// log π(rejected).
    pub logp_rejected: f64,
    /// Largest difference between log π and log π_ref.
    pub farthest: f64,
    /// The plugin's own metrics, times pairs.
    pub extra: BTreeMap<String, f64>,
}

impl Sums {
    /// Adds those of another micro-batch.
    pub fn add(&mut self, other: &Sums) {
        self.loss += other.loss;
        self.tokens += other.tokens;
        self.trained_tokens += other.trained_tokens;
        self.pairs += other.pairs;
        self.reward_chosen += other.reward_chosen;
        self.reward_rejected += other.reward_rejected;
        self.correct += other.correct;
        self.logp_chosen += other.logp_chosen;
        self.logp_rejected += other.logp_rejected;
        self.farthest = self.farthest.max(other.farthest);
        for (name, value) in &other.extra {
            *self.extra.entry(name.clone()).or_default() += value;
        }
    }
}

/// Why a micro-batch gave nothing.
pub(crate) enum Failure {
    /// An error that is the same wherever it happens.
    Engine(EngineError),
    /// There was no memory for it.
    Memory(String),
    /// Something became NaN or infinite; the records that it concerns.
    NotFinite { records: Vec<String>, message: String },
}

impl Failure {
    /// The engine's error for a failure at optimizer step `step`.
    pub fn at(self, step: u32) -> EngineError {
        match self {
            Failure::Engine(error) => error,
            Failure::Memory(message) => EngineError::Machine(message),
            Failure::NotFinite { records, message } => EngineError::NotFinite { step, records, message },
        }
    }
}

impl From<TorchError> for Failure {
    fn from(error: TorchError) -> Self {
        match error {
            TorchError::Memory(message) => Self::Memory(message),
            error => Self::Engine(error.into()),
        }
    }
}

/// A model of a thread's own, sharing its weights with the other threads'.
pub(crate) enum Worker {
    /// libtorch's operations: any device and precision.
    Tensors(TensorWorker),
    /// Our own kernels: f32 on the CPU.
    Native(Box<NativeWorker>),
}

impl Worker {
    /// Log-probability of every unit's sequences, in order, without a gradient.
    pub fn log_probs(&mut self, units: &[&Unit]) -> Result<Vec<f64>> {
        match self {
            Worker::Tensors(worker) => worker.log_probs(units, &mut Nobody),
            Worker::Native(worker) => worker.log_probs(units),
        }
    }

    /// The loss of `units` alone, without a gradient.
    pub fn evaluate(&mut self, units: &[&Unit], objective: Objective<'_>) -> std::result::Result<Sums, Failure> {
        loss_of(units, &self.log_probs(units)?, objective)
    }
}

/// The model on libtorch's operations.
pub(crate) struct TensorWorker {
    trunk: Trunk,
    head: HeadPlace,
    device: Device,
}

/// Where the gradient of the output projection goes.
#[derive(Clone, Copy)]
enum HeadPlace {
    /// The projection is not trained.
    Frozen,
    /// It is a tensor of its own.
    Own(usize),
    /// It is the embedding matrix.
    Tied(usize),
}

impl TensorWorker {
    /// A worker on `trunk`, whose leaves are those of `layout`.
    pub fn new(trunk: Trunk, layout: &Layout) -> Self {
        let find = |wanted: Place| layout.slots().iter().position(|slot| place(&slot.name) == wanted);
        let head = if trunk.model().config().tied {
            find(Place::Embedding).map_or(HeadPlace::Frozen, HeadPlace::Tied)
        } else {
            find(Place::Head).map_or(HeadPlace::Frozen, HeadPlace::Own)
        };
        Self { device: trunk.model().device(), trunk, head }
    }

    /// Log-probability of every unit's sequences, in order, without a gradient.
    pub fn log_probs(&self, units: &[&Unit], along: &mut dyn Along) -> Result<Vec<f64>> {
        let batch = self.batch(units)?;
        let hidden = self.trunk.forward(&batch, along)?;
        along.need(self.trunk.segments())?;
        let head = Head::new(self.trunk.model().lm_head()?);
        let found = batch.sums(&host(&head.forward(&hidden, &batch.targets)?.log_probs)?);
        along.spare(self.trunk.segments())?;
        Ok(found)
    }

    /// The loss of `units` alone, without a gradient.
    pub fn evaluate(
        &self,
        units: &[&Unit],
        objective: Objective<'_>,
        along: &mut dyn Along,
    ) -> std::result::Result<Sums, Failure> {
        loss_of(units, &self.log_probs(units, along)?, objective)
    }

    /// Loss and gradient of `units` within a step. `along` gets the gradient of every leaf once.
    pub fn gradients(
        &self,
        units: &[&Unit],
        objective: Objective<'_>,
        along: &mut dyn Along,
    ) -> std::result::Result<Sums, Failure> {
        let batch = self.batch(units)?;
        let (hidden, tape) = self.trunk.forward_taped(&batch, along)?;
        along.need(self.trunk.segments())?;
        let head = Head::new(self.trunk.model().lm_head()?);
        let trained = !matches!(self.head, HeadPlace::Frozen);
        let (sums, gradient) = match objective {
            Objective::Sft { tokens } => {
                let share = -1.0 / tokens as f64;
                let coefficients = self.coefficients(&batch, &vec![share; batch.counts.len()])?;
                let (log_probs, gradient) = head.forward_backward(&hidden, &batch.targets, &coefficients, trained)?;
                (sft_sums(units, &batch.sums(&host(&log_probs)?))?, gradient)
            }
            Objective::Preference { pairs, optimizer } => {
                let forward = head.forward(&hidden, &batch.targets)?;
                let (sums, loss) = preference(units, &batch.sums(&host(&forward.log_probs)?), optimizer)?;
                let values: Vec<f64> = loss
                    .chosen_gradient
                    .iter()
                    .zip(&loss.rejected_gradient)
                    .flat_map(|(chosen, rejected)| [chosen / pairs as f64, rejected / pairs as f64])
                    .collect();
                let coefficients = self.coefficients(&batch, &values)?;
                (sums, head.backward(forward, &hidden, &batch.targets, &coefficients, trained)?)
            }
        };
        drop(hidden);
        along.spare(self.trunk.segments())?;
        self.finish(tape, gradient, along)?;
        Ok(sums)
    }

    fn finish(&self, tape: Tape, gradient: HeadBackward, along: &mut dyn Along) -> Result<()> {
        let mut projection = gradient.weight;
        if let HeadPlace::Own(slot) = self.head
            && let Some(weight) = projection.take()
        {
            along.take(slot, weight)?;
        }
        let tied = match self.head {
            HeadPlace::Tied(slot) => projection.map(|weight| (slot, weight)),
            HeadPlace::Own(_) | HeadPlace::Frozen => None,
        };
        self.trunk.backward(tape, gradient.hidden, &mut WithTied { along, tied })
    }

    fn batch(&self, units: &[&Unit]) -> Result<Padded> {
        let sequences: Vec<&Sequence> = units.iter().flat_map(|unit| &unit.sequences).collect();
        Padded::new(&sequences, self.device)
    }

    fn coefficients(&self, batch: &Padded, values: &[f64]) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&batch.spread(values))?.f_to_device(self.device)?)
    }
}

/// Adds the output projection's gradient to that of the embeddings where both are one matrix.
struct WithTied<'a> {
    along: &'a mut dyn Along,
    tied: Option<(usize, Tensor)>,
}

impl Along for WithTied<'_> {
    fn need(&mut self, segment: usize) -> Result<()> {
        self.along.need(segment)
    }

    fn spare(&mut self, segment: usize) -> Result<()> {
        self.along.spare(segment)
    }

    fn take(&mut self, slot: usize, found: Tensor) -> Result<()> {
        match self.tied.take() {
            Some((tied, mut weight)) if tied == slot => {
                let _ = weight.f_add_(&found)?;
                self.along.take(slot, weight)
            }
            other => {
                self.tied = other;
                self.along.take(slot, found)
            }
        }
    }
}

fn loss_of(units: &[&Unit], values: &[f64], objective: Objective<'_>) -> std::result::Result<Sums, Failure> {
    match objective {
        Objective::Sft { .. } => sft_sums(units, values),
        Objective::Preference { optimizer, .. } => Ok(preference(units, values, optimizer)?.0),
    }
}

fn host(values: &Tensor) -> Result<Vec<f32>> {
    let values = values.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut out = vec![0.0; values.numel()];
    values.f_copy_data(&mut out, values.numel())?;
    Ok(out)
}

fn not_finite(records: &[&Unit], message: &str) -> Failure {
    Failure::NotFinite { records: records.iter().map(|unit| unit.id.clone()).collect(), message: message.to_owned() }
}

fn counted(units: &[&Unit]) -> Sums {
    let mut sums = Sums::default();
    for sequence in units.iter().flat_map(|unit| &unit.sequences) {
        sums.tokens += sequence.tokens.len() as u64;
        sums.trained_tokens += sequence.completion_tokens() as u64;
    }
    sums
}

/// What the loss of examples adds up to; `values` are their log-probabilities.
pub(crate) fn sft_sums(units: &[&Unit], values: &[f64]) -> std::result::Result<Sums, Failure> {
    let broken: Vec<&Unit> =
        units.iter().zip(values).filter(|(_, value)| !value.is_finite()).map(|(unit, _)| *unit).collect();
    if !broken.is_empty() {
        return Err(not_finite(&broken, "the loss is not finite"));
    }
    Ok(Sums { loss: -values.iter().sum::<f64>(), ..counted(units) })
}

/// The plugin's loss on the pairs `units`; `values` are log π of chosen and rejected, in turn.
pub(crate) fn preference(
    units: &[&Unit],
    values: &[f64],
    optimizer: &dyn Optimizer,
) -> std::result::Result<(Sums, PreferenceLoss), Failure> {
    let broken: Vec<&Unit> = units
        .iter()
        .zip(values.chunks_exact(2))
        .filter(|(_, values)| values.iter().any(|value| !value.is_finite()))
        .map(|(unit, _)| *unit)
        .collect();
    if !broken.is_empty() {
        return Err(not_finite(&broken, "the log-probability is not finite"));
    }
    let pairs: Vec<PairLogProbs> = units
        .iter()
        .zip(values.chunks_exact(2))
        .map(|(unit, values)| PairLogProbs {
            policy_chosen: values[0],
            policy_rejected: values[1],
            reference_chosen: unit.reference[0],
            reference_rejected: unit.reference[1],
            chosen_tokens: unit.sequences[0].completion_tokens() as u32,
            rejected_tokens: unit.sequences[1].completion_tokens() as u32,
            weight: unit.weight,
        })
        .collect();
    let plugin = || optimizer.info().name;
    let loss = optimizer.loss(&pairs).map_err(|error| {
        let record = error.item.and_then(|item| units.get(item)).map(|unit| format!("{}: ", unit.id));
        let message = format!("{}{}", record.unwrap_or_default(), error.message);
        Failure::Engine(EngineError::Plugin { plugin: plugin(), message })
    })?;
    let answers = [
        ("losses", &loss.losses),
        ("chosen_gradient", &loss.chosen_gradient),
        ("rejected_gradient", &loss.rejected_gradient),
        ("chosen_rewards", &loss.chosen_rewards),
        ("rejected_rewards", &loss.rejected_rewards),
    ];
    for (name, answer) in answers {
        if answer.len() != pairs.len() {
            let message = format!("loss returned {} {name} for {} pairs", answer.len(), pairs.len());
            return Err(Failure::Engine(EngineError::Plugin { plugin: plugin(), message }));
        }
        let broken: Vec<&Unit> =
            units.iter().zip(answer).filter(|(_, value)| !value.is_finite()).map(|(unit, _)| *unit).collect();
        if !broken.is_empty() {
            return Err(not_finite(&broken, &format!("{name} of optimizer {} is not finite", plugin())));
        }
    }
    if let Some((name, _)) = loss.metrics.iter().find(|(_, value)| !value.is_finite()) {
        return Err(not_finite(units, &format!("metric {name} of optimizer {} is not finite", plugin())));
    }
    let mut sums = Sums { loss: loss.losses.iter().sum(), pairs: pairs.len(), ..counted(units) };
    sums.reward_chosen = loss.chosen_rewards.iter().sum();
    sums.reward_rejected = loss.rejected_rewards.iter().sum();
    sums.correct = loss.chosen_rewards.iter().zip(&loss.rejected_rewards).filter(|(a, b)| a > b).count();
    sums.logp_chosen = pairs.iter().map(|pair| pair.policy_chosen).sum();
    sums.logp_rejected = pairs.iter().map(|pair| pair.policy_rejected).sum();
    sums.farthest = pairs
        .iter()
        .flat_map(|pair| [pair.policy_chosen - pair.reference_chosen, pair.policy_rejected - pair.reference_rejected])
        .fold(0.0, |farthest, difference: f64| farthest.max(difference.abs()));
    sums.extra = loss.metrics.iter().map(|(name, value)| (name.clone(), value * pairs.len() as f64)).collect();
    Ok((sums, loss))
}
