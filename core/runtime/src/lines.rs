//! Single records out of JSONL files by position: what training reads, without holding the texts in memory.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    marker::PhantomData,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use metareward_api::EngineError;
use serde::de::DeserializeOwned;

use crate::RunError;

/// Where a line is: file, offset, length.
type Line = (u32, u64, u32);

/// The lines of several files, as one list.
pub(crate) struct Lines<T> {
    paths: Vec<PathBuf>,
    lines: Vec<Line>,
    /// The file read last: neighbours in a batch are often neighbours on disk.
    open: Mutex<Option<(u32, File)>>,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// Finds all lines; `seen` is shown each record once.
    pub fn index(paths: Vec<PathBuf>, mut seen: impl FnMut(T)) -> Result<Self, RunError> {
        let mut lines = Vec::new();
        for (number, path) in (0..).zip(&paths) {
            let file = File::open(path).map_err(|error| RunError::io(path, &error))?;
            let mut reader = BufReader::new(file);
            let (mut offset, mut line) = (0, Vec::new());
            loop {
                line.clear();
                let length = reader.read_until(b'\n', &mut line).map_err(|error| RunError::io(path, &error))?;
                if length == 0 {
                    break;
                }
                let record = serde_json::from_slice(&line).map_err(|error| RunError::Io {
                    path: path.clone(),
                    message: format!("holds a line that is no such record: {error}"),
                })?;
                seen(record);
                lines.push((number, offset, u32::try_from(length).unwrap_or(u32::MAX)));
                offset += length as u64;
            }
        }
        Ok(Self { paths, lines, open: Mutex::new(None), record: PhantomData })
    }

    /// Number of records.
    pub fn len(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(u32::MAX)
    }

    /// The record at `index`.
    pub fn get(&self, index: u32) -> Result<T, EngineError> {
        let input = |message: String| EngineError::Input { record: format!("training example {index}"), message };
        let (number, offset, length) =
            *self.lines.get(index as usize).ok_or_else(|| input("is not there".to_owned()))?;
        let path = self.paths.get(number as usize).ok_or_else(|| input("has no file".to_owned()))?;
        let io = |error: std::io::Error| EngineError::Io { path: path.clone(), message: error.to_string() };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match open.take() {
            Some((at, file)) if at == number => file,
            _ => File::open(path).map_err(io)?,
        };
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(io)?;
        *open = Some((number, file));
        serde_json::from_slice(&bytes)
            .map_err(|error| EngineError::Io { path: path.clone(), message: format!("holds a broken line: {error}") })
    }
}
