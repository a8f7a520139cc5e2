//! A file that is written bit by bit and appears when it is whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::ReportError;

/// An error of the file system.
pub(super) fn failed(path: &Path, error: impl std::fmt::Display) -> ReportError {
    ReportError::Write { path: path.to_owned(), message: error.to_string() }
}

/// A file under a temporary name.
pub(super) struct Draft {
    path: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Draft {
    /// Begins the file; its folder is made where it is not there.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
        let file =
            fs::create_dir_all(folder).and_then(|()| File::create(&partial)).map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), partial, file: Some(BufWriter::new(file)) })
    }

    /// Makes it durable and moves it to its name.
    pub fn finish(mut self) -> Result<(), ReportError> {
        let path = self.path.clone();
        let Some(file) = self.file.take() else { return Ok(()) };
        let file = file.into_inner().map_err(|error| failed(&path, error.into_error()))?;
        file.sync_all().and_then(|()| fs::rename(&self.partial, &path)).map_err(|error| failed(&path, error))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.partial.exists() {
            // What is left of a file that could not be finished helps no one.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
