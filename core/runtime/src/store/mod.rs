//! The run folder: who may write in it, and how its files are written and found again.

pub(crate) mod disk;
mod layout;
pub(crate) mod models;
mod neighbours;
mod reader;
pub(crate) mod shard;
pub(crate) mod texts;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use disk::{Disk, Fault, Operation};
pub use layout::{Place, Stage};
pub use models::{Model, ModelNote};
pub(crate) use neighbours::Neighbours;
pub use reader::{Records, RunReader};
pub use shard::ShardRecord;

use crate::{Fingerprint, RunError, statistics::Statistics};

/// Version of the files' format; part of every fingerprint.
pub(crate) const FORMAT: u32 = 1;

/// A finished stage, as kept in its `stage.json`: which shards belong to it, and what they show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Version of the format.
    pub format: u32,
    /// Part of the run.
    pub place: Place,
    /// The stage.
    pub stage: Stage,
    /// Fingerprint over all shards.
    pub fingerprint: Fingerprint,
    /// The shards in order. Other files in the folder belong to other settings.
    pub shards: Vec<ShardRecord>,
    /// Number of records in all.
    pub records: u64,
    /// What they show.
    pub statistics: Statistics,
}

/// An open run folder, locked against other processes.
pub(crate) struct Store {
    pub folder: PathBuf,
    pub disk: Disk,
    /// Runs whose finished work is taken over where it is the same.
    pub neighbours: Neighbours,
    // Held for its lock, which ends with the process or with this value.
    _lock: Option<File>,
}

/// The part of run.json that says whose run it is.
#[derive(Deserialize)]
struct Owner {
    name: String,
    format: u32,
}

impl Store {
    /// Opens a run folder, or makes it.
    ///
    /// # Errors
    /// [`RunError::InUse`], [`RunError::OtherExperiment`], [`RunError::NotARun`], or what the file system says.
    pub fn open(folder: &Path, name: &str, disk: Disk) -> Result<Self, RunError> {
        let run = folder.join("run.json");
        if run.exists() {
            let text = fs::read_to_string(&run).map_err(|error| RunError::io(&run, &error))?;
            let owner: Owner = serde_json::from_str(&text).map_err(|error| RunError::NotARun {
                folder: folder.to_owned(),
                message: format!("its run.json cannot be read: {error}"),
            })?;
            if owner.name != name {
                let (folder, wanted) = (folder.to_owned(), name.to_owned());
                return Err(RunError::OtherExperiment { folder, found: owner.name, wanted });
            }
            if owner.format != FORMAT {
                let message = format!("it has format {}, and this version reads {FORMAT}", owner.format);
                return Err(RunError::NotARun { folder: folder.to_owned(), message });
            }
        } else if disk::entries(folder)?
            .iter()
            .any(|path| !path.ends_with("lock") && !path.ends_with(".run.json.partial"))
        {
            let message = "it holds other files and no run.json; choose another folder".into();
            return Err(RunError::NotARun { folder: folder.to_owned(), message });
        }
        disk.create_folder(folder)?;
        let path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| RunError::io(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(RunError::io(&path, &error)),
        }
        disk.remove_partials(folder)?;
        Ok(Self { folder: folder.to_owned(), disk, neighbours: Neighbours::default(), _lock: Some(lock) })
    }

    /// No folder at all, for a rehearsal, which neither reads nor writes.
    pub fn nowhere() -> Self {
        Self { folder: PathBuf::new(), disk: Disk::default(), neighbours: Neighbours::default(), _lock: None }
    }

    /// Writes a JSON file in the run folder, unless it says the same already.
    pub fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), RunError> {
        let mut bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| RunError::Bug(format!("{} cannot be written: {error}", path.display())))?;
        bytes.push(b'\n');
        if fs::read(path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            self.disk.create_folder(folder)?;
        }
        self.disk.write(path, &bytes)
    }

    /// The folder of a stage.
    pub fn stage_folder(&self, place: &Place, stage: Stage) -> PathBuf {
        self.folder.join(place.folder()).join(stage.name())
    }

    /// All records of one shard of a stage.
    pub fn read<T: DeserializeOwned>(&self, stage: &StageRecord, shard: usize) -> Result<Vec<T>, RunError> {
        let record = stage
            .shards
            .get(shard)
            .ok_or_else(|| RunError::Bug(format!("{} of {} has no shard {shard}", stage.stage, stage.place)))?;
        shard::read(&self.stage_folder(&stage.place, stage.stage), record)
    }
}
