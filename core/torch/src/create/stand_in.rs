//! A stand-in for a model of which there is only a `config.json`: random weights of its shape, to measure an engine with.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Map, Value, json};

use super::{BEGIN, CHAT_TEMPLATE, END, special_tokens, train_word_tokenizer};
use crate::{
    Precision,
    config::ModelConfig,
    error::{Result, TorchError},
};

/// Writes a folder that loads as the model that `config` (the content of a `config.json`) describes, with random weights in
/// bf16 or f32 and a tokenizer of the words of `texts`, the most frequent first, as many as its vocabulary has room for.
/// Weights are written as they are made: the largest tensor is not held in memory.
///
/// # Errors
/// [`TorchError::Input`] when the config is not one of a model that is known, and what the file system says.
pub fn create_stand_in<'a>(
    folder: &Path,
    config: &Value,
    precision: Precision,
    texts: impl Iterator<Item = &'a str>,
    seed: u64,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| TorchError::io(folder, &source))?;
    let mut config = config.clone();
    if let Some(fields) = config.as_object_mut() {
        // The stand-in's own tokens and number format.
        fields.insert("bos_token_id".into(), json!(0));
        fields.insert("eos_token_id".into(), json!(1));
        fields.insert("torch_dtype".into(), json!(precision.config_name()));
        fields.remove("dtype");
        fields.remove("quantization_config");
    }
    super::write_json(folder, "config.json", &config)?;
    let read = ModelConfig::read(folder)?;
    let room = usize::try_from(read.vocabulary).unwrap_or(0).saturating_sub(special_tokens().len() + 256);
    let tokenizer = train_word_tokenizer(std::iter::once(frequent(texts, room).as_str()), &special_tokens())?;
    let path = folder.join("tokenizer.json");
    tokenizer
        .save(&path, true)
        .map_err(|source| TorchError::Input(format!("cannot write {}: {source}", path.display())))?;
    super::write_json(folder, "generation_config.json", &json!({"bos_token_id": 0, "eos_token_id": 1}))?;
    super::write_json(
        folder,
        "tokenizer_config.json",
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END,
            "clean_up_tokenization_spaces": false, "chat_template": CHAT_TEMPLATE,
        }),
    )?;
    let path = folder.join("model.safetensors");
    weights(&path, &read, precision, seed).map_err(|source| TorchError::io(&path, &source))
}

/// The most frequent words of the texts, each once.
fn frequent<'a>(texts: impl Iterator<Item = &'a str>, room: usize) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for word in texts.flat_map(|text| text.split(|letter: char| !letter.is_alphabetic())).filter(|word| word.len() > 1)
    {
        *counts.entry(word).or_default() += 1;
    }
    let mut words: Vec<(&str, u64)> = counts.into_iter().collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    words.into_iter().take(room).map(|(word, _)| word).collect::<Vec<_>>().join(" ")
}

/// Writes random matrices, evenly distributed with the spread that keeps activations as they are, and norms of ones.
fn weights(path: &Path, config: &ModelConfig, precision: Precision, seed: u64) -> std::io::Result<()> {
    let width = precision.bytes();
    let count = |shape: &[i64]| shape.iter().map(|size| u64::try_from(*size).unwrap_or(0)).product::<u64>();
    let expected = config.expected();
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (name, shape) in &expected {
        let end = offset + count(shape) * width;
        let dtype = if width == 2 { "BF16" } else { "F32" };
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let header = Value::Object(header).to_string();
    // The data begin at a multiple of eight bytes.
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut state = seed | 1;
    for (name, shape) in &expected {
        let is_matrix = shape.len() > 1;
        let columns = shape.last().copied().unwrap_or(1).max(1) as f32;
        // Even on (-a, a) has a deviation of a / √3.
        let spread = (3.0 / columns).sqrt();
        let bias = name.ends_with("bias");
        for _ in 0..count(shape) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let even = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            let value = match (is_matrix, bias) {
                (true, _) => even * spread,
                (false, true) => 0.0,
                (false, false) => 1.0,
            };
            let bytes = value.to_le_bytes();
            file.write_all(if width == 2 { &bytes[2..] } else { &bytes })?;
        }
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}
