//! Model folders that others left: whether one can be taken up in the place of the folder that it was made from.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use metareward_api::EngineError;
use serde_json::Value;

/// What of `config.json` makes another architecture.
const SAME: [&str; 9] = [
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
];

/// Files that are the first folder's in any case: trainers write them anew, with settings of their own in them.
const KEPT: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// A tensor in a file of weights.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    file: PathBuf,
    dtype: String,
    shape: Vec<u64>,
    /// Where its bytes begin and end in the file.
    place: (u64, u64),
}

/// Whether `made` holds a model of the same architecture, with the same tokens, whole and finite, as `parent`.
///
/// # Errors
/// What is different or missing.
pub(crate) fn check(parent: &Path, made: &Path) -> Result<(), String> {
    let (before, after) = (read_json(&parent.join("config.json"))?, read_json(&made.join("config.json"))?);
    for name in SAME {
        let (one, other) = (before.get(name), after.get(name));
        if one != other && one.is_some() {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(format!("config.json says {name} is {}, and was {}", shown(other), shown(one)));
        }
    }
    same_tokens(parent, made)?;
    let (before, after) = (tensors(parent)?, tensors(made)?);
    // Tied ends may be stored once or twice.
    let tied = |name: &str| name == "lm_head.weight" || name == "model.embed_tokens.weight";
    for (name, stored) in &before {
        match after.get(name) {
            Some(found) if found.shape == stored.shape => {}
            Some(found) => return Err(format!("{name} has the shape {:?}, and had {:?}", found.shape, stored.shape)),
            None if tied(name) => {}
            None => return Err(format!("{name} is missing")),
        }
    }
    if let Some(name) = after.keys().find(|name| !before.contains_key(*name) && !tied(name)) {
        return Err(format!("{name} is new; adapters must be merged into the weights"));
    }
    after.iter().try_for_each(|(name, stored)| finite(stored).map_err(|why| format!("{name} {why}")))
}

/// Puts the model into `target`, which appears whole or not at all: weights and `config.json` of `made`, all about tokens of
/// `parent`.
///
/// # Errors
/// When a file cannot be linked or copied.
pub(crate) fn take_up(parent: &Path, made: &Path, target: &Path) -> Result<(), EngineError> {
    let failed =
        |path: &Path, error: std::io::Error| EngineError::Io { path: path.to_owned(), message: error.to_string() };
    let partial = target.with_extension("partial");
    for old in [&partial, &target.to_path_buf()] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(|error| failed(old, error))?;
        }
    }
    fs::create_dir_all(&partial).map_err(|error| failed(&partial, error))?;
    let put = |from: &Path, name: &str| {
        let to = partial.join(name);
        // A copy where the file system cannot link. Nobody writes into what was taken up.
        fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).map_err(|error| failed(from, error))?;
        File::open(&to).and_then(|file| file.sync_all()).map_err(|error| failed(&to, error))
    };
    for entry in fs::read_dir(made).map_err(|error| failed(made, error))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "config.json" || is_weights(&name) || name == "model.safetensors.index.json" {
            put(&entry.path(), &name)?;
        }
    }
    for name in KEPT.iter().filter(|name| parent.join(name).is_file()) {
        put(&parent.join(name), name)?;
    }
    fs::rename(&partial, target).map_err(|error| failed(target, error))
}

fn read_json(path: &Path) -> Result<Value, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

/// Whether both tokenizers have the same tokens under the same numbers. A folder without one has the other's.
fn same_tokens(parent: &Path, made: &Path) -> Result<(), String> {
    if !made.join("tokenizer.json").is_file() || !parent.join("tokenizer.json").is_file() {
        return Ok(());
    }
    let (one, other) = (read_json(&parent.join("tokenizer.json"))?, read_json(&made.join("tokenizer.json"))?);
    let vocabulary = |tokenizer: &Value| tokenizer.get("model").and_then(|model| model.get("vocab")).cloned();
    let added = |tokenizer: &Value| -> Vec<(Option<Value>, Option<Value>)> {
        let tokens = tokenizer.get("added_tokens").and_then(Value::as_array).cloned().unwrap_or_default();
        tokens.iter().map(|token| (token.get("id").cloned(), token.get("content").cloned())).collect()
    };
    if vocabulary(&one) != vocabulary(&other) || added(&one) != added(&other) {
        return Err("tokenizer.json has other tokens; a model is trained with the tokenizer that it has".to_owned());
    }
    Ok(())
}

fn is_weights(name: &str) -> bool {
    name == "model.safetensors" || (name.starts_with("model-") && name.ends_with(".safetensors"))
}

/// All tensors of a folder's weights, by name.
fn tensors(folder: &Path) -> Result<BTreeMap<String, Stored>, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?.flatten();
    let mut files: Vec<PathBuf> =
        entries.filter(|entry| is_weights(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect();
    files.sort();
    if files.is_empty() {
        return Err("there are no weights: model.safetensors is missing".to_owned());
    }
    let mut all = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.extend(header(&file).map_err(|why| format!("{name} {why}"))?);
    }
    Ok(all)
}

/// The tensors of one file, whose bytes must all be there.
fn header(path: &Path) -> Result<Vec<(String, Stored)>, String> {
    /// Longer headers than the format allows are no headers.
    const LONGEST: u64 = 100 << 20;
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| "is no safetensors file".to_owned())?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST || length + 8 > size {
        return Err("is no whole safetensors file".to_owned());
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(|error| error.to_string())?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (name, tensor) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
        let numbers =
            |key: &str| -> Option<Vec<u64>> { tensor.get(key)?.as_array()?.iter().map(Value::as_u64).collect() };
        let dtype = tensor.get("dtype").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (Some(shape), Some(&[start, end])) = (numbers("shape"), numbers("data_offsets").as_deref()) else {
            return Err(format!("says nothing sensible of {name}"));
        };
        let place = (8 + length + start, 8 + length + end);
        if place.1 > size || start > end {
            return Err(format!("is cut: {name} ends at {} of {size} bytes", place.1));
        }
        found.push((name, Stored { file: path.to_owned(), dtype, shape, place }));
    }
    Ok(found)
}

/// Whether all of a tensor's numbers are finite: those with all bits of the exponent set are not.
fn finite(stored: &Stored) -> Result<(), String> {
    let (width, exponent): (usize, u64) = match stored.dtype.as_str() {
        "F64" => (8, 0x7ff0_0000_0000_0000),
        "F32" => (4, 0x7f80_0000),
        "BF16" => (2, 0x7f80),
        "F16" => (2, 0x7c00),
        other => return Err(format!("has the number format {other}; save it as F32, BF16 or F16")),
    };
    let (start, end) = stored.place;
    if end - start != stored.shape.iter().product::<u64>() * width as u64 {
        return Err("has another number of bytes than its shape".to_owned());
    }
    let mut file = File::open(&stored.file).map_err(|error| error.to_string())?;
    file.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
    let mut reader = file.take(end - start);
    let mut piece = vec![0; 1 << 20];
    let mut left = end - start;
    while left > 0 {
        // Pieces hold whole numbers: their size is a multiple of every width.
        let size = left.min(piece.len() as u64) as usize;
        reader.read_exact(&mut piece[..size]).map_err(|error| error.to_string())?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        if piece[..size].chunks_exact(width).any(|bytes| number(bytes) & exponent == exponent) {
            return Err("holds a number that is not finite".to_owned());
        }
        left -= size as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../torch/fixtures/models/llama-untied")
    }

    fn copy(to: &Path) {
        for entry in fs::read_dir(model()).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    /// The model with one thing wrong.
    fn wrong(change: impl FnOnce(&Path)) -> String {
        let folder = tempfile::tempdir().unwrap();
        copy(folder.path());
        change(folder.path());
        check(&model(), folder.path()).unwrap_err()
    }

    fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
        let path = folder.join(name);
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }

    fn weights(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let path = folder.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_said() {
        assert_eq!(check(&model(), &model()), Ok(()));
        assert!(wrong(|f| fs::remove_file(f.join("model.safetensors")).unwrap()).contains("there are no weights"));
        assert!(wrong(|f| fs::remove_file(f.join("config.json")).unwrap()).contains("config.json"));
        let found = wrong(|f| edit(f, "config.json", |config| config["num_hidden_layers"] = 3.into()));
        assert_eq!(found, "config.json says num_hidden_layers is 3, and was 2");
        let found = wrong(|f| edit(f, "tokenizer.json", |tokens| tokens["model"]["vocab"]["new"] = 149.into()));
        assert!(found.contains("other tokens"), "{found}");
        let found = wrong(|f| weights(f, |bytes| bytes.truncate(bytes.len() - 9)));
        assert!(found.contains("is cut"), "{found}");
        let found = wrong(|f| {
            weights(f, |bytes| {
                let end = bytes.len();
                bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
            })
        });
        assert!(found.ends_with("holds a number that is not finite"), "{found}");
        let found = wrong(|f| {
            weights(f, |bytes| {
                let place = bytes.windows(7).position(|part| part == b"q_proj.").unwrap();
                bytes[place..place + 7].copy_from_slice(b"lora_A.");
            })
        });
        assert!(found.contains("is missing"), "{found}");
    }

    #[test]
    fn a_folder_is_taken_up_with_the_tokens_that_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let (made, target) = (folder.path().join("made"), folder.path().join("taken"));
        fs::create_dir(&made).unwrap();
        copy(&made);
        fs::write(made.join("tokenizer_config.json"), "{}").unwrap();
        fs::write(made.join("optimizer.pt"), "large").unwrap();
        take_up(&model(), &made, &target).unwrap();
        assert_eq!(check(&model(), &target), Ok(()));
        let same = |name: &str, from: &Path| {
            assert_eq!(fs::read(target.join(name)).unwrap(), fs::read(from.join(name)).unwrap())
        };
        same("tokenizer_config.json", &model());
        same("model.safetensors", &made);
        assert!(!target.join("optimizer.pt").exists());
    }
}
