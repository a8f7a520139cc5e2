//! Weights of a model folder: safetensors files, mapped into memory instead of read.
//!
//! A tensor that is wanted on the CPU in the number format of the file is a window into the mapping: no copy, and pages
//! come in as they are used. The mapping is private (copy on write), so updating such a tensor in place does not touch
//! the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::{MmapMut, MmapOptions};
use safetensors::{
    Dtype,
    tensor::{Metadata, SafeTensors},
};
use tch::{Device, Kind, Tensor};

use crate::{
    Result, TorchError,
    config::{Expected, read_json},
};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Named tensors, and the file mappings that they may point into.
///
/// A tensor taken out of it (also as a shallow clone) must not outlive the last clone of the `Weights` that it came from.
#[derive(Debug)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    mappings: Arc<Vec<MmapMut>>,
}

impl Weights {
    /// The tensors by their Hugging Face names.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Another handle on the same tensors, for another thread.
    pub fn share(&self) -> Self {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Self { tensors, mappings: Arc::clone(&self.mappings) }
    }

    /// The same weights with some tensors replaced; names that are not among them are ignored.
    pub fn replaced(&self, replacements: &BTreeMap<String, Tensor>) -> Self {
        let mut shared = self.share();
        for (name, tensor) in &mut shared.tensors {
            if let Some(replacement) = replacements.get(name) {
                *tensor = replacement.shallow_clone();
            }
        }
        shared
    }

    /// Weights from tensors in memory.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, mappings: Arc::new(Vec::new()) }
    }

    /// Maps the weights of `folder`, checks them against `expected`, and brings them to `device` and `kind`.
    ///
    /// # Errors
    /// As [`check_weights`], and when libtorch refuses a copy (no memory on the device).
    pub fn load(folder: &Path, expected: &[Expected], device: Device, kind: Kind) -> Result<Self> {
        let files = open(folder)?;
        let places = check(folder, &files, expected)?;
        let mut mappings = Vec::with_capacity(files.len());
        for file in files {
            mappings.push(file.mapping);
        }
        let mut tensors = BTreeMap::new();
        for (name, shape) in expected {
            let place = &places[name.as_str()];
            let bytes = &mappings[place.file][place.start..place.end];
            let aligned = bytes.as_ptr().addr().is_multiple_of(place.kind.elt_size_in_bytes());
            let tensor = if aligned {
                // SAFETY: `bytes` lies inside a mapping that `Weights` keeps for as long as its tensors, `check` found its
                // length to be that of `shape` in `place.kind`, and the mapping is private to this process.
                unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &[], place.kind, Device::Cpu)? }
            } else {
                Tensor::f_from_data_size(bytes, shape, place.kind)?
            };
            let tensor = tensor.f_to_device(device)?.f_to_kind(kind)?;
            tensors.insert(name.clone(), tensor);
        }
        Ok(Self { tensors, mappings: Arc::new(mappings) })
    }
}

/// Checks that the weights of `folder` are all there, with the shapes `expected`, in a number format that can be read,
/// and that no file is cut short. Reads only the headers.
///
/// # Errors
/// [`TorchError::Model`] with the file's or tensor's name.
pub fn check_weights(folder: &Path, expected: &[Expected]) -> Result<()> {
    check(folder, &open(folder)?, expected).map(|_| ())
}

/// One mapped file.
struct Shard {
    name: String,
    mapping: MmapMut,
    header: Metadata,
    /// Where the tensors' bytes begin.
    data: usize,
}

/// Where a tensor lies.
struct Place {
    file: usize,
    start: usize,
    end: usize,
    kind: Kind,
}

fn open(folder: &Path) -> Result<Vec<Shard>> {
    if folder.join(SINGLE).is_file() {
        return Ok(vec![open_shard(folder, SINGLE)?]);
    }
    let Some(index) = read_json(folder, INDEX)? else {
        let hint = if folder.join("pytorch_model.bin").is_file() {
            "; pytorch_model.bin is not read: save the model again as safetensors"
        } else {
            ""
        };
        return Err(TorchError::model(folder, format!("there is neither {SINGLE} nor {INDEX}{hint}")));
    };
    let map = index
        .get("weight_map")
        .and_then(serde_json::Value::as_object)
        .ok_or_else(|| TorchError::model(folder, format!("{INDEX}: weight_map is missing")))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().filter(|name| !name.is_empty() && !name.contains(['/', '\\']));
        names.insert(
            name.ok_or_else(|| TorchError::model(folder, format!("{INDEX}: {tensor} is in {file}: not a file name")))?,
        );
    }
    names.into_iter().map(|name| open_shard(folder, name)).collect()
}

fn open_shard(folder: &Path, name: &str) -> Result<Shard> {
    let path: PathBuf = folder.join(name);
    let file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => TorchError::model(folder, format!("{name} is missing, which {INDEX} names")),
        _ => TorchError::io(&path, &error),
    })?;
    // SAFETY: the mapping is private, so writes stay in this process. The project writes model files under a temporary
    // name and renames them, so a file that is mapped here is never changed in place by it.
    let mapping = unsafe { MmapOptions::new().map_copy(&file) }.map_err(|error| TorchError::io(&path, &error))?;
    let (length, header) = SafeTensors::read_metadata(&mapping).map_err(|error| {
        let message = match error {
            safetensors::SafeTensorError::MetadataIncompleteBuffer
            | safetensors::SafeTensorError::HeaderTooSmall
            | safetensors::SafeTensorError::InvalidHeaderLength => {
                format!("{name} is cut short, or is not a safetensors file ({} bytes)", mapping.len())
            }
            other => format!("{name} is not a valid safetensors file: {other}"),
        };
        TorchError::model(folder, message)
    })?;
    Ok(Shard { name: name.to_owned(), data: length + 8, mapping, header })
}

fn check<'a>(folder: &Path, files: &[Shard], expected: &'a [Expected]) -> Result<BTreeMap<&'a str, Place>> {
    let wrong = |message: String| Err(TorchError::model(folder, message));
    let mut places = BTreeMap::new();
    for (name, shape) in expected {
        let Some((file, shard, info)) =
            files.iter().enumerate().find_map(|(index, shard)| Some((index, shard, shard.header.info(name)?)))
        else {
            return wrong(format!("tensor {name} is missing"));
        };
        let found: Vec<i64> = info.shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
        if found != *shape {
            return wrong(format!(
                "tensor {name} in {} has shape {found:?}; config.json asks for {shape:?}",
                shard.name
            ));
        }
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return wrong(format!("tensor {name} in {} holds {other:?}; F32, F16 and BF16 are read", shard.name));
            }
        };
        let (start, end) = (shard.data + info.data_offsets.0, shard.data + info.data_offsets.1);
        places.insert(name.as_str(), Place { file, start, end, kind });
    }
    // A tensor that the forward pass would not use means that the model is not the one that config.json describes.
    for shard in files {
        for name in shard.header.offset_keys() {
            let harmless = name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq");
            if !places.contains_key(name.as_str()) && !harmless {
                return wrong(format!("tensor {name} in {} is not a part of the model in config.json", shard.name));
            }
        }
    }
    Ok(places)
}
