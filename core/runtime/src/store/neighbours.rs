//! Other runs whose finished work is taken over where it is the same: a shard or a model with an equal fingerprint.
//!
//! What is taken over is linked, or copied where the file system cannot link, so that each run folder is whole by itself.
//! A neighbour is only ever read: whatever is wrong with it, the run at hand computes what it needs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use metareward_api::Generation;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Disk, FORMAT, ModelNote, Place, ShardRecord, Stage, Store, disk, models, shard,
    texts::{self, TextKey},
};
use crate::{
    Config, Fingerprint, RunError,
    config::{Checkpoints, EngineSection, StoreSection},
};

/// Runs to take over from, in order.
#[derive(Default)]
pub(crate) struct Neighbours {
    runs: Vec<Neighbour>,
}

struct Neighbour {
    folder: PathBuf,
    checkpoints: Checkpoints,
}

/// The part of run.json that says whether another run computes as this one does.
#[derive(Deserialize)]
struct Known {
    format: u32,
    config: KnownConfig,
}

#[derive(Deserialize)]
struct KnownConfig {
    engine: EngineSection,
    store: StoreSection,
}

impl Neighbours {
    /// Those of the folders that hold runs with the same `[engine]`: what an engine's settings change is not in every
    /// fingerprint, and who compares two of them wants both computed. Other folders are passed over.
    pub fn of(folders: &[PathBuf], own: &Path, config: &Config) -> Self {
        let known = |folder: &Path| -> Option<Known> {
            serde_json::from_str(&fs::read_to_string(folder.join("run.json")).ok()?).ok()
        };
        let runs = folders.iter().filter(|folder| folder.as_path() != own).filter_map(|folder| {
            let known = known(folder).filter(|known| known.format == FORMAT && known.config.engine == config.engine)?;
            Some(Neighbour { folder: folder.clone(), checkpoints: known.config.store.checkpoints })
        });
        Self { runs: runs.collect() }
    }

    /// The stage's folder in every neighbour.
    fn stage(&self, place: &Place, stage: Stage) -> impl Iterator<Item = PathBuf> {
        self.runs.iter().map(move |run| run.folder.join(place.folder()).join(stage.name()))
    }
}

impl Store {
    /// Takes over the shard with this index and fingerprint from the first neighbour that has it whole.
    ///
    /// # Errors
    /// When it cannot be put into this run.
    pub fn take_shard<T: DeserializeOwned>(
        &self,
        (place, stage): (&Place, Stage),
        index: usize,
        fingerprint: &Fingerprint,
    ) -> Result<Option<(ShardRecord, Vec<T>)>, RunError> {
        let folder = self.stage_folder(place, stage);
        for other in self.neighbours.stage(place, stage) {
            let Some((record, records)) = shard::look(&other, index, fingerprint) else { continue };
            self.disk.create_folder(&folder)?;
            let (from, to) = (other.join(&record.file), folder.join(&record.file));
            // First: a shard that is there has its keys.
            let keys = texts::path(&from);
            if keys.exists() && !self.disk.take(&keys, &texts::path(&to))? {
                continue;
            }
            if self.disk.take(&from, &to)? {
                return Ok(Some((record, records)));
            }
        }
        Ok(None)
    }

    /// The texts of all shards with this index that the neighbours' stage folders hold.
    pub fn neighbours_texts(&self, place: &Place, stage: Stage, index: usize) -> BTreeMap<TextKey, Generation> {
        let mut found = BTreeMap::new();
        for folder in self.neighbours.stage(place, stage) {
            for (key, text) in texts::earlier(&folder, index).unwrap_or_default() {
                found.entry(key).or_insert(text);
            }
        }
        found
    }

    /// Takes over the model of this training, with what training left beside it, from the first neighbour that has it.
    /// Just before the model is there, `from` is told that neighbour's folder.
    ///
    /// # Errors
    /// When it cannot be put into this run.
    pub fn take_model(
        &self,
        place: &Place,
        training: &Fingerprint,
        checkpoints: Checkpoints,
        from: impl FnOnce(&Path),
    ) -> Result<Option<ModelNote>, RunError> {
        let target = self.folder.join(place.folder()).join("model");
        for run in &self.neighbours.runs {
            let model = run.folder.join(place.folder()).join("model");
            let Ok(Some(note)) = models::note(&model) else { continue };
            let trained = run.folder.join(place.folder()).join(Stage::Training.name());
            // With every checkpoint to be kept, a neighbour that kept one has not all that this run leaves.
            let less = checkpoints == Checkpoints::All && run.checkpoints == Checkpoints::Kept;
            if note.training != *training || less || !models::owns(&trained, training) {
                continue;
            }
            let folders = checkpoints == Checkpoints::All;
            // Training first: a model that is there has its log beside it.
            let own = self.stage_folder(place, Stage::Training);
            let partial = disk::partial(&own);
            if !take_training(&self.disk, &trained, &partial, folders)? {
                continue;
            }
            if own.exists() {
                self.disk.remove_folder(&own)?;
            }
            self.disk.rename(&partial, &own)?;
            let partial = disk::partial(&target);
            if !take_files(&self.disk, &model, &partial)? {
                continue;
            }
            disk::sync_folder(Some(&partial)).map_err(|error| RunError::io(&partial, &error))?;
            self.set_aside(&target)?;
            from(&run.folder);
            self.disk.rename(&partial, &target)?;
            return Ok(Some(note));
        }
        Ok(None)
    }
}

/// Links the files of a folder into a new one. False where one has gone meanwhile.
fn take_files(disk: &Disk, from: &Path, to: &Path) -> Result<bool, RunError> {
    if to.exists() {
        disk.remove_folder(to)?;
    }
    disk.create_folder(to)?;
    for path in disk::entries(from)? {
        if let Some(name) = path.file_name().filter(|_| path.is_file())
            && !disk.take(&path, &to.join(name))?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies the files of a training folder, to which a trainer that goes on may add, and links those in its `folders`,
/// which are whole.
fn take_training(disk: &Disk, from: &Path, to: &Path, folders: bool) -> Result<bool, RunError> {
    if to.exists() {
        disk.remove_folder(to)?;
    }
    disk.create_folder(to)?;
    for path in disk::entries(from)? {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            if folders && !take_files(disk, &path, &target)? {
                return Ok(false);
            }
        } else if let Ok(bytes) = fs::read(&path) {
            disk.write(&target, &bytes)?;
        } else {
            return Ok(false);
        }
    }
    Ok(true)
}
