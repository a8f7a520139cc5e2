//! The folder of a sweep: its runs, and `sweep.json`, which says what they are.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Sweep, SweepRun};
use crate::{
    Disk, RunError,
    store::{FORMAT, disk},
};

/// `sweep.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// Version of the format.
    pub format: u32,
    /// Name of the experiment.
    pub name: String,
    /// The cells with their settings, in order.
    pub cells: Vec<CellRecord>,
    /// The seeds of every cell.
    pub seeds: Vec<u64>,
}

/// A cell in `sweep.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Its name.
    pub name: String,
    /// What it sets: keys with values, as typed.
    pub settings: Vec<(String, String)>,
    /// Its run folders, one per seed.
    pub runs: Vec<String>,
}

/// The folder of a sweep, locked against other sweeps.
pub struct SweepFolder {
    path: PathBuf,
    // Held for its lock, which ends with the process or with this value.
    _lock: File,
}

impl SweepFolder {
    /// Opens the folder, or makes it, and writes down what the sweep is.
    ///
    /// # Errors
    /// [`RunError::InUse`] while another process works there, [`RunError::NotARun`] for a folder that holds other
    /// things, [`RunError::OtherExperiment`], or what the file system says.
    pub fn open(path: &Path, sweep: &Sweep) -> Result<Self, RunError> {
        let disk = Disk::default();
        let record = path.join("sweep.json");
        if record.exists() {
            let earlier = read(path)?;
            if earlier.name != sweep.name {
                let (folder, found, wanted) = (path.to_owned(), earlier.name, sweep.name.clone());
                return Err(RunError::OtherExperiment { folder, found, wanted });
            }
        } else if disk::entries(path)?
            .iter()
            .any(|entry| !entry.ends_with("lock") && !entry.ends_with(".sweep.json.partial"))
        {
            let message = "it holds other files and no sweep.json; choose another folder for the sweep".into();
            return Err(RunError::NotARun { folder: path.to_owned(), message });
        }
        disk.create_folder(path)?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| RunError::io(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::InUse { folder: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(RunError::io(&lock_path, &error)),
        }
        let mut bytes = serde_json::to_vec_pretty(&record_of(sweep))
            .map_err(|error| RunError::Bug(format!("sweep.json cannot be written: {error}")))?;
        bytes.push(b'\n');
        disk.write(&record, &bytes)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a run.
    pub fn run(&self, run: &SweepRun) -> PathBuf {
        self.path.join(&run.folder)
    }

    /// The folders of all other runs here, also of earlier grids.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn others(&self, run: &SweepRun) -> Result<Vec<PathBuf>, RunError> {
        let own = self.run(run);
        Ok(disk::entries(&self.path)?
            .into_iter()
            .filter(|path| *path != own && path.join("run.json").exists())
            .collect())
    }
}

fn record_of(sweep: &Sweep) -> SweepRecord {
    let runs = |cell| sweep.runs.iter().filter(move |run| run.cell == cell).map(|run| run.folder.clone()).collect();
    let cells = sweep.cells.iter().enumerate();
    SweepRecord {
        format: FORMAT,
        name: sweep.name.clone(),
        cells: cells
            .map(|(index, cell)| CellRecord {
                name: cell.name.clone(),
                settings: cell.settings.clone(),
                runs: runs(index),
            })
            .collect(),
        seeds: sweep.seeds.clone(),
    }
}

/// Reads the `sweep.json` of a folder.
fn read(folder: &Path) -> Result<SweepRecord, RunError> {
    let path = folder.join("sweep.json");
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::io(&path, &error))?;
    serde_json::from_str(&text).map_err(|error| RunError::NotARun {
        folder: folder.to_owned(),
        message: format!("its sweep.json cannot be read: {error}"),
    })
}
