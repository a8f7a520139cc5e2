//! `config.json` of a Hugging Face model folder, as far as the forward pass depends on it.

use std::{fs, path::Path};

use metareward_api::ModelCard;
use serde_json::Value;

use crate::{Precision, Result, TorchError};

/// The architectures that the forward pass implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2, 3, 3.1, 3.2.
    Llama,
    /// Mistral: Llama with a sliding attention window.
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: norms on queries and keys.
    Qwen3,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 4] =
        [Architecture::Llama, Architecture::Mistral, Architecture::Qwen2, Architecture::Qwen3];

    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Mistral => "MistralForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// How rotary position frequencies are changed for longer contexts (`rope_scaling` in `config.json`).
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths longer than the original context divided by this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original context divided by this are high frequencies.
        high_freq_factor: f64,
        /// The context that the model was first trained for.
        original_context: f64,
    },
    /// YaRN (Peng et al. 2023): interpolation by wavelength and a temperature on attention.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// The context that the model was first trained for.
        original_context: f64,
        /// Multiplies cosine and sine.
        attention_factor: f64,
        /// Rotations above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which a frequency is divided in full.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
}

/// What the forward pass needs to know of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Architecture.
    pub architecture: Architecture,
    /// Width of the hidden state.
    pub hidden: i64,
    /// Number of layers.
    pub layers: i64,
    /// Number of query heads.
    pub heads: i64,
    /// Number of key and value heads.
    pub kv_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// Width of the feed-forward block.
    pub intermediate: i64,
    /// Size of the vocabulary.
    pub vocabulary: i64,
    /// Longest sequence in tokens.
    pub context: i64,
    /// Added to the variance in the norms.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Whether the output matrix is the embedding matrix.
    pub tied: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward block has biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalised per head.
    pub qk_norm: bool,
    /// Sliding attention window of each layer, in tokens.
    pub windows: Vec<Option<i64>>,
    /// The token that begins a text.
    pub bos: Option<i64>,
    /// Tokens that end a turn, from `config.json` and `generation_config.json`, sorted.
    pub eos: Vec<i64>,
    /// `config.json` as it was.
    pub raw: Value,
}

/// The shape of one tensor that a model folder must hold.
pub type Expected = (String, Vec<i64>);

impl ModelConfig {
    /// Reads `config.json`, and `generation_config.json` where there is one.
    ///
    /// # Errors
    /// [`TorchError::Model`] with the file and key when one is missing, of another type or of a value that the forward
    /// pass does not implement.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(TorchError::model(folder, "there is no such folder"));
        }
        let raw = read_json(folder, "config.json")?
            .ok_or_else(|| TorchError::model(folder, "config.json is missing: is this a Hugging Face model folder?"))?;
        let generation = read_json(folder, "generation_config.json")?;
        Self::parse(raw, generation.as_ref()).map_err(|message| TorchError::model(folder, message))
    }

    fn parse(raw: Value, generation: Option<&Value>) -> Result<Self, String> {
        let keys = Keys(&raw);
        let architecture = architecture(&raw)?;
        if let Some(quantization) = raw.get("quantization_config").filter(|value| !value.is_null()) {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            return Err(format!("config.json: quantised weights ({method}) cannot be read: use the f32 or bf16 model"));
        }
        let activation = raw.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
        if activation != "silu" {
            return Err(format!("config.json: hidden_act is {activation:?}; only \"silu\" is known"));
        }
        let hidden = keys.positive("hidden_size")?;
        let heads = keys.positive("num_attention_heads")?;
        let layers = keys.positive("num_hidden_layers")?;
        if layers > 10_000 {
            return Err(format!("config.json: num_hidden_layers is {layers}: no model is that large"));
        }
        // A key that is left out has the value that transformers gives it.
        let kv_heads = match (raw.get("num_key_value_heads"), architecture) {
            (None, Architecture::Mistral) => 8,
            (None, Architecture::Qwen2 | Architecture::Qwen3) => 32,
            _ => keys.positive_or("num_key_value_heads", heads)?,
        };
        if heads % kv_heads != 0 {
            return Err(format!(
                "config.json: num_attention_heads ({heads}) is not a multiple of num_key_value_heads ({kv_heads})"
            ));
        }
        let default_head_dim = if architecture == Architecture::Qwen3 { 128 } else { hidden / heads };
        let head_dim = keys.positive_or("head_dim", default_head_dim)?;
        if head_dim % 2 != 0 {
            return Err(format!("config.json: head_dim is {head_dim}, an odd number: rotary positions need pairs"));
        }
        let context = keys.positive("max_position_embeddings")?;
        let attention_bias = keys.flag("attention_bias", false)?;
        let (rope_theta, rope_scaling) = rope(&raw, context)?;
        let mut eos = keys.ids("eos_token_id")?;
        if let Some(generation) = generation {
            eos.extend(Keys(generation).ids("eos_token_id").map_err(|error| format!("generation_{error}"))?);
        }
        eos.sort_unstable();
        eos.dedup();
        Ok(Self {
            architecture,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate: keys.positive("intermediate_size")?,
            vocabulary: keys.positive("vocab_size")?,
            context,
            norm_eps: keys.number("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            tied: keys.flag("tie_word_embeddings", false)?,
            qkv_bias: match architecture {
                Architecture::Qwen2 => true,
                Architecture::Mistral => false,
                Architecture::Llama | Architecture::Qwen3 => attention_bias,
            },
            output_bias: matches!(architecture, Architecture::Llama | Architecture::Qwen3) && attention_bias,
            mlp_bias: architecture == Architecture::Llama && keys.flag("mlp_bias", false)?,
            qk_norm: architecture == Architecture::Qwen3,
            windows: windows(&raw, architecture, layers)?,
            bos: keys.ids("bos_token_id")?.first().copied(),
            eos,
            raw,
        })
    }

    /// Names and shapes of all tensors of the model, in the order of the forward pass.
    pub fn expected(&self) -> Vec<Expected> {
        let (h, queries, keys, wide) =
            (self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.intermediate);
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, h])];
        for layer in 0..self.layers {
            let prefix = format!("model.layers.{layer}");
            let mut add = |name: &str, shape: &[i64]| all.push((format!("{prefix}.{name}"), shape.to_vec()));
            add("input_layernorm.weight", &[h]);
            for (name, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                add(&format!("self_attn.{name}.weight"), &[rows, h]);
                if self.qkv_bias {
                    add(&format!("self_attn.{name}.bias"), &[rows]);
                }
            }
            add("self_attn.o_proj.weight", &[h, queries]);
            if self.output_bias {
                add("self_attn.o_proj.bias", &[h]);
            }
            if self.qk_norm {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("post_attention_layernorm.weight", &[h]);
            for (name, rows, columns) in [("gate_proj", wide, h), ("up_proj", wide, h), ("down_proj", h, wide)] {
                add(&format!("mlp.{name}.weight"), &[rows, columns]);
                if self.mlp_bias {
                    add(&format!("mlp.{name}.bias"), &[rows]);
                }
            }
        }
        all.push(("model.norm.weight".to_owned(), vec![h]));
        if !self.tied {
            all.push(("lm_head.weight".to_owned(), vec![self.vocabulary, h]));
        }
        all
    }

    /// What the loop wants to know of the model. Keys and values are counted in `precision`.
    pub fn card(&self, precision: Precision) -> ModelCard {
        let size = |shape: &[i64]| shape.iter().map(|size| u128::from(size.unsigned_abs())).product::<u128>();
        let parameters: u128 = self.expected().iter().map(|(_, shape)| size(shape)).sum();
        let cache = 2 * self.layers.unsigned_abs() * (self.kv_heads * self.head_dim).unsigned_abs();
        ModelCard {
            architecture: self.architecture.name().to_owned(),
            parameters: u64::try_from(parameters).unwrap_or(u64::MAX),
            context: u32::try_from(self.context).unwrap_or(u32::MAX),
            vocabulary: u32::try_from(self.vocabulary).unwrap_or(u32::MAX),
            cache_bytes_per_token: cache.saturating_mul(precision.bytes()),
            layers: u32::try_from(self.layers).unwrap_or(u32::MAX),
            hidden: u32::try_from(self.hidden).unwrap_or(u32::MAX),
        }
    }
}

/// A JSON file of a model folder; `None` where it does not exist.
pub(crate) fn read_json(folder: &Path, name: &str) -> Result<Option<Value>> {
    let path = folder.join(name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TorchError::io(&path, &error)),
    };
    let value: Value =
        serde_json::from_str(&text).map_err(|error| TorchError::model(folder, format!("{name}: {error}")))?;
    if value.is_object() { Ok(Some(value)) } else { Err(TorchError::model(folder, format!("{name}: not an object"))) }
}

fn architecture(raw: &Value) -> Result<Architecture, String> {
    let known = || Architecture::ALL.map(Architecture::name).join(", ");
    let found = match raw.get("architectures").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(name)]) => name.as_str(),
        Some([]) | None => return Err(format!("config.json: architectures is missing; known are {}", known())),
        Some(_) => return Err(format!("config.json: architectures is not one name; known are {}", known())),
    };
    Architecture::ALL
        .into_iter()
        .find(|architecture| architecture.name() == found)
        .ok_or_else(|| format!("config.json: architecture {found} is not known; known are {}", known()))
}

/// Base and scaling of the rotary frequencies: `rope_scaling` of transformers 4, `rope_parameters` of transformers 5.
fn rope(raw: &Value, context: i64) -> Result<(f64, RopeScaling), String> {
    let newer = raw.get("rope_parameters").filter(|value| value.is_object());
    let older = raw.get("rope_scaling").filter(|value| value.is_object());
    let theta_of = |value: &Value| value.get("rope_theta").and_then(Value::as_f64);
    let theta = newer.and_then(theta_of).or_else(|| theta_of(raw)).unwrap_or(10_000.0);
    if !(theta.is_finite() && theta > 0.0) {
        return Err(format!("config.json: rope_theta is {theta}; it must be above 0"));
    }
    let scaling = newer.or(older);
    for place in [Some(raw), scaling].into_iter().flatten() {
        let part = Keys(place).number("partial_rotary_factor", 1.0)?;
        if part != 1.0 {
            return Err(format!("config.json: partial_rotary_factor is {part}; only 1 is known"));
        }
    }
    let Some(scaling) = scaling else { return Ok((theta, RopeScaling::Default)) };
    let keys = Keys(scaling);
    let required = |name: &str| match scaling.get(name).and_then(Value::as_f64) {
        Some(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err(format!("config.json: rope scaling needs {name}, a number above 0")),
    };
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
    let original = || {
        let given = scaling.get("original_max_position_embeddings").and_then(Value::as_f64);
        #[allow(clippy::cast_precision_loss)]
        given.unwrap_or(context as f64)
    };
    let scaling = match kind {
        "default" => RopeScaling::Default,
        // Changes the frequencies of sequences longer than `max_position_embeddings`, of which there are none here.
        "dynamic" => {
            required("factor")?;
            RopeScaling::Default
        }
        "linear" => RopeScaling::Linear { factor: required("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_context: required("original_max_position_embeddings")?,
        },
        "yarn" => {
            let factor = required("factor")?;
            let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
            let (mscale, all) = (keys.number("mscale", 0.0)?, keys.number("mscale_all_dim", 0.0)?);
            let computed = if mscale != 0.0 && all != 0.0 { scale(mscale) / scale(all) } else { scale(1.0) };
            RopeScaling::Yarn {
                factor,
                original_context: original(),
                attention_factor: keys.number("attention_factor", computed)?,
                beta_fast: keys.number("beta_fast", 32.0)?,
                beta_slow: keys.number("beta_slow", 1.0)?,
                truncate: keys.flag("truncate", true)?,
            }
        }
        other => {
            return Err(format!(
                "config.json: rope scaling {other:?} is not known; known are default, dynamic, linear, llama3, yarn"
            ));
        }
    };
    Ok((theta, scaling))
}

/// The sliding window of each layer: Mistral's holds for all; Qwen's for layers from `max_window_layers` on, if it is
/// switched on; `layer_types` names each layer's where it is given.
fn windows(raw: &Value, architecture: Architecture, layers: i64) -> Result<Vec<Option<i64>>, String> {
    let keys = Keys(raw);
    let count = usize::try_from(layers).map_err(|error| error.to_string())?;
    let window = match raw.get("sliding_window") {
        None => Some(DEFAULT_WINDOW),
        Some(Value::Null) => None,
        Some(_) => Some(keys.positive("sliding_window")?),
    };
    match architecture {
        Architecture::Llama => Ok(vec![None; count]),
        Architecture::Mistral => Ok(vec![window; count]),
        Architecture::Qwen2 | Architecture::Qwen3 => {
            if window.is_none() || !keys.flag("use_sliding_window", false)? {
                return Ok(vec![None; count]);
            }
            if let Some(types) = raw.get("layer_types").and_then(Value::as_array) {
                if types.len() != count {
                    return Err(format!("config.json: layer_types has {} entries for {layers} layers", types.len()));
                }
                return Ok(types.iter().map(|kind| window.filter(|_| kind == "sliding_attention")).collect());
            }
            let first = keys.number("max_window_layers", 28.0)?;
            #[allow(clippy::cast_precision_loss)]
            Ok((0..count).map(|layer| window.filter(|_| layer as f64 >= first)).collect())
        }
    }
}

/// Sliding window where `config.json` has no `sliding_window`, as in transformers.
const DEFAULT_WINDOW: i64 = 4096;

/// Largest value of any size in `config.json`.
const LARGEST_SIZE: i64 = 1 << 27;

/// Typed access to the keys of `config.json`.
struct Keys<'a>(&'a Value);

impl Keys<'_> {
    fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn positive(&self, name: &str) -> Result<i64, String> {
        let Some(value) = self.given(name) else { return Err(format!("config.json: {name} is missing")) };
        match value.as_i64() {
            // The upper end keeps products of a few sizes within 64 bits; no model comes near it.
            Some(number) if number > 0 && number <= LARGEST_SIZE => Ok(number),
            Some(number) if number > LARGEST_SIZE => {
                Err(format!("config.json: {name} is {value}: no model is that large"))
            }
            _ => Err(format!("config.json: {name} is {value}; it must be a whole number above 0")),
        }
    }

    fn positive_or(&self, name: &str, default: i64) -> Result<i64, String> {
        if self.given(name).is_some() { self.positive(name) } else { Ok(default) }
    }

    fn number(&self, name: &str, default: f64) -> Result<f64, String> {
        match self.given(name) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| format!("config.json: {name} is {value}; it must be a number")),
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.given(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(value) => Err(format!("config.json: {name} is {value}; it must be true or false")),
        }
    }

    /// One token id, a list of them, or none.
    fn ids(&self, name: &str) -> Result<Vec<i64>, String> {
        let wrong = || format!("config.json: {name} must be a token id or a list of them");
        match self.given(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|value| value.as_i64().ok_or_else(wrong)).collect(),
            Some(value) => Ok(vec![value.as_i64().ok_or_else(wrong)?]),
        }
    }
}
