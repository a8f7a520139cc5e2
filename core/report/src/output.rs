//! Writing a file so that it appears whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::ReportError;

/// Writes under a temporary name beside the file, makes it durable and moves it to its name.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let failed = |error: io::Error| ReportError::Write { path: path.to_owned(), message: error.to_string() };
    let name = path.file_name().ok_or_else(|| failed(io::Error::other("this is not the name of a file")))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let partial = parent.join(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let written = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(parent)?.sync_all()
    };
    written().map_err(|error| {
        // What is left of a file that could not be written helps no one.
        let _ = fs::remove_file(&partial);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_moved_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder that is not empty stands in the way.
        let path = folder.path().join("report.html");
        fs::create_dir_all(path.join("inside")).unwrap();
        let error = write(&path, b"one").unwrap_err().to_string();
        assert!(error.contains("report.html"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
