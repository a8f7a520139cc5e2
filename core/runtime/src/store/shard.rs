//! Shards: the records of a few prompts in one JSONL file that is named after what it depends on and what is in it.
//!
//! `00003-1f2e3d4c5b6a-9c8b7a6d5e4f.jsonl` is shard 3, made from inputs with the fingerprint 1f2e…, with content of the
//! hash 9c8b…. So a file says by itself whether it may be used again and whether it is whole.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Disk, disk,
    texts::{self, TextKey},
};
use crate::{Fingerprint, RunError};

/// One shard of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Name of the file in the stage's folder.
    pub file: String,
    /// Fingerprint of all that the shard depends on.
    pub fingerprint: Fingerprint,
    /// Hash of the file's bytes.
    pub blake3: Fingerprint,
    /// Number of records in it.
    pub records: u64,
}

/// What was found of a shard on disk.
pub(crate) enum Found<T> {
    /// The shard, whole.
    Whole(ShardRecord, Vec<T>),
    /// A file of this shard that is not what its name says. It was set aside under another name.
    Damaged(String),
    /// Nothing.
    Nothing,
}

/// Looks for the shard with this index and fingerprint.
pub(crate) fn find<T: DeserializeOwned>(
    disk: &Disk,
    folder: &Path,
    index: usize,
    fingerprint: &Fingerprint,
) -> Result<Found<T>, RunError> {
    let prefix = format!("{index:05}-{}-", fingerprint.short());
    for path in disk::entries(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(hash) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".jsonl")) else { continue };
        let bytes = fs::read(&path).map_err(|error| RunError::io(&path, &error))?;
        let blake3 = Fingerprint::of_bytes(&bytes);
        let records = if blake3.short() == hash { parse(&bytes) } else { None };
        return match records {
            Some(records) => {
                let count = records.len() as u64;
                let fingerprint = fingerprint.clone();
                Ok(Found::Whole(ShardRecord { file: name.to_owned(), fingerprint, blake3, records: count }, records))
            }
            None => {
                disk.rename(&path, &path.with_extension("damaged"))?;
                Ok(Found::Damaged(path.display().to_string()))
            }
        };
    }
    Ok(Found::Nothing)
}

/// The shard with this index and fingerprint in a folder of another run, if it is there and whole.
pub(crate) fn look<T: DeserializeOwned>(
    folder: &Path,
    index: usize,
    fingerprint: &Fingerprint,
) -> Option<(ShardRecord, Vec<T>)> {
    let prefix = format!("{index:05}-{}-", fingerprint.short());
    disk::entries(folder).ok()?.into_iter().find_map(|path| {
        let file = path.file_name()?.to_str()?.to_owned();
        let hash = file.strip_prefix(&prefix)?.strip_suffix(".jsonl")?;
        let bytes = fs::read(&path).ok()?;
        let blake3 = Fingerprint::of_bytes(&bytes);
        let records: Vec<T> = if blake3.short() == hash { parse(&bytes)? } else { return None };
        let count = records.len() as u64;
        Some((ShardRecord { file, fingerprint: fingerprint.clone(), blake3, records: count }, records))
    })
}

/// Writes a shard; where its records are generated texts, with the `keys` of those.
pub(crate) fn write<T: Serialize>(
    disk: &Disk,
    folder: &Path,
    index: usize,
    fingerprint: &Fingerprint,
    records: &[T],
    keys: &[TextKey],
) -> Result<ShardRecord, RunError> {
    let bytes = lines(records.iter())?;
    let blake3 = Fingerprint::of_bytes(&bytes);
    let file = format!("{index:05}-{}-{}.jsonl", fingerprint.short(), blake3.short());
    disk.create_folder(folder)?;
    if !keys.is_empty() {
        // First: a shard that is there has its keys.
        disk.write(&texts::path(&folder.join(&file)), &texts::bytes(keys))?;
    }
    disk.write(&folder.join(&file), &bytes)?;
    Ok(ShardRecord { file, fingerprint: fingerprint.clone(), blake3, records: records.len() as u64 })
}

/// Records as lines of JSON.
pub(crate) fn lines<'r, T: Serialize + 'r>(records: impl Iterator<Item = &'r T>) -> Result<Vec<u8>, RunError> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record)
            .map_err(|error| RunError::Bug(format!("a record cannot be written: {error}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads all records of a shard.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path, shard: &ShardRecord) -> Result<Vec<T>, RunError> {
    let path = folder.join(&shard.file);
    let bytes = fs::read(&path).map_err(|error| RunError::io(&path, &error))?;
    parse(&bytes).ok_or_else(|| RunError::Io { path, message: "holds a line that is no such record".into() })
}

/// The records of a file if it is there and what its name says.
pub(crate) fn whole<T: DeserializeOwned>(path: &Path) -> Result<Option<Vec<T>>, RunError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|error| RunError::io(path, &error))?;
    let hash = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.rsplit('-').next());
    Ok(if hash == Some(Fingerprint::of_bytes(&bytes).short()) { parse(&bytes) } else { None })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<Vec<T>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).ok()).collect()
}
