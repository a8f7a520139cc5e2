//! The shape of the model that a plan is for.

use std::{fs, path::Path};

use metareward_api::{EngineError, ModelCard};
use serde_json::Value;

use crate::{ModelShape, RunError};

/// The shape of a loaded model.
pub(super) fn of_card(card: &ModelCard) -> ModelShape {
    let ModelCard { parameters, context, vocabulary, cache_bytes_per_token, layers, hidden, .. } = *card;
    ModelShape { parameters, layers, hidden, cache_bytes_per_token, context, vocabulary }
}

/// The shape that a model folder's `config.json`, or such a file by itself, says: Llama, Mistral and Qwen count their
/// parameters alike. Keys and values are counted at two bytes a number.
///
/// # Errors
/// When the file is missing or says too little.
pub fn model_shape(path: &Path) -> Result<ModelShape, RunError> {
    let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let broken = |message: String| RunError::Engine(EngineError::Model { folder: folder.clone(), message });
    let text = fs::read_to_string(&path).map_err(|error| broken(format!("{name}: {error}")))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| broken(format!("{name}: {error}")))?;
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    let need = |key: &str| number(key).ok_or_else(|| broken(format!("{name} has no whole number `{key}`")));
    let (hidden, layers) = (need("hidden_size")?, need("num_hidden_layers")?);
    let (inner, vocabulary) = (need("intermediate_size")?, need("vocab_size")?);
    let (heads, context) = (need("num_attention_heads")?.max(1), need("max_position_embeddings")?);
    let key_heads = number("num_key_value_heads").unwrap_or(heads);
    let head = number("head_dim").unwrap_or(hidden / heads);
    let attention = 2 * hidden * heads * head + 2 * hidden * key_heads * head;
    let tied = config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false);
    let embeddings = if tied { 1 } else { 2 } * vocabulary * hidden;
    let parameters = embeddings + layers * (attention + 3 * hidden * inner + 2 * hidden) + hidden;
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(ModelShape {
        parameters,
        layers: small(layers),
        hidden: small(hidden),
        cache_bytes_per_token: 2 * layers * key_heads * head * 2,
        context: small(context),
        vocabulary: small(vocabulary),
    })
}
