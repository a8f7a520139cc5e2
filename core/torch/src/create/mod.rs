//! A new model folder: a tokenizer trained on given texts and random weights of a given shape.
//!
//! For experiments that bring their own small model, such as `experiments/quickstart`. The folder is a Hugging Face
//! folder like any other and loads in transformers as it is.

mod stand_in;
mod tokenizer;
mod weights;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Result, TorchError};

pub use stand_in::create_stand_in;
pub use tokenizer::train_word_tokenizer;

/// Shape of a new model of the Llama architecture. Names as in `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelShape {
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of attention.
    pub num_attention_heads: usize,
    /// Heads of keys and values; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Standard deviation of the embeddings' first values.
    pub embedding_deviation: f64,
    /// Standard deviation of the other matrices' first values; a narrow model learns faster with more than 0.02.
    pub linear_deviation: f64,
}

impl Default for ModelShape {
    /// About 0.7 M parameters.
    fn default() -> Self {
        Self {
            hidden_size: 128,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            intermediate_size: 384,
            max_position_embeddings: 512,
            rope_theta: 10_000.0,
            embedding_deviation: 0.02,
            linear_deviation: 0.02,
        }
    }
}

impl ModelShape {
    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(TorchError::Input(message));
        for (name, value) in [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 {
                return wrong(format!("{name} is 0, expected at least 1"));
            }
        }
        if !self.hidden_size.is_multiple_of(2 * self.num_attention_heads) {
            return wrong(format!(
                "hidden_size {} is not a multiple of twice num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return wrong(format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        Ok(())
    }
}

/// Begins every conversation.
const BEGIN: &str = "<s>";
/// Ends every turn.
const END: &str = "</s>";
/// Pads batches in other tools.
const PAD: &str = "<pad>";
/// Says who speaks next.
const TURNS: [&str; 3] = ["<|system|>", "<|user|>", "<|assistant|>"];

/// The special tokens of a new model, in the order of their ids from 0.
fn special_tokens() -> Vec<&'static str> {
    [BEGIN, END, PAD].into_iter().chain(TURNS).collect()
}

/// `<s><|user|>question</s><|assistant|>answer</s>`: one token of frame on each side of a turn.
const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// Writes a new model folder: weights drawn from `seed`, a tokenizer trained on `texts`, a chat template.
///
/// Weights are normal, with the shape's standard deviations. Embeddings are tied. The same arguments give the same bytes on
/// every machine.
///
/// # Errors
/// [`TorchError::Input`] when the shape is not one of a model, and what the file system or the tokenizer says.
pub fn create_model<'a>(
    folder: &Path,
    shape: &ModelShape,
    texts: impl Iterator<Item = &'a str> + Send,
    seed: u64,
) -> Result<()> {
    shape.check()?;
    let tokenizer = train_word_tokenizer(texts, &special_tokens())?;
    fs::create_dir_all(folder).map_err(|source| TorchError::io(folder, &source))?;
    let vocabulary = tokenizer.get_vocab_size(true);
    let path = folder.join("tokenizer.json");
    tokenizer
        .save(&path, true)
        .map_err(|source| TorchError::Input(format!("cannot write {}: {source}", path.display())))?;
    write_json(folder, "config.json", &config(shape, vocabulary))?;
    write_json(folder, "generation_config.json", &json!({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}))?;
    write_json(
        folder,
        "tokenizer_config.json",
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": false,
            "model_max_length": shape.max_position_embeddings,
            "chat_template": CHAT_TEMPLATE,
        }),
    )?;
    weights::write(&folder.join("model.safetensors"), shape, vocabulary, seed)
}

fn config(shape: &ModelShape, vocabulary: usize) -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.hidden_size / shape.num_attention_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": true,
        "initializer_range": shape.linear_deviation,
        "vocab_size": vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "torch_dtype": "float32",
        "use_cache": true,
    })
}

fn write_json(folder: &Path, name: &str, value: &serde_json::Value) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, format!("{value:#}\n")).map_err(|source| TorchError::io(&path, &source))
}
