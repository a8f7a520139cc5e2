//! The engine in this process: libtorch, with the settings of a config or of a command line.

use std::{path::Path, sync::Arc};

use metareward_api::EngineError;
use metareward_runtime::{EngineSection, GroupTraining, TrainSection};
use metareward_torch::{
    DeviceChoice, Group, Precision, TorchError,
    config::ModelConfig,
    generate::{EngineConfig, TorchGenerator},
    train::{Forms, Load, Memory, Sharding, TorchTrainer, TrainerOptions, training_memory},
};

use crate::{
    args::DeviceArgs,
    failure::{Code, Failure},
};

/// How the engine uses the machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it computes.
    pub device: DeviceChoice,
    /// The number format; `None` takes f32 on a CPU and the model folder's own on a GPU.
    dtype: Option<Precision>,
    threads: u32,
    batch_rows: u32,
    cache_bytes: u64,
    /// How several processes train.
    pub training: GroupTraining,
}

impl Settings {
    /// Settings of a command line.
    ///
    /// # Errors
    /// When device or number format is not known.
    pub fn of_device(args: &DeviceArgs) -> Result<Self, Failure> {
        let device = args.device.parse().map_err(torch_failure)?;
        let threads = u32::try_from(args.threads).unwrap_or(u32::MAX);
        Ok(Self {
            device,
            dtype: dtype(&args.dtype)?,
            threads,
            batch_rows: 0,
            cache_bytes: 0,
            training: GroupTraining::default(),
        })
    }

    /// Settings of a config.
    ///
    /// # Errors
    /// When device or number format is not known.
    pub fn of_section(section: &EngineSection) -> Result<Self, Failure> {
        Ok(Self {
            device: section.device.parse().map_err(torch_failure)?,
            dtype: dtype(&section.dtype)?,
            threads: section.threads,
            batch_rows: section.batch_rows,
            cache_bytes: section.cache_bytes,
            training: section.training,
        })
    }

    /// The same for one of several processes of this host: each has a GPU of its own.
    ///
    /// # Errors
    /// When there are fewer GPUs than processes.
    pub fn on_rank(&mut self, local_rank: usize) -> Result<(), Failure> {
        self.device = match self.device.resolve_for(local_rank).map_err(torch_failure)? {
            tch::Device::Cuda(index) => DeviceChoice::Cuda(index),
            _ => DeviceChoice::Cpu,
        };
        Ok(())
    }

    /// The same beside other processes of this host: without a number of threads in the config they share its cores.
    pub fn shared_by(&mut self, processes: usize) {
        if self.threads == 0 && processes > 1 {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            self.threads = u32::try_from((cores / processes).max(1)).unwrap_or(u32::MAX);
        }
    }

    /// The number format in which the model in `folder` is computed.
    ///
    /// # Errors
    /// When a GPU was asked for and there is none.
    pub fn precision(&self, folder: &Path) -> Result<Precision, Failure> {
        if let Some(precision) = self.dtype {
            return Ok(precision);
        }
        // A CPU has fast kernels of ours in f32, and f32 holds bf16 weights exactly.
        match self.device.resolve().map_err(torch_failure)? {
            tch::Device::Cpu => Ok(Precision::F32),
            _ => Ok(stored_precision(folder)),
        }
    }

    /// A generator without a model.
    ///
    /// # Errors
    /// When a GPU was asked for and there is none.
    pub fn generator(&self, folder: &Path) -> Result<TorchGenerator, Failure> {
        let default = EngineConfig::default();
        Ok(TorchGenerator::new(EngineConfig {
            device: self.device,
            precision: self.precision(folder)?,
            threads: self.threads as usize,
            cache_bytes: if self.cache_bytes == 0 { default.cache_bytes } else { self.cache_bytes },
            max_rows: self.batch_rows as usize,
            ..default
        }))
    }

    /// Memory of training all weights of the model in `folder` by `section`, its steps having `step_tokens` tokens.
    ///
    /// # Errors
    /// When the folder holds no model, or a GPU was asked for and there is none.
    pub fn training_memory(&self, folder: &Path, section: &TrainSection, step_tokens: u64) -> Result<Memory, Failure> {
        let precision = self.precision(folder)?;
        let on_cpu = matches!(self.device.resolve().map_err(torch_failure)?, tch::Device::Cpu);
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64,
            threads => u64::from(threads),
        };
        let load = Load {
            precision,
            native: on_cpu && precision == Precision::F32,
            gpu: !on_cpu,
            step_tokens,
            predicting: step_tokens / 2,
            micro_batch_tokens: section.micro_batch_tokens,
            workers: if on_cpu { threads } else { 1 },
            checkpointing: section.activation_checkpointing,
            forms: Forms {
                weights: section.weights,
                optimizer_state: section.optimizer_state,
                gradients: section.gradients,
            },
        };
        Ok(training_memory(&ModelConfig::read(folder).map_err(torch_failure)?, &load))
    }

    /// A trainer.
    ///
    /// # Errors
    /// When a GPU was asked for and there is none.
    pub fn trainer(&self, folder: &Path) -> Result<TorchTrainer, Failure> {
        self.trainer_in(folder, None)
    }

    /// A trainer; in a group, one of several that train together.
    ///
    /// # Errors
    /// When a GPU was asked for and there is none.
    pub fn trainer_in(&self, folder: &Path, group: Option<Arc<Group>>) -> Result<TorchTrainer, Failure> {
        let options = TrainerOptions {
            device: self.device,
            precision: self.precision(folder)?,
            threads: self.threads,
            sharding: match self.training {
                GroupTraining::DataParallel | GroupTraining::Alone => Sharding::None,
                GroupTraining::Optimizer => Sharding::Optimizer,
                GroupTraining::Gradients => Sharding::Gradients,
                GroupTraining::Parameters => Sharding::Parameters,
            },
            ..TrainerOptions::default()
        };
        Ok(match group {
            None => TorchTrainer::new(options),
            Some(group) => TorchTrainer::in_group(options, group),
        })
    }
}

fn dtype(name: &str) -> Result<Option<Precision>, Failure> {
    match name {
        "auto" => Ok(None),
        "f32" => Ok(Some(Precision::F32)),
        "bf16" => Ok(Some(Precision::Bf16)),
        _ => Err(Failure::new(Code::Input, format!("unknown number format {name:?}")).hint("use auto, f32 or bf16")),
    }
}

/// What `config.json` says the weights are; f32 where it says nothing that we compute in.
fn stored_precision(folder: &Path) -> Precision {
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let named = config.get("dtype").or_else(|| config.get("torch_dtype")).and_then(serde_json::Value::as_str);
    match named {
        Some("bfloat16" | "float16") => Precision::Bf16,
        _ => Precision::F32,
    }
}

/// An engine's error on its way out.
pub fn failure(error: EngineError) -> Failure {
    let code = match &error {
        EngineError::Stopped => Code::Interrupted,
        EngineError::Model { .. } | EngineError::Input { .. } => Code::Input,
        EngineError::NotFinite { .. } => Code::Run,
        EngineError::Plugin { .. } => Code::Plugin,
        EngineError::Io { .. } | EngineError::Machine(_) => Code::Machine,
    };
    Failure::new(code, error)
}

/// The torch crate's error on its way out.
pub fn torch_failure(error: TorchError) -> Failure {
    failure(error.into())
}
