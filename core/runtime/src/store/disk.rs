//! Writing files so that each appears whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::RunError;

/// A change to the file system, as a fault sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A folder is made.
    CreateFolder,
    /// The bytes of a temporary file are written; a fault here leaves half of them.
    Write,
    /// A file or folder is moved to its final name.
    Rename,
    /// A file is linked or copied.
    Link,
    /// A file or folder is removed.
    Remove,
    /// A line is added to a log; a fault here leaves half of it.
    Append,
}

/// Asked before every change; an error takes its place.
pub type Fault = Arc<dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync>;

/// Ending of the names of files that are not whole yet.
const PARTIAL: &str = ".partial";

/// The file system, with a place for tests to make it fail.
#[derive(Clone, Default)]
pub struct Disk {
    fault: Option<Fault>,
}

impl Disk {
    /// A disk that fails where `fault` says so: for tests of crashes and of full disks.
    pub fn with_fault(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(operation, path))
    }

    /// Makes a folder and those above it.
    pub(crate) fn create_folder(&self, path: &Path) -> Result<(), RunError> {
        if path.is_dir() {
            return Ok(());
        }
        self.ask(Operation::CreateFolder, path)
            .and_then(|()| fs::create_dir_all(path))
            .map_err(|error| RunError::io(path, &error))
    }

    /// Writes a file under a temporary name, makes it durable and moves it to its name.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), RunError> {
        let partial = partial(path);
        let written = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            if let Err(error) = self.ask(Operation::Write, path) {
                file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
                return Err(error);
            }
            file.write_all(bytes)?;
            file.sync_all()
        };
        written().map_err(|error| RunError::io(path, &error))?;
        self.rename(&partial, path)
    }

    /// Moves a file or folder and makes the move durable.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), RunError> {
        self.ask(Operation::Rename, to)
            .and_then(|()| fs::rename(from, to))
            .and_then(|()| sync_folder(to.parent()))
            .map_err(|error| RunError::io(to, &error))
    }

    /// Links a file, or copies it where the file system cannot link.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> Result<(), RunError> {
        self.ask(Operation::Link, to)
            .and_then(|()| fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)))
            .map_err(|error| RunError::io(to, &error))
    }

    /// Takes over a file of another run under the same name: linked, or copied where the file system cannot link. It
    /// appears whole or not at all. False where the other file is gone.
    pub(crate) fn take(&self, from: &Path, to: &Path) -> Result<bool, RunError> {
        let partial = partial(to);
        // A link left there is the other run's file: copying into it would empty that.
        if fs::symlink_metadata(&partial).is_ok() {
            self.remove_file(&partial)?;
        }
        let copied = || -> io::Result<()> {
            fs::copy(from, &partial)?;
            File::open(&partial)?.sync_all()
        };
        let taken = self.ask(Operation::Link, to).and_then(|()| fs::hard_link(from, &partial).or_else(|_| copied()));
        match taken {
            Ok(()) => {
                self.rename(&partial, to)?;
                // Moving a link over another link to the same file does nothing: an earlier crash left that one.
                if fs::symlink_metadata(&partial).is_ok() {
                    self.remove_file(&partial)?;
                }
                Ok(true)
            }
            Err(_) if !from.exists() => Ok(false),
            Err(error) => Err(RunError::io(to, &error)),
        }
    }

    /// Removes a file.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), RunError> {
        self.ask(Operation::Remove, path)
            .and_then(|()| fs::remove_file(path))
            .map_err(|error| RunError::io(path, &error))
    }

    /// Removes a folder with all that is in it.
    pub(crate) fn remove_folder(&self, path: &Path) -> Result<(), RunError> {
        self.ask(Operation::Remove, path)
            .and_then(|()| fs::remove_dir_all(path))
            .map_err(|error| RunError::io(path, &error))
    }

    /// Adds bytes to the end of an open log.
    pub(crate) fn append(&self, file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), RunError> {
        let mut appended = || -> io::Result<()> {
            if let Err(error) = self.ask(Operation::Append, path) {
                file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
                return Err(error);
            }
            file.write_all(bytes)
        };
        appended().map_err(|error| RunError::io(path, &error))
    }

    /// Opens a log of lines for adding to it. A last line without an end, left by a crash, is cut off.
    pub(crate) fn open_log(&self, path: &Path) -> Result<File, RunError> {
        let opened = || -> io::Result<File> {
            let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
            let whole = whole_lines(path)?;
            if whole < file.metadata()?.len() {
                self.ask(Operation::Write, path)?;
                file.set_len(whole)?;
            }
            Ok(file)
        };
        opened().map_err(|error| RunError::io(path, &error))
    }

    /// Removes what a crash left half written, in a folder and the folders below it. Folders named `training` are the
    /// trainer's and passed over.
    pub(crate) fn remove_partials(&self, folder: &Path) -> Result<(), RunError> {
        for path in entries(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            if name.ends_with(PARTIAL) {
                if is_folder {
                    self.remove_folder(&path)?;
                } else {
                    self.remove_file(&path)?;
                }
            } else if is_folder && name != "training" {
                self.remove_partials(&path)?;
            }
        }
        Ok(())
    }
}

/// The temporary name of a file or folder: beside it, so that the move stays on one file system.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}{PARTIAL}"))
}

/// Paths in a folder, sorted; none where there is no folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read,
    };
    let mut paths = read
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>())
        .map_err(|error| RunError::io(folder, &error))?;
    paths.sort();
    Ok(paths)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Bytes up to and including the last line end.
fn whole_lines(path: &Path) -> io::Result<u64> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut buffer = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let length = usize::try_from(end - start).unwrap_or(buffer.len());
        let block = buffer.get_mut(..length).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(position) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
