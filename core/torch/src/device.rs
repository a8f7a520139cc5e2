//! Where tensors live and how precise they are.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::{Result, TorchError, library};

/// The device that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

impl DeviceChoice {
    /// The device itself. Loads libtorch's CUDA part if that is needed.
    ///
    /// # Errors
    /// [`TorchError::Machine`] when a GPU was asked for and there is none, with the reason.
    pub fn resolve(self) -> Result<Device> {
        match self {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Auto => match library::cuda() {
                library::Cuda::Ready { devices } if *devices > 0 => Ok(Device::Cuda(0)),
                _ => Ok(Device::Cpu),
            },
            DeviceChoice::Cuda(index) => match library::cuda() {
                library::Cuda::Ready { devices } if index < *devices => Ok(Device::Cuda(index)),
                library::Cuda::Ready { devices } => Err(TorchError::Machine(format!(
                    "there is no GPU {index}: this machine has {devices}; use device = \"cpu\" or a smaller index"
                ))),
                other => {
                    Err(TorchError::Machine(format!("no GPU can be used: {other}; use device = \"cpu\" or \"auto\"")))
                }
            },
        }
    }
}

impl DeviceChoice {
    /// The device of the process that is number `local_rank` on its host, of several that were asked for the same: each
    /// has a GPU of its own, counted from the one that was named. A process that sees one GPU alone takes that.
    ///
    /// # Errors
    /// [`TorchError::Machine`] when there are fewer GPUs than processes.
    pub fn resolve_for(self, local_rank: usize) -> Result<Device> {
        let library::Cuda::Ready { devices } = library::cuda() else { return self.resolve() };
        let first = match self {
            DeviceChoice::Cpu => return Ok(Device::Cpu),
            DeviceChoice::Auto => 0,
            DeviceChoice::Cuda(index) => index,
        };
        match *devices {
            0 => self.resolve(),
            1 if first == 0 => Ok(Device::Cuda(0)),
            devices if first + local_rank < devices => Ok(Device::Cuda(first + local_rank)),
            devices => Err(TorchError::Machine(format!(
                "there is no GPU for process {local_rank} of this host, which has {devices}: start fewer processes on it, \
                 or use device = \"cpu\""
            ))),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = TorchError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| TorchError::Input(format!("unknown device {text:?}: use auto, cpu, cuda or cuda:1"))),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = TorchError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// Number format of weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16: 8 bits of mantissa, half the memory.
    Bf16,
}

impl Precision {
    /// libtorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// The name that `config.json` uses.
    pub fn config_name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::Bf16 => "bfloat16",
        }
    }

    /// Bytes per number.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

impl FromStr for Precision {
    type Err = TorchError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" | "float32" => Ok(Precision::F32),
            "bf16" | "bfloat16" => Ok(Precision::Bf16),
            _ => Err(TorchError::Input(format!("unknown precision {text:?}: use f32 or bf16"))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}
