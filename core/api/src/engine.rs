//! The two engines behind the loop: a [`Generator`] that continues conversations, and a [`Trainer`] that computes
//! log-probabilities and trains. The loop knows nothing else of models; it never sees a tensor.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Message, Optimizer, Sampler, Sampling};

/// Why an engine gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineError {
    /// [`Watch::stop`] said so. What was finished is on disk; the same call goes on from there.
    Stopped,
    /// The model folder cannot be used: incomplete, of another architecture, tensors of the wrong shape.
    Model {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, with the tensor's or file's name.
        message: String,
    },
    /// A record of the input cannot be used.
    Input {
        /// Name of the record.
        record: String,
        /// What is wrong with it.
        message: String,
    },
    /// Loss or gradient became NaN or infinite.
    NotFinite {
        /// The optimizer step, from 1.
        step: u32,
        /// Names of the records in the batch.
        records: Vec<String>,
        /// What became not finite.
        message: String,
    },
    /// A plugin failed inside the engine.
    Plugin {
        /// The plugin's name.
        plugin: String,
        /// What it said.
        message: String,
    },
    /// Writing or reading failed; the message says on which file.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The machine cannot do it: libtorch, GPU, memory.
    Machine(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Stopped => f.write_str("stopped on request"),
            EngineError::Model { folder, message } => write!(f, "model folder {}: {message}", folder.display()),
            EngineError::Input { record, message } => write!(f, "{record}: {message}"),
            EngineError::NotFinite { step, records, message } => {
                write!(f, "{message} at step {step}, in the batch of {}", records.join(", "))
            }
            EngineError::Plugin { plugin, message } => write!(f, "plugin {plugin}: {message}"),
            EngineError::Io { path, message } => write!(f, "{}: {message}", path.display()),
            EngineError::Machine(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for EngineError {}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// A stop text came up, or a line that completes the answer.
    Stop,
    /// The largest number of new tokens was reached.
    Length,
    /// The model's context was full.
    Context,
}

/// One draw: parameters and the seed of its own random stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationDraw {
    /// Seed of the draw's random stream. What else is in the batch does not change it.
    pub seed: u64,
    /// Parameters.
    pub sampling: Sampling,
    /// Which draw of its prompt it is, as [`crate::NextTokens::draw`] says to a sampler that reshapes. A request may ask
    /// for some of a prompt's draws only.
    #[serde(default)]
    pub draw: u32,
}

/// A conversation to continue, once per draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationRequest {
    /// Name for messages to people.
    pub id: String,
    /// The conversation so far; the model speaks next.
    pub messages: Vec<Message>,
    /// One entry per answer wanted.
    pub draws: Vec<GenerationDraw>,
}

/// Whether the line that a model has just finished completes its answer, as a judge's score line does.
pub type Complete<'a> = dyn Fn(&str) -> Result<bool, EngineError> + Sync + 'a;

/// Whose answers a call draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Responses to an iteration's prompts.
    Actor,
    /// Judgments of responses.
    Judge,
    /// Verdicts on judgments.
    MetaJudge,
    /// Responses to held-out prompts.
    Evaluation,
}

/// Which call of an experiment it is. With the experiment's config it says which plugins guide the call, so that another
/// process can make them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Occasion {
    /// Whose answers are drawn.
    pub part: Part,
    /// The iteration whose options the plugins have; 0 in evaluation.
    pub iteration: u32,
}

/// What plugins have to say while an engine draws.
#[derive(Clone, Copy, Default)]
pub struct Guides<'a> {
    /// The sampler that gives every draw's probabilities by [`Sampler::reshape`]; its [`Sampler::reshapes`] says of how
    /// many tokens. `None`: the draws' parameters say everything.
    pub reshape: Option<&'a dyn Sampler>,
    /// Asked about every line that a line break ends. The first line of which it says yes is the answer's last, and the
    /// answer ends there with [`Finish::Stop`]. An engine that cannot ask draws on to the end of the turn.
    pub complete: Option<&'a Complete<'a>>,
    /// Which call of an experiment it is; `None` outside experiments.
    pub occasion: Option<Occasion>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The text, without special tokens and stop texts.
    pub text: String,
    /// Its length in tokens. Neither the end-of-turn token is counted nor what was cut off with a stop text.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
}

/// How far a call has come. Totals are 0 where they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Items finished (answers, sequences, steps).
    pub done: u64,
    /// Items in all.
    pub total: u64,
    /// Tokens computed so far, prompts included.
    pub tokens: u64,
}

/// What is logged of each optimizer step. Deterministic figures are also written to the training log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Optimizer step, from 1.
    pub step: u32,
    /// Epoch, from 1.
    pub epoch: u32,
    /// Mean loss of the step's examples.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Trained tokens of the step.
    pub tokens: u64,
    /// Preference training: mean implicit reward of the chosen completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_chosen: Option<f64>,
    /// Preference training: mean implicit reward of the rejected completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_rejected: Option<f64>,
    /// Preference training: mean of chosen minus rejected reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Preference training: share of pairs whose chosen reward is the higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Preference training: mean log π(chosen).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logp_chosen: Option<f64>,
    /// Preference training: mean log π(rejected).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logp_rejected: Option<f64>,
    /// The optimizer plugin's own metrics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, f64>,
}

/// Eyes and hand of the loop inside a long call.
pub trait Watch: Sync {
    /// Called now and then with how far the call has come.
    fn progress(&self, progress: Progress);

    /// Called after every optimizer step with its metrics and the seconds that it took.
    fn step(&self, metrics: &StepMetrics, seconds: f64);

    /// Asked at every step: `true` makes the engine save what it can and return [`EngineError::Stopped`].
    fn stop(&self) -> bool;
}

/// What is known of a loaded or inspected model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Architecture as in `config.json`, for example `LlamaForCausalLM`.
    pub architecture: String,
    /// Number of parameters, tied ones counted once.
    pub parameters: u64,
    /// Longest sequence, prompt and answer together, in tokens.
    pub context: u32,
    /// Size of the vocabulary.
    pub vocabulary: u32,
    /// Bytes of keys and values per token of context.
    pub cache_bytes_per_token: u64,
    /// Number of layers.
    pub layers: u32,
    /// Width of the hidden state.
    pub hidden: u32,
}

/// Continues conversations.
pub trait Generator: Send {
    /// Loads the model folder that the next calls use; a second call replaces the first model.
    ///
    /// # Errors
    /// [`EngineError::Model`] when the folder cannot be used.
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError>;

    /// Length in tokens of each conversation as the model would read it, ready for its answer.
    ///
    /// # Errors
    /// When no model is loaded or a conversation does not fit the chat template.
    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError>;

    /// One answer per draw of every request, in the order of the requests. What conversations have in common is computed
    /// once, and on a CPU in f32 no answer depends on the batch it was computed in; elsewhere it can, by rounding.
    ///
    /// `guides`: the plugins that have a say in it; [`Guides::default`] asks none.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] on request; [`EngineError::Input`] when a conversation does not fit the chat template;
    /// [`EngineError::Plugin`] when one of the guides fails or answers nonsense. A conversation that fills the context is
    /// an empty answer with [`Finish::Context`].
    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError>;
}

/// A conversation and the completion to learn or to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Name for messages to people.
    pub id: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The model's next turn.
    pub completion: String,
}

/// Log-probability of a completion: of its tokens and of the end-of-turn token after them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceLogProb {
    /// Sum over the tokens, natural logarithm.
    pub sum: f64,
    /// Number of tokens summed over.
    pub tokens: u32,
}

/// A preference pair as the trainer needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceExample {
    /// Name for messages to people.
    pub id: String,
    /// The conversation that both completions continue.
    pub messages: Vec<Message>,
    /// The preferred completion.
    pub chosen: String,
    /// The other completion.
    pub rejected: String,
    /// log π_ref(chosen); 0 where the loss needs no reference.
    pub reference_chosen: f64,
    /// log π_ref(rejected); 0 where the loss needs no reference.
    pub reference_rejected: f64,
    /// Weight of the pair.
    pub weight: f64,
}

/// Examples for supervised fine-tuning, read one at a time so that they need not fit in memory.
pub trait SftData: Sync {
    /// Number of examples.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The example at `index`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn example(&self, index: u32) -> Result<Example, EngineError>;
}

/// Pairs for preference training, read one at a time so that they need not fit in memory.
pub trait PreferenceData: Sync {
    /// Number of pairs.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pair at `index`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError>;
}

/// What is trained on.
#[derive(Clone, Copy)]
pub enum TrainData<'a> {
    /// Cross-entropy on the completions' tokens.
    Sft(&'a dyn SftData),
    /// The optimizer plugin's loss on pairs.
    Preference {
        /// The pairs.
        data: &'a dyn PreferenceData,
        /// The loss.
        optimizer: &'a dyn Optimizer,
    },
}

/// How the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRateSchedule {
    /// Half a cosine, down to 0.
    Cosine,
    /// A line, down to 0.
    Linear,
    /// No change.
    Constant,
}

/// Low-rank adapters instead of full fine-tuning; merged into the weights on save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank of the adapters.
    pub rank: u32,
    /// Scale: the adapters' product is multiplied by alpha / rank.
    pub alpha: f64,
    /// Names of the linear layers adapted, for example `q_proj`.
    pub targets: Vec<String>,
}

/// How the weights of a model that computes in bf16 take updates that bf16 cannot hold. At a learning rate of 5e-6 that is
/// nearly all of them: neighbouring bf16 numbers lie 1/256 to 1/128 of their size apart. A model that computes in f32 keeps
/// its weights in f32 and takes [`WeightUpdates::Masters`] only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightUpdates {
    /// f32 weights beside the bf16 ones: 6 bytes per parameter.
    #[default]
    Masters,
    /// What rounding to bf16 took is kept in 16 bits beside each weight. The two together are the f32 master, bit for bit:
    /// 4 bytes per parameter.
    Compensated,
    /// bf16 weights alone, 2 bytes per parameter. An update is rounded up or down at random, so that the mean over draws is
    /// the update itself. The draws depend on the run's fingerprint, the step and the parameter, and on nothing else.
    Stochastic,
    /// bf16 weights alone, rounded to the nearest: 2 bytes per parameter, and small updates are lost. To compare with.
    Nearest,
}

impl WeightUpdates {
    /// Bytes per parameter of the weights and what is kept beside them, in a model that computes in bf16 (`half`) or f32.
    pub fn bytes(self, half: bool) -> f64 {
        match (half, self) {
            (false, _) | (true, Self::Compensated) => 4.0,
            (true, Self::Masters) => 6.0,
            (true, Self::Stochastic | Self::Nearest) => 2.0,
        }
    }
}

/// Number format of AdamW's two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptimizerState {
    /// f32: 8 bytes per parameter.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// bf16, rounded at random: 4 bytes per parameter.
    #[serde(rename = "bf16")]
    Bf16,
    /// 8 bits in blocks of 256 with a scale each, after Dettmers et al. 2022: 2.03 bytes per parameter.
    #[serde(rename = "8bit")]
    EightBit,
}

impl OptimizerState {
    /// Bytes per parameter of both moments.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 8.0,
            Self::Bf16 => 4.0,
            Self::EightBit => 2.0 * (1.0 + 4.0 / 256.0),
        }
    }
}

/// Number format in which the gradients of a step's micro-batches are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientSum {
    /// f32: 4 bytes per parameter.
    #[default]
    F32,
    /// bf16, rounded to the nearest after every micro-batch: 2 bytes per parameter. For models that compute in bf16, and
    /// for steps of few micro-batches: n of them leave an error of up to n / 256 of the largest partial sum.
    Bf16,
}

impl GradientSum {
    /// Bytes per parameter.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bf16 => 2.0,
        }
    }
}

/// Settings of one training run. Names as in TRL where TRL has the thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Shape of the schedule.
    pub lr_schedule: LearningRateSchedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// Steps over which the schedule runs (more than are taken, when training ends at a kept epoch before the last).
    pub schedule_steps: u32,
    /// AdamW's decoupled weight decay; applied to matrices, not to norms and biases.
    pub weight_decay: f64,
    /// AdamW's beta 1.
    pub adam_beta1: f64,
    /// AdamW's beta 2.
    pub adam_beta2: f64,
    /// AdamW's epsilon.
    pub adam_epsilon: f64,
    /// Largest gradient norm; 0 does not clip.
    pub max_grad_norm: f64,
    /// Longest sequence in tokens; longer completions are cut at the end.
    pub max_length: u32,
    /// Tokens per forward pass; an optimizer step accumulates as many passes as it needs.
    pub micro_batch_tokens: u32,
    /// Recomputes activations in the backward pass instead of keeping them.
    pub activation_checkpointing: bool,
    /// Adapters; `None` trains all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// Saves the state every so many optimizer steps; 0 only at the end of an epoch and on a stop.
    pub save_steps: u32,
    /// How bf16 weights take small updates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weights: WeightUpdates,
    /// Number format of AdamW's moments.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optimizer_state: OptimizerState,
    /// Number format of the gradients' sum.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gradients: GradientSum,
}

/// Settings that are what they were before they could be set are left out, so that fingerprints stay.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One training run.
pub struct TrainJob<'a> {
    /// Folder of the model to start from.
    pub model: PathBuf,
    /// Folder for `state/` (to go on from), `log.jsonl` (a line per step) and `epoch-<k>/` (a model folder per epoch).
    pub folder: PathBuf,
    /// What the run depends on. State with another fingerprint is not gone on from.
    pub fingerprint: String,
    /// The iteration whose options the optimizer has; 0 outside iterations.
    pub iteration: u32,
    /// What is trained on.
    pub data: TrainData<'a>,
    /// Epochs of optimizer steps of example indices: the order is the caller's decision.
    pub epochs: Vec<Vec<Vec<u32>>>,
    /// Examples held out, on which the loss is measured at the end of each epoch.
    pub validation: Vec<u32>,
    /// Settings.
    pub settings: TrainSettings,
}

/// What came out of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Epoch, from 1.
    pub epoch: u32,
    /// The model folder written at its end.
    pub folder: PathBuf,
    /// Mean training loss of its steps.
    pub train_loss: f64,
    /// Mean loss on the held-out examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
}

/// What came out of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// One entry per epoch.
    pub epochs: Vec<EpochReport>,
    /// Optimizer steps in all.
    pub steps: u32,
    /// Loss of the first step, before any update.
    pub first_loss: f64,
    /// Examples whose completion was cut at `max_length`.
    pub truncated: u32,
}

/// Computes log-probabilities and trains.
pub trait Trainer: Send {
    /// Log-probability of every example's completion under the model in `folder`, in the order of the examples.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] on request; [`EngineError::Model`] when the folder cannot be used.
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError>;

    /// Trains, or goes on training from the state in `job.folder` to the same bytes as without the break.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] on request, with the state saved; [`EngineError::NotFinite`] at the step at which loss or
    /// gradient stop being finite, with the last state kept.
    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError>;
}
