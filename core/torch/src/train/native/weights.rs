//! The model's tensors as plain slices.

use tch::{Device, Kind, Tensor};

use super::attention::Heads;
use crate::{
    error::{Result, TorchError},
    model::CausalLm,
    rope::RopeTable,
    train::parameters::Layout,
    weights::Weights,
};

/// A contiguous f32 tensor on the CPU, read where it lies.
pub(crate) struct Weight {
    /// Keeps the memory.
    _tensor: Tensor,
    pointer: *const f32,
    length: usize,
    /// Its place in the layout of what is trained; unused where nothing is.
    pub slot: usize,
}

// SAFETY: the memory is only read through a `Weight`, and a tensor may be dropped on any thread.
unsafe impl Send for Weight {}

impl Weight {
    fn new(tensor: &Tensor, slot: usize) -> Result<Self> {
        let tensor = tensor.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?;
        if tensor.device() != Device::Cpu {
            return Err(TorchError::Machine("a weight is not on the CPU: this is a bug".to_owned()));
        }
        Ok(Self { pointer: tensor.data_ptr().cast(), length: tensor.numel(), _tensor: tensor, slot })
    }

    /// Its numbers as they are now.
    pub fn get(&self) -> &[f32] {
        // SAFETY: the tensor is contiguous, holds `length` floats and lives as long as `self`. Masters change between
        // steps only, when no worker computes.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

/// A linear layer: `[outputs, inputs]` and, where there is one, a bias.
pub(crate) struct Linear {
    /// The matrix.
    pub weight: Weight,
    /// The bias.
    pub bias: Option<Weight>,
}

/// One block.
pub(crate) struct Layer {
    pub input_norm: Weight,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub q_norm: Option<Weight>,
    pub k_norm: Option<Weight>,
    pub o: Linear,
    pub post_norm: Weight,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    /// Positions that a token sees, its own included.
    pub window: usize,
}

/// Shape and tensors of a model.
pub(crate) struct Model {
    pub heads: Heads,
    pub hidden: usize,
    pub inner: usize,
    pub vocabulary: usize,
    pub epsilon: f32,
    pub embeddings: Weight,
    pub layers: Vec<Layer>,
    pub norm: Weight,
    /// `None` where the embeddings are the output matrix.
    pub head: Option<Weight>,
    /// Keeps the mappings under the tensors.
    _weights: Weights,
    rope: RopeTable,
    /// `[positions, width]`: cosines, then sines.
    turns: Vec<f32>,
}

impl Model {
    /// The tensors of `model`; those that `layout` names are trained.
    pub fn new(model: &CausalLm, layout: &Layout) -> Result<Self> {
        let config = model.config();
        let size = |n: i64| usize::try_from(n).map_err(|error| TorchError::Machine(error.to_string()));
        let find = |name: &str| -> Result<Option<Weight>> {
            let slot = layout.slots().iter().position(|slot| slot.name == name).unwrap_or(usize::MAX);
            model.weights().tensors().get(name).map(|tensor| Weight::new(tensor, slot)).transpose()
        };
        let need = |name: &str| find(name)?.ok_or_else(|| TorchError::Input(format!("tensor {name} is missing")));
        let layers = (0..model.layers().len())
            .map(|index| {
                let name = |rest: &str| format!("model.layers.{index}.{rest}");
                let linear = |rest: &str| -> Result<Linear> {
                    Ok(Linear {
                        weight: need(&name(&format!("{rest}.weight")))?,
                        bias: find(&name(&format!("{rest}.bias")))?,
                    })
                };
                Ok(Layer {
                    input_norm: need(&name("input_layernorm.weight"))?,
                    q: linear("self_attn.q_proj")?,
                    k: linear("self_attn.k_proj")?,
                    v: linear("self_attn.v_proj")?,
                    q_norm: find(&name("self_attn.q_norm.weight"))?,
                    k_norm: find(&name("self_attn.k_norm.weight"))?,
                    o: linear("self_attn.o_proj")?,
                    post_norm: need(&name("post_attention_layernorm.weight"))?,
                    gate: linear("mlp.gate_proj")?,
                    up: linear("mlp.up_proj")?,
                    down: linear("mlp.down_proj")?,
                    window: model.layers()[index].window.map_or(Ok(usize::MAX), size)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let scale = (1.0 / (config.head_dim as f64).sqrt()) as f32;
        #[allow(clippy::cast_possible_truncation)]
        let epsilon = config.norm_eps as f32;
        Ok(Self {
            heads: Heads {
                queries: size(config.heads)?,
                keys: size(config.kv_heads)?,
                width: size(config.head_dim)?,
                scale,
            },
            hidden: size(config.hidden)?,
            inner: size(config.intermediate)?,
            vocabulary: size(config.vocabulary)?,
            epsilon,
            embeddings: need("model.embed_tokens.weight")?,
            layers,
            norm: need("model.norm.weight")?,
            head: if config.tied { None } else { Some(need("lm_head.weight")?) },
            _weights: model.weights().share(),
            rope: RopeTable::new(config, Device::Cpu)?,
            turns: Vec::new(),
        })
    }

    /// The output matrix.
    pub fn output(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embeddings)
    }

    /// Makes [`Model::turn`] known below `positions`.
    pub fn reach(&mut self, positions: usize) -> Result<()> {
        let width = self.heads.width;
        if self.turns.len() < positions * width {
            let length = positions.next_power_of_two().max(64) as i64;
            let places = Tensor::f_arange(length, (Kind::Int64, Device::Cpu))?;
            // A head that is 1 in its first half and 0 in its second turns into cosines and sines.
            let one = Tensor::f_ones([1, 1, length, width as i64 / 2], (Kind::Float, Device::Cpu))?;
            let head = Tensor::f_cat(&[&one, &one.f_zeros_like()?], -1)?;
            let turned = self.rope.at(&places, Kind::Float)?.apply(&head)?;
            self.turns = Vec::try_from(turned.f_contiguous()?.f_view(-1)?)?;
        }
        Ok(())
    }

    /// Cosines and then sines of a position, for one head.
    pub fn turn(&self, position: u32) -> &[f32] {
        let width = self.heads.width;
        &self.turns[position as usize * width..][..width]
    }
}
