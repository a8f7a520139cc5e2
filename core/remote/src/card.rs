//! What a model folder says of itself, without its weights.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use metareward_api::{EngineError, ModelCard};
use serde_json::Value;

/// Reads `config.json` and the headers of the weights.
///
/// # Errors
/// [`EngineError::Model`] when a file is missing or has another form.
pub fn read_card(folder: &Path) -> Result<ModelCard, EngineError> {
    let wrong = |message: String| EngineError::Model { folder: folder.to_path_buf(), message };
    let text =
        fs::read_to_string(folder.join("config.json")).map_err(|error| wrong(format!("config.json: {error}")))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("config.json: {error}")))?;
    let number = |name: &str| {
        let found = config.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        found.ok_or_else(|| wrong(format!("config.json: no number under {name}")))
    };
    let architecture = config.get("architectures").and_then(|names| names.get(0)?.as_str()).unwrap_or_default();
    let (layers, hidden, heads) =
        (number("num_hidden_layers")?, number("hidden_size")?, number("num_attention_heads")?);
    let width =
        number("head_dim").or_else(|_| hidden.checked_div(heads).ok_or_else(|| wrong("no attention heads".into())))?;
    let key_heads = number("num_key_value_heads").unwrap_or(heads);
    let bytes = match config.get("dtype").or_else(|| config.get("torch_dtype")).and_then(Value::as_str) {
        Some("bfloat16" | "float16") => 2,
        _ => 4,
    };
    Ok(ModelCard {
        architecture: architecture.to_owned(),
        parameters: parameters(folder).map_err(wrong)?,
        context: number("max_position_embeddings")?,
        vocabulary: number("vocab_size")?,
        cache_bytes_per_token: 2 * u64::from(layers) * u64::from(key_heads) * u64::from(width) * bytes,
        layers,
        hidden,
    })
}

/// Numbers in all tensors of the weights: `model.safetensors`, or its parts `model-….safetensors`.
fn parameters(folder: &Path) -> Result<u64, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let is_part = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "model.safetensors" || (name.starts_with("model-") && name.ends_with(".safetensors"))
    };
    let mut weights: Vec<&PathBuf> = files.iter().filter(is_part).collect();
    weights.sort();
    weights.into_iter().map(|path| in_file(path).map_err(|error| format!("{}: {error}", path.display()))).sum()
}

/// A header is its length, eight bytes, little end first, and JSON with a shape per tensor.
fn in_file(path: &Path) -> Result<u64, String> {
    /// Longer headers than the format allows are no headers.
    const LONGEST: u64 = 100 << 20;
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| error.to_string())?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        return Err("no safetensors header".to_owned());
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|error| error.to_string())?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    let shapes = header.values().filter_map(|tensor| tensor.get("shape")?.as_array());
    Ok(shapes.map(|shape| shape.iter().filter_map(Value::as_u64).product::<u64>()).sum())
}
