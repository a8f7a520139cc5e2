//! The forward pass of a causal language model (Llama, Mistral, Qwen 2, Qwen 3), with transformers' numerics.
//!
//! Weights live under their Hugging Face names in [`Weights`]; [`Layer`] is a view on them. Everything is
//! differentiable. Right-padded rows need no mask: causal attention never looks at what comes after.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use metareward_api::ModelCard;
use tch::{Device, Kind, Tensor};

use crate::{
    Precision, Result, TorchError,
    config::ModelConfig,
    rope::{Rope, RopeTable},
    weights::{Weights, check_weights},
};

/// What a token may attend to.
#[derive(Clone, Copy, Debug)]
pub enum Attention<'a> {
    /// Itself and all tokens before it; queries and keys are the same tokens.
    Causal,
    /// What the mask says: bool (`true` attends) or float (added), broadcastable to `[B, heads, queries, keys]`.
    Mask(&'a Tensor),
}

/// A low-rank addition to a linear layer: `scale · x Aᵀ Bᵀ` (LoRA, Hu et al. 2021).
#[derive(Debug)]
pub struct Adapter {
    /// A, `[rank, in]`.
    pub a: Tensor,
    /// B, `[out, rank]`.
    pub b: Tensor,
    /// alpha / rank.
    pub scale: f64,
}

/// A linear layer.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Low-rank addition.
    pub adapter: Option<Adapter>,
}

impl Linear {
    /// `x Wᵀ + b` over the last dimension, and the adapter's part.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.f_linear(&self.weight, self.bias.as_ref())?;
        let Some(Adapter { a, b, scale }) = &self.adapter else { return Ok(y) };
        let low = x.f_to_kind(a.kind())?.f_linear(a, None::<&Tensor>)?.f_linear(b, None::<&Tensor>)?;
        Ok(y.f_add(&(low.f_mul_scalar(*scale)?.f_to_kind(y.kind())?))?)
    }
}

/// One transformer block, as a view on the weights.
#[derive(Debug)]
pub struct Layer {
    /// Norm before attention, `[H]`.
    pub input_norm: Tensor,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Output of attention.
    pub o: Linear,
    /// Norm of each head's queries (Qwen 3), `[D]`.
    pub q_norm: Option<Tensor>,
    /// Norm of each head's keys (Qwen 3), `[D]`.
    pub k_norm: Option<Tensor>,
    /// Norm before the feed-forward block, `[H]`.
    pub post_norm: Tensor,
    /// Gate of the feed-forward block.
    pub gate: Linear,
    /// Its input.
    pub up: Linear,
    /// Its output.
    pub down: Linear,
    /// Sliding attention window in tokens.
    pub window: Option<i64>,
    config: Arc<ModelConfig>,
}

impl Layer {
    /// Queries `[B, heads, T, D]`, keys and values `[B, kv heads, T, D]` of `hidden` `[B, T, H]`, positions applied.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn queries_keys_values(&self, hidden: &Tensor, rope: &Rope) -> Result<(Tensor, Tensor, Tensor)> {
        let (batch, length, _) = hidden.size3()?;
        let x = rms_norm(hidden, &self.input_norm, self.config.norm_eps)?;
        let heads = |linear: &Linear, count: i64, norm: Option<&Tensor>| -> Result<Tensor> {
            let mut y = linear.forward(&x)?.f_view([batch, length, count, self.config.head_dim])?;
            if let Some(weight) = norm {
                y = rms_norm(&y, weight, self.config.norm_eps)?;
            }
            Ok(y.f_transpose(1, 2)?)
        };
        let q = heads(&self.q, self.config.heads, self.q_norm.as_ref())?;
        let k = heads(&self.k, self.config.kv_heads, self.k_norm.as_ref())?;
        let v = heads(&self.v, self.config.kv_heads, None)?;
        Ok((rope.apply(&q)?, rope.apply(&k)?, v))
    }

    /// The block's output `[B, T, H]` from its input `hidden` and what attention gave, `[B, heads, T, D]`.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn after_attention(&self, hidden: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let (batch, length, _) = hidden.size3()?;
        let joined =
            attended.f_transpose(1, 2)?.f_reshape([batch, length, self.config.heads * self.config.head_dim])?;
        let hidden = hidden.f_add(&self.o.forward(&joined)?)?;
        let x = rms_norm(&hidden, &self.post_norm, self.config.norm_eps)?;
        let inner = self.gate.forward(&x)?.f_silu()?.f_mul(&self.up.forward(&x)?)?;
        Ok(hidden.f_add(&self.down.forward(&inner)?)?)
    }

    /// The whole block on `hidden` `[B, T, H]`.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn forward(&self, hidden: &Tensor, rope: &Rope, attention: Attention<'_>) -> Result<Tensor> {
        let (q, k, v) = self.queries_keys_values(hidden, rope)?;
        let attended = attend(&q, &k, &v, attention)?;
        self.after_attention(hidden, &attended)
    }
}

/// Attention of `q` `[B, heads, T, D]` over `k` and `v` `[B, kv heads, S, D]`: `[B, heads, T, D]`. Query heads share key heads
/// in groups.
///
/// # Errors
/// When libtorch refuses.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, attention: Attention<'_>) -> Result<Tensor> {
    let (mask, causal) = match attention {
        Attention::Causal => (None, true),
        Attention::Mask(mask) => (Some(mask), false),
    };
    let grouped = q.size4()?.1 != k.size4()?.1;
    Ok(Tensor::f_scaled_dot_product_attention(q, k, v, mask, 0.0, causal, None, grouped)?)
}

/// `weight · x / √(mean(x²) + eps)` over the last dimension, computed in f32 at least; of bf16, rounded once before the
/// weight is applied.
///
/// # Errors
/// When libtorch refuses.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let width = [weight.size1()?];
    if matches!(x.kind(), Kind::Float | Kind::Double) {
        return Ok(x.f_rms_norm(width, Some(weight), eps)?);
    }
    let normal = x.f_to_kind(Kind::Float)?.f_rms_norm(width, None::<&Tensor>, eps)?;
    Ok(normal.f_to_kind(x.kind())?.f_mul(weight)?)
}

/// A causal language model.
///
/// It can be sent to another thread but not used by two at once: give each thread its own [`CausalLm::share`].
#[derive(Debug)]
pub struct CausalLm {
    config: Arc<ModelConfig>,
    device: Device,
    precision: Precision,
    rope: RopeTable,
    layers: Vec<Layer>,
    // Last, so that views on the weights are dropped before the mappings under them.
    weights: Weights,
}

/// Checks a model folder without loading it: configuration, tokenizer file, and the names, shapes and formats of all
/// tensors.
///
/// # Errors
/// [`TorchError::Model`] with the file, key or tensor that is wrong.
pub fn inspect(folder: &Path, precision: Precision) -> Result<ModelCard> {
    let config = ModelConfig::read(folder)?;
    if !folder.join("tokenizer.json").is_file() {
        return Err(TorchError::model(folder, "tokenizer.json is missing"));
    }
    check_weights(folder, &config.expected())?;
    Ok(config.card(precision))
}

impl CausalLm {
    /// Loads the model of `folder`.
    ///
    /// # Errors
    /// [`TorchError::Model`] as [`inspect`]; [`TorchError::Libtorch`] when the device has no memory for it.
    pub fn load(folder: &Path, device: Device, precision: Precision) -> Result<Self> {
        let config = ModelConfig::read(folder)?;
        let weights = Weights::load(folder, &config.expected(), device, precision.kind())?;
        Self::new(Arc::new(config), weights, device, precision)
    }

    /// A model from weights that are already on `device` in `precision`.
    ///
    /// # Errors
    /// [`TorchError::Input`] when a tensor is missing.
    pub fn new(config: Arc<ModelConfig>, weights: Weights, device: Device, precision: Precision) -> Result<Self> {
        let rope = RopeTable::new(&config, device)?;
        let layers = (0..config.layers).map(|index| layer(&config, &weights, index)).collect::<Result<_>>()?;
        Ok(Self { config, device, precision, rope, layers, weights })
    }

    /// What the model looks like.
    pub fn config(&self) -> &Arc<ModelConfig> {
        &self.config
    }

    /// What the loop wants to know of it.
    pub fn card(&self) -> ModelCard {
        self.config.card(self.precision)
    }

    /// Where its tensors are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number format of weights and activations.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The blocks.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The linear layer with this name, for example `model.layers.0.self_attn.q_proj`, to set or take its adapter.
    pub fn linear_mut(&mut self, name: &str) -> Option<&mut Linear> {
        let (index, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let layer = self.layers.get_mut(index.parse::<usize>().ok()?)?;
        match rest {
            "self_attn.q_proj" => Some(&mut layer.q),
            "self_attn.k_proj" => Some(&mut layer.k),
            "self_attn.v_proj" => Some(&mut layer.v),
            "self_attn.o_proj" => Some(&mut layer.o),
            "mlp.gate_proj" => Some(&mut layer.gate),
            "mlp.up_proj" => Some(&mut layer.up),
            "mlp.down_proj" => Some(&mut layer.down),
            _ => None,
        }
    }

    /// Another handle on the same tensors, adapters included, for another thread.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn share(&self) -> Result<Self> {
        self.with(&BTreeMap::new())
    }

    /// The same model with some weights replaced, by name: the way in for trainable copies. Adapters are shared.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn with(&self, replacements: &BTreeMap<String, Tensor>) -> Result<Self> {
        let weights = self.weights.replaced(replacements);
        let mut model = Self::new(Arc::clone(&self.config), weights, self.device, self.precision)?;
        for (new, old) in model.layers.iter_mut().zip(&self.layers) {
            for (new, old) in linears_mut(new).into_iter().zip(linears(old)) {
                new.adapter = old.adapter.as_ref().map(|adapter| Adapter {
                    a: adapter.a.shallow_clone(),
                    b: adapter.b.shallow_clone(),
                    scale: adapter.scale,
                });
            }
        }
        Ok(model)
    }

    /// Embeddings `[.., H]` of `tokens` `[..]` (i64).
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(self.tensor("model.embed_tokens.weight")?, tokens, -1, false, false)?)
    }

    /// Rotary factors at `positions` (i64), `[T]` for all rows or `[B, T]` for each.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn rope(&self, positions: &Tensor) -> Result<Rope> {
        self.rope.at(positions, self.precision.kind())
    }

    /// The block at `index` on `hidden` `[B, T, H]`.
    ///
    /// # Errors
    /// When there is no such block, or libtorch refuses.
    pub fn layer_forward(
        &self,
        index: usize,
        hidden: &Tensor,
        rope: &Rope,
        attention: Attention<'_>,
    ) -> Result<Tensor> {
        let layer =
            self.layers.get(index).ok_or_else(|| TorchError::Input(format!("the model has no layer {index}")))?;
        layer.forward(hidden, rope, attention)
    }

    /// The final norm on `hidden` `[.., H]`.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        rms_norm(hidden, self.tensor("model.norm.weight")?, self.config.norm_eps)
    }

    /// The output matrix `[V, H]`: the embeddings, when they are tied.
    ///
    /// # Errors
    /// Never for a model made by [`CausalLm::load`].
    pub fn lm_head(&self) -> Result<&Tensor> {
        self.tensor(if self.config.tied { "model.embed_tokens.weight" } else { "lm_head.weight" })
    }

    /// Hidden states `[B, T, H]` of `tokens` `[B, T]` after the final norm. Rows shorter than T are padded on the right with
    /// any token; what comes out at padded places means nothing.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn forward_hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        let length = tokens.size2()?.1;
        let rope = self.rope(&Tensor::f_arange(length, (Kind::Int64, self.device))?)?;
        let mut hidden = self.embed(tokens)?;
        let mut masks: BTreeMap<i64, Tensor> = BTreeMap::new();
        for layer in &self.layers {
            let window = layer.window.filter(|window| *window < length);
            let attention = match window {
                None => Attention::Causal,
                Some(window) => {
                    if let std::collections::btree_map::Entry::Vacant(entry) = masks.entry(window) {
                        entry.insert(window_mask(length, window, self.device)?);
                    }
                    Attention::Mask(&masks[&window])
                }
            };
            hidden = layer.forward(&hidden, &rope, attention)?;
        }
        self.final_norm(&hidden)
    }

    /// Logits `[B, T, V]` of `tokens` `[B, T]`: the whole tensor, so for short inputs and tests.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        Ok(self.forward_hidden(tokens)?.f_linear(self.lm_head()?, None::<&Tensor>)?)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.weights.tensors().get(name).ok_or_else(|| TorchError::Input(format!("tensor {name} is missing")))
    }
}

/// `[T, T]` bool: `true` where token j (column) is at or before token i (row) and fewer than `window` tokens back.
///
/// # Errors
/// When libtorch refuses.
pub fn window_mask(length: i64, window: i64, device: Device) -> Result<Tensor> {
    let ones = Tensor::f_ones([length, length], (Kind::Bool, device))?;
    Ok(ones.f_tril(0)?.f_triu(1 - window)?)
}

fn linears(layer: &Layer) -> [&Linear; 7] {
    [&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down]
}

fn linears_mut(layer: &mut Layer) -> [&mut Linear; 7] {
    [&mut layer.q, &mut layer.k, &mut layer.v, &mut layer.o, &mut layer.gate, &mut layer.up, &mut layer.down]
}

fn layer(config: &Arc<ModelConfig>, weights: &Weights, index: i64) -> Result<Layer> {
    let optional =
        |name: &str| weights.tensors().get(&format!("model.layers.{index}.{name}")).map(Tensor::shallow_clone);
    let tensor = |name: &str| {
        optional(name).ok_or_else(|| TorchError::Input(format!("tensor model.layers.{index}.{name} is missing")))
    };
    let linear = |name: &str| -> Result<Linear> {
        Ok(Linear {
            weight: tensor(&format!("{name}.weight"))?,
            bias: optional(&format!("{name}.bias")),
            adapter: None,
        })
    };
    Ok(Layer {
        input_norm: tensor("input_layernorm.weight")?,
        q: linear("self_attn.q_proj")?,
        k: linear("self_attn.k_proj")?,
        v: linear("self_attn.v_proj")?,
        o: linear("self_attn.o_proj")?,
        q_norm: optional("self_attn.q_norm.weight"),
        k_norm: optional("self_attn.k_norm.weight"),
        post_norm: tensor("post_attention_layernorm.weight")?,
        gate: linear("mlp.gate_proj")?,
        up: linear("mlp.up_proj")?,
        down: linear("mlp.down_proj")?,
        window: usize::try_from(index).ok().and_then(|index| config.windows.get(index).copied().flatten()),
        config: Arc::clone(config),
    })
}
