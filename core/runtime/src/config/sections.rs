//! Every key of a config, with its default.

use std::fmt;

use metareward_api::{GradientSum, LearningRateSchedule, Lora, OptimizerState, WeightUpdates};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{AskingSection, PluginSection, PluginsSection, RolesSection, Schedule, ServersSection};

/// A config as written: all layers together. Where a key says "schedule", it takes one value or a list with one per
/// iteration. A plugin's option is a schedule too: a list where the plugin's own default is not one, with `"none"` for
/// an iteration in which an option without a default is not given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the experiment; also the name of its run folder.
    pub name: String,
    /// Seed of every random decision. Default 0.
    pub seed: u64,
    /// Number of iterations: 4 makes M1 to M4. Default 4.
    pub iterations: u32,
    /// The seed model.
    pub model: ModelSection,
    /// Limits of plugins that are files, and where those are looked for.
    #[serde(default)]
    pub plugins: PluginsSection,
    /// What the model works on. Plugin `files` reads prompts and examples from JSONL files. Default `files`.
    pub task: PluginSection,
    /// How many prompts each iteration works on.
    pub prompts: PromptsSection,
    /// Supervised fine-tuning before the first iteration.
    pub sft: SftSection,
    /// Responses: K.
    pub actor: ActorSection,
    /// Judgments: N.
    pub judge: JudgeSection,
    /// What the judge is asked. Default plugin `additive`.
    pub rubric: PluginSection,
    /// Comparing judgments. Default plugin `pairwise`.
    pub meta_judge: MetaJudgeSection,
    /// Ratings from battles. Default plugin `elo`.
    pub ranker: PluginSection,
    /// How answers are drawn, per role.
    pub sampler: SamplerSection,
    /// Which two become chosen and rejected, per kind of pair.
    pub selector: SelectorSection,
    /// The preference loss. Default plugin `dpo`.
    pub optimizer: PluginSection,
    /// How preference pairs become training data.
    pub pairs: PairsSection,
    /// Preference training.
    pub train: TrainSection,
    /// Measuring every model on held-out prompts.
    pub evaluation: EvaluationSection,
    /// Who answers, judges and compares.
    #[serde(default)]
    pub roles: RolesSection,
    /// The engine that computes.
    pub engine: EngineSection,
    /// The run folder.
    pub store: StoreSection,
}

/// `[model]`: the seed model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// A Hugging Face model folder, relative to the experiment.
    pub path: Option<String>,
    /// Or a model id, fetched from the Hugging Face hub.
    pub id: Option<String>,
    /// Revision of the id: a branch, tag or commit.
    pub revision: Option<String>,
    /// Shape of the model, for `plan` where neither folder nor weights are at hand.
    pub shape: Option<ModelShape>,
}

/// `[model.shape]`: what `plan` needs to know of a model that is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Number of parameters.
    pub parameters: u64,
    /// Number of layers.
    pub layers: u32,
    /// Width of the hidden state.
    pub hidden: u32,
    /// Bytes of keys and values per token.
    pub cache_bytes_per_token: u64,
    /// Longest sequence in tokens.
    pub context: u32,
    /// Size of the vocabulary.
    pub vocabulary: u32,
}

/// `[prompts]`: which prompts are worked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptsSection {
    /// Prompts asked of the task; training takes them from the front, evaluation from the back. Default 20000.
    pub pool: u32,
    /// Prompts of each iteration (schedule). Iterations take disjoint parts of the pool, in turn; where the pool ends
    /// it is begun again, with a warning. Default 5000.
    pub per_iteration: Schedule<u32>,
    /// Prompts per shard: what a kill can cost, and what a batch is made of. Default 64.
    pub shard_size: u32,
}

/// `[sft]`: supervised fine-tuning on the task's examples (EFT of the paper).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSection {
    /// Whether to fine-tune before the first iteration. Default true.
    pub enabled: bool,
    /// Answers to learn from, at most. Default 0.
    pub demonstrations: u32,
    /// Judgments to learn from, at most. Default 1630.
    pub judge_examples: u32,
    /// Verdicts to learn from, at most. Default 0.
    pub meta_examples: u32,
    /// How to train. A schedule here is one value or a list of one.
    pub train: TrainSection,
}

/// `[actor]`: paper section 2, step 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorSection {
    /// K, responses per prompt (schedule). Default 7.
    pub responses: Schedule<u32>,
    /// Whether actor pairs are made (schedule). Default true.
    pub pairs: Schedule<bool>,
}

/// `[judge]`: paper section 2, step 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSection {
    /// N, judgments per response (schedule). Default 11.
    pub judgments: Schedule<u32>,
    /// The former name of `roles.judge`; still read, and written as `roles.judge` from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Schedule<Reference>>,
}

/// `[meta_judge]`: paper section 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaJudgeSection {
    /// Whether judge pairs are made (schedule). Default true. False throughout is self-rewarding.
    pub pairs: Schedule<bool>,
    /// Name or file of the plugin. Default `pairwise`.
    pub plugin: String,
    /// Hash that the plugin's file must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The plugin's options.
    pub options: Map<String, Value>,
}

impl MetaJudgeSection {
    /// The part that every plugin's section has.
    pub(crate) fn section(&self) -> PluginSection {
        let Self { plugin, sha256, options, .. } = self.clone();
        PluginSection { plugin, sha256, options }
    }
}

/// `[sampler.<role>]`: how answers are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerSection {
    /// Responses. Default plugin `nucleus`.
    pub actor: PluginSection,
    /// Judgments. Default plugin `nucleus`.
    pub judge: PluginSection,
    /// Verdicts. Default plugin `nucleus`.
    pub meta_judge: PluginSection,
    /// Responses for measuring. Default plugin `nucleus`.
    pub evaluation: PluginSection,
}

/// `[selector.<kind>]`: which two become chosen and rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectorSection {
    /// Actor pairs, from rewards. Default plugin `length-control`.
    pub actor: PluginSection,
    /// Judge pairs, from ratings. Default plugin `length-control` with `prefer = "random"`: highest against lowest.
    pub judge: PluginSection,
}

/// A model that is named by its part in the run: the reference of preference training, or who plays a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The model that made the pairs, which is also where training starts. `"data-model"`.
    DataModel,
    /// The model of the first iteration: SFT, or the seed where there is no SFT. `"initial"`.
    Initial,
    /// A model folder, relative to the experiment.
    Folder(String),
    /// Servers, by address and model.
    Servers(String),
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Reference::DataModel => "data-model",
            Reference::Initial => "initial",
            Reference::Folder(path) => path,
            Reference::Servers(addresses) => addresses,
        })
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)? {
            text if text == "data-model" => Reference::DataModel,
            text if text == "initial" => Reference::Initial,
            text if text.contains("://") => Reference::Servers(text),
            path => Reference::Folder(path),
        })
    }
}

/// `[pairs]`: how preference pairs become training data; open points of the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairsSection {
    /// Reference model (schedule): `"data-model"`, `"initial"` or a model folder. Default `"data-model"`.
    pub reference: Schedule<Reference>,
    /// Largest share of judge pairs in a batch (schedule); surplus ones sit out an epoch. Default 1: no limit.
    pub judge_share: Schedule<f64>,
    /// How many earlier iterations' pairs are trained on again (schedule). Default 0.
    pub carry_over: Schedule<u32>,
}

/// Which epoch's checkpoint becomes the next model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The last epoch's. `"last"`.
    Last,
    /// The one with the lowest loss on the examples held out for validation. `"best"`.
    Best,
    /// This epoch's, from 1. Later epochs are not run; the learning rate still falls as if they were.
    Epoch(u32),
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Keep::Last => serializer.serialize_str("last"),
            Keep::Best => serializer.serialize_str("best"),
            Keep::Epoch(epoch) => serializer.serialize_u32(*epoch),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeepVisitor;
        impl serde::de::Visitor<'_> for KeepVisitor {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"last\", \"best\" or the number of an epoch")
            }

            fn visit_u64<E: serde::de::Error>(self, epoch: u64) -> Result<Keep, E> {
                u32::try_from(epoch)
                    .map(Keep::Epoch)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(epoch), &self))
            }

            fn visit_i64<E: serde::de::Error>(self, epoch: i64) -> Result<Keep, E> {
                u32::try_from(epoch)
                    .map(Keep::Epoch)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(epoch), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Keep, E> {
                match text {
                    "last" => Ok(Keep::Last),
                    "best" => Ok(Keep::Best),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(KeepVisitor)
    }
}

/// `[train]` and `[sft.train]`: how to train. Names as in TRL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Epochs over which the learning rate falls (schedule). Default 10.
    pub epochs: Schedule<u32>,
    /// Which checkpoint becomes the next model (schedule): `"last"`, `"best"` or an epoch. Default `"last"`.
    pub keep: Schedule<Keep>,
    /// Examples per optimizer step (schedule). Default 32.
    pub batch_size: Schedule<u32>,
    /// Peak learning rate (schedule). Default 5e-6; SFT 5e-8, as printed in the paper.
    pub learning_rate: Schedule<f64>,
    /// `"cosine"`, `"linear"` or `"constant"`. Default `"cosine"`.
    pub lr_schedule: LearningRateSchedule,
    /// Share of all steps that the learning rate takes to rise. Default 0.
    pub warmup_ratio: f64,
    /// AdamW's weight decay. Default 0.
    pub weight_decay: f64,
    /// AdamW's beta 1. Default 0.9.
    pub adam_beta1: f64,
    /// AdamW's beta 2. Default 0.999.
    pub adam_beta2: f64,
    /// AdamW's epsilon. Default 1e-8.
    pub adam_epsilon: f64,
    /// Largest gradient norm; 0 does not clip. Default 1.
    pub max_grad_norm: f64,
    /// Longest sequence in tokens. Default 4096, and never more than the model's context.
    pub max_length: u32,
    /// Tokens per forward pass. Default 8192.
    pub micro_batch_tokens: u32,
    /// Recompute activations instead of keeping them. Default false.
    pub activation_checkpointing: bool,
    /// Adapters instead of all weights: `{ rank, alpha, targets }`.
    pub lora: Option<Lora>,
    /// Save the state every so many steps; 0 only at an epoch's end and on a stop. Default 0.
    pub save_steps: u32,
    /// Of a model that computes in bf16: `"masters"` (f32 weights beside the bf16 ones), `"compensated"` (the same in 4
    /// bytes instead of 6), `"stochastic"` (bf16 alone, rounded at random) or `"nearest"` (bf16 alone; loses small updates).
    /// Default `"masters"`.
    #[serde(default)]
    pub weights: WeightUpdates,
    /// AdamW's moments in `"f32"`, `"bf16"` or `"8bit"`. Default `"f32"`.
    #[serde(default)]
    pub optimizer_state: OptimizerState,
    /// Gradients of a step added up in `"f32"` or, of a model that computes in bf16, `"bf16"`. Default `"f32"`.
    #[serde(default)]
    pub gradients: GradientSum,
    /// Share of prompts whose examples are held out for validation. Default 0; `keep = "best"` needs some.
    pub validation_share: f64,
    /// A command that trains instead of this process, run by the shell. Words in braces are filled in: `{model}`, the folder
    /// to start from; `{data}`, a file with the pairs in TRL's form; `{output}`, where it leaves a model folder; `{settings}`, a
    /// file with all settings; `{learning_rate}`, `{epochs}`, `{batch_size}`, `{max_length}`, `{iteration}`. Those of them
    /// that it takes are its business. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Hours that the command may take. Default 168.
    #[serde(default = "TrainSection::a_week", skip_serializing_if = "TrainSection::is_a_week")]
    pub command_hours: f64,
}

/// `[evaluation]`: every model on the same held-out prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSection {
    /// Held-out prompts, never trained on; 0 does not measure. Default 0.
    pub prompts: u32,
    /// Responses of every model to each of them, by `sampler.evaluation`. Default 1.
    pub responses: u32,
    /// Held-out prompts whose first-model responses every model judges; 0 does not measure the judges. Default 0.
    pub judge_prompts: u32,
    /// Judgments of each such response, by `sampler.judge`. Default 11.
    pub judgments: u32,
    /// Seed of evaluation's draws. The same for every model, so that differences are the models'. Default 0.
    pub seed: u64,
}

/// `[engine]`: what computes. The loop only records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSection {
    /// Who generates: `"torch"`, this process, or `"servers"`, those of `[engine.servers]`. Training and log-probabilities
    /// stay in this process. Default `"torch"`.
    #[serde(default = "EngineSection::torch")]
    pub generator: String,
    /// The servers.
    #[serde(default)]
    pub servers: ServersSection,
    /// How they are asked.
    #[serde(default)]
    pub asking: AskingSection,
    /// `"auto"`, `"cpu"`, `"cuda"` or `"cuda:<n>"`. Default `"auto"`.
    pub device: String,
    /// `"auto"` (f32 on a CPU, as the model folder says on a GPU), `"f32"` or `"bf16"`. Default `"auto"`.
    pub dtype: String,
    /// CPU threads; 0 takes as many as there are cores. Default 0.
    pub threads: u32,
    /// Rows generated at once; 0 lets the engine choose. Default 0.
    pub batch_rows: u32,
    /// Bytes for keys and values while generating; 0 lets the engine choose. Default 0.
    pub cache_bytes: u64,
    /// How several processes train: `"data-parallel"`, each with all weights and a share of every batch; the same with
    /// `"optimizer"`, `"gradients"` or `"parameters"` shared out too (ZeRO 1 to 3); or `"alone"`, the first process while
    /// the others wait: to the same bytes as one process. Default `"data-parallel"`.
    #[serde(default)]
    pub training: GroupTraining,
}

/// How several processes train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupTraining {
    /// Every process has all weights, gradients and moments, and computes a share of every batch.
    #[default]
    DataParallel,
    /// AdamW's moments are shared out (ZeRO 1).
    Optimizer,
    /// Gradients too (ZeRO 2).
    Gradients,
    /// Weights too (ZeRO 3).
    Parameters,
    /// The first process trains, the others wait.
    Alone,
}

impl EngineSection {
    fn torch() -> String {
        "torch".into()
    }
}

/// `[store]`: the run folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// Refuse to start when the disk has less space than the run is estimated to need. Default true.
    pub check_disk: bool,
    /// What of a finished training stays on disk: `"kept"`, the model and the log alone, or `"all"`, every epoch's
    /// checkpoint and the optimizer's state too. Default `"kept"`.
    pub checkpoints: Checkpoints,
}

/// What of a finished training stays on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoints {
    /// The model that was kept, and the log.
    Kept,
    /// Every epoch's checkpoint, and the state.
    All,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10.into(),
            keep: Keep::Last.into(),
            batch_size: 32.into(),
            learning_rate: 5e-6.into(),
            lr_schedule: LearningRateSchedule::Cosine,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            max_length: 4096,
            micro_batch_tokens: 8192,
            activation_checkpointing: false,
            lora: None,
            save_steps: 0,
            weights: WeightUpdates::default(),
            optimizer_state: OptimizerState::default(),
            gradients: GradientSum::default(),
            validation_share: 0.0,
            command: None,
            command_hours: TrainSection::a_week(),
        }
    }
}

impl TrainSection {
    fn a_week() -> f64 {
        168.0
    }

    fn is_a_week(hours: &f64) -> bool {
        *hours == TrainSection::a_week()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "experiment".into(),
            seed: 0,
            iterations: 4,
            model: ModelSection::default(),
            plugins: PluginsSection::default(),
            task: PluginSection::named("files"),
            prompts: PromptsSection { pool: 20_000, per_iteration: 5_000.into(), shard_size: 64 },
            sft: SftSection {
                enabled: true,
                demonstrations: 0,
                judge_examples: 1_630,
                meta_examples: 0,
                train: TrainSection { learning_rate: 5e-8.into(), ..TrainSection::default() },
            },
            actor: ActorSection { responses: 7.into(), pairs: true.into() },
            judge: JudgeSection { judgments: 11.into(), model: None },
            rubric: PluginSection::named("additive"),
            meta_judge: MetaJudgeSection {
                pairs: true.into(),
                plugin: "pairwise".into(),
                sha256: None,
                options: Map::new(),
            },
            ranker: PluginSection::named("elo"),
            sampler: SamplerSection {
                actor: PluginSection::named("nucleus"),
                judge: PluginSection::named("nucleus"),
                meta_judge: PluginSection::named("nucleus"),
                evaluation: PluginSection::named("nucleus"),
            },
            selector: SelectorSection {
                actor: PluginSection::named("length-control"),
                judge: PluginSection::named("length-control"),
            },
            optimizer: PluginSection::named("dpo"),
            pairs: PairsSection {
                reference: Reference::DataModel.into(),
                judge_share: 1.0.into(),
                carry_over: 0.into(),
            },
            train: TrainSection::default(),
            evaluation: EvaluationSection { prompts: 0, responses: 1, judge_prompts: 0, judgments: 11, seed: 0 },
            roles: RolesSection::default(),
            engine: EngineSection {
                generator: EngineSection::torch(),
                servers: ServersSection::default(),
                asking: AskingSection::default(),
                device: "auto".into(),
                dtype: "auto".into(),
                threads: 0,
                batch_rows: 0,
                cache_bytes: 0,
                training: GroupTraining::default(),
            },
            store: StoreSection { check_disk: true, checkpoints: Checkpoints::Kept },
        }
    }
}
