//! Texts that earlier shards hold: a changed rubric or meta-judge that asks the same and only reads otherwise, or a
//! larger number of draws, must not cost what was generated before.
//!
//! Beside a shard of generated texts `00003-1f2e3d4c5b6a-9c8b7a6d5e4f.jsonl` lies `00003-1f2e3d4c5b6a-9c8b7a6d5e4f.asked`,
//! with a line for every record: the key of all that the record's text depends on, and of nothing else.
//!
//! Texts that were generated and then could not be read, because the plugin that reads them failed, wait as
//! `00003-unread-9c8b7a6d5e4f.jsonl` for the shard that is made of them.

use std::{collections::BTreeMap, fs, path::Path};

use metareward_api::{Finish, Generation};
use serde::Deserialize;

use super::{Disk, disk, shard};
use crate::{Fingerprint, RunError};

/// Ending of the files of keys.
const ENDING: &str = "asked";

/// What a generated text depends on: model, conversation, seed and sampling. 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TextKey(String);

impl TextKey {
    /// The key of texts with this fingerprint.
    pub fn of(fingerprint: &Fingerprint) -> Self {
        Self(fingerprint.as_str().chars().take(32).collect())
    }
}

/// The part of a record that the engine made.
#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: u32,
    finish: Finish,
}

/// The content of the file of keys.
pub(crate) fn bytes(keys: &[TextKey]) -> Vec<u8> {
    keys.iter().flat_map(|TextKey(key)| key.bytes().chain([b'\n'])).collect()
}

/// The path of a shard's file of keys.
pub(crate) fn path(shard: &Path) -> std::path::PathBuf {
    shard.with_extension(ENDING)
}

/// Beginning of the names of a shard's unread texts.
fn unread(index: usize) -> String {
    format!("{index:05}-unread-")
}

/// Keeps texts that no shard holds yet.
pub(crate) fn keep<'t>(
    disk: &Disk,
    folder: &Path,
    index: usize,
    keys: &[TextKey],
    texts: impl Iterator<Item = &'t Generation>,
) -> Result<(), RunError> {
    let lines = shard::lines(texts)?;
    let hash = Fingerprint::of_bytes(&lines);
    let file = folder.join(format!("{}{}.jsonl", unread(index), hash.short()));
    disk.create_folder(folder)?;
    disk.write(&path(&file), &bytes(keys))?;
    disk.write(&file, &lines)
}

/// Removes a shard's unread texts, after the shard was written.
pub(crate) fn forget(disk: &Disk, folder: &Path, index: usize) -> Result<(), RunError> {
    for path in disk::entries(folder)? {
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&unread(index))) {
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// The texts of all whole shards with this index in a stage's folder, whatever settings they were made with.
///
/// # Errors
/// When a file cannot be read. A damaged shard, or one without keys, holds no texts.
pub(crate) fn earlier(folder: &Path, index: usize) -> Result<BTreeMap<TextKey, Generation>, RunError> {
    let mut texts = BTreeMap::new();
    let prefix = format!("{index:05}-");
    for path in disk::entries(folder)? {
        let of_shard = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix));
        if !of_shard || path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let keys = fs::read_to_string(&path).map_err(|error| RunError::io(&path, &error))?;
        let Some(records) = shard::whole::<Text>(&path.with_extension("jsonl"))? else { continue };
        if keys.lines().count() != records.len() {
            continue;
        }
        for (key, Text { text, tokens, finish }) in keys.lines().zip(records) {
            // Where a device gave two texts to one key, the first in the order of names stays.
            texts.entry(TextKey(key.to_owned())).or_insert(Generation { text, tokens, finish });
        }
    }
    Ok(texts)
}
