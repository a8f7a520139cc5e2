//! Writing a model folder that transformers, and this crate, load as it is.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use crate::{
    Precision, Result, TorchError,
    config::{ModelConfig, read_json},
};

/// Largest safetensors file, in bytes of tensors; a model that is larger becomes several, as in transformers.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// Files that are carried over from the folder of the model that was trained.
const CARRIED: [&str; 9] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Writes `tensors` as a model folder `target`, with configuration, tokenizer and chat template of `source`.
///
/// The same tensors give the same bytes. Every file appears whole or not at all, and `config.json` appears last: a folder
/// that was left half-written has none and is refused. A tied output matrix is not written.
///
/// # Errors
/// [`TorchError::Io`] when a file cannot be read or written; [`TorchError::Model`] when `source` is no model folder or
/// `tensors` lacks one.
pub fn save_model(
    source: &Path,
    target: &Path,
    tensors: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<()> {
    save_model_in_shards(source, target, tensors, precision, SHARD_BYTES)
}

/// As [`save_model`], with files of at most `shard_bytes` bytes of tensors (a larger tensor has a file of its own).
///
/// # Errors
/// As [`save_model`].
pub fn save_model_in_shards(
    source: &Path,
    target: &Path,
    tensors: &BTreeMap<String, Tensor>,
    precision: Precision,
    shard_bytes: u64,
) -> Result<()> {
    let config = ModelConfig::read(source)?;
    let expected: BTreeMap<String, Vec<i64>> = config.expected().into_iter().collect();
    fs::create_dir_all(target).map_err(|error| TorchError::io(target, &error))?;

    let mut shards: Vec<Vec<(&str, &[i64], &Tensor)>> = vec![Vec::new()];
    let (mut filled, mut total) = (0, 0);
    for (name, shape) in &expected {
        let tensor = tensors
            .get(name)
            .ok_or_else(|| TorchError::model(target, format!("cannot be saved: tensor {name} is missing")))?;
        if tensor.size() != *shape {
            let found = tensor.size();
            let message = format!("cannot be saved: tensor {name} has shape {found:?} instead of {shape:?}");
            return Err(TorchError::model(target, message));
        }
        let bytes = bytes_of(shape, precision);
        if filled > 0 && filled + bytes > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        total += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push((name, shape, tensor));
        }
    }

    let count = shards.len();
    let file_name = |index: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    let mut written = Vec::new();
    let mut weight_map = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = file_name(index);
        write_whole(&target.join(&name), |file| write_safetensors(file, shard, precision))?;
        weight_map.extend(shard.iter().map(|(tensor, ..)| ((*tensor).to_owned(), json!(name))));
        written.push(name);
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        let name = "model.safetensors.index.json".to_owned();
        write_whole(&target.join(&name), |file| write_json(file, &index))?;
        written.push(name);
    }
    remove_other_weights(target, &written)?;
    carry_over(source, target)?;

    let mut raw = read_json(source, "config.json")?.unwrap_or_default();
    if let Some(object) = raw.as_object_mut() {
        // transformers renamed the key; both names are read where they stand.
        for key in ["dtype", "torch_dtype"] {
            if object.contains_key(key) || key == "torch_dtype" && !object.contains_key("dtype") {
                object.insert(key.to_owned(), json!(precision.config_name()));
            }
        }
    }
    write_whole(&target.join("config.json"), |file| write_json(file, &raw))
}

fn bytes_of(shape: &[i64], precision: Precision) -> u64 {
    shape.iter().product::<i64>().unsigned_abs() * precision.bytes()
}

/// The safetensors format: length of the header, header, tensors one after the other.
fn write_safetensors(file: &mut dyn Write, tensors: &[(&str, &[i64], &Tensor)], precision: Precision) -> Result<()> {
    let kind = match precision {
        Precision::F32 => "F32",
        Precision::Bf16 => "BF16",
    };
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (name, shape, _) in tensors {
        let end = offset + bytes_of(shape, precision);
        header.insert((*name).to_owned(), json!({ "dtype": kind, "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let failed = |error: std::io::Error| TorchError::Machine(error.to_string());
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    for (_, _, tensor) in tensors {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(precision.kind())?.f_contiguous()?;
        bytes.resize(tensor.numel() * tensor.kind().elt_size_in_bytes(), 0);
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        file.write_all(&bytes).map_err(failed)?;
    }
    Ok(())
}

fn write_json(file: &mut dyn Write, value: &Value) -> Result<()> {
    let text = format!("{value:#}\n");
    file.write_all(text.as_bytes()).map_err(|error| TorchError::Machine(error.to_string()))
}

/// Writes a file under a temporary name, brings it to disk and renames it.
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| TorchError::io(path, &error);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".partial");
    let temporary = Path::new(&temporary);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(temporary).map_err(failed)?);
    write(&mut file).map_err(|error| match error {
        // The writer does not know the file's name.
        TorchError::Machine(message) => TorchError::Io { path: path.to_owned(), message },
        other => other,
    })?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    fs::rename(temporary, path).map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| TorchError::io(folder, &error))?;
    }
    Ok(())
}

/// Removes weights of an earlier save that would be read instead of, or beside, the new ones.
fn remove_other_weights(folder: &Path, written: &[String]) -> Result<()> {
    let failed = |error: std::io::Error| TorchError::io(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let weights =
            name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
        if weights && !written.contains(&name) {
            fs::remove_file(folder.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

fn carry_over(source: &Path, target: &Path) -> Result<()> {
    for name in CARRIED {
        let (from, to) = (source.join(name), target.join(name));
        if !from.is_file() || fs::canonicalize(&from).ok() == fs::canonicalize(&to).ok() {
            continue;
        }
        let bytes = fs::read(&from).map_err(|error| TorchError::io(&from, &error))?;
        write_whole(&to, |file| file.write_all(&bytes).map_err(|error| TorchError::Machine(error.to_string())))?;
    }
    Ok(())
}
