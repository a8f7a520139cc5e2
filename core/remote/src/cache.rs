//! Answers on disk: a log of one line per answer, so that nothing is asked twice that was answered, whatever stopped the
//! process in between.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Answer, Fingerprint, RemoteError};

/// Answers by the fingerprint of model and request. Where each lies is in memory, the answers are not.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    file: File,
    /// Where each answer's line begins and how long it is.
    places: BTreeMap<Fingerprint, (u64, u32)>,
    end: u64,
    unreadable: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    fingerprint: String,
    answer: Answer,
}

impl Cache {
    /// Opens `answers.jsonl` in a folder, which is made where it is missing. A last line that is not whole, since the
    /// process was killed in it, is cut off; any other line that cannot be read is passed over and counted.
    ///
    /// # Errors
    /// When the file cannot be read or written, or another process has it open.
    pub fn open(folder: &Path) -> Result<Cache, RemoteError> {
        let path = folder.join("answers.jsonl");
        let failed =
            |error: &dyn std::fmt::Display| RemoteError::Cache { path: path.clone(), message: error.to_string() };
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path).map_err(|error| failed(&error))?;
        // A process that was just started holds it for the moment until it is another program.
        let begun = Instant::now();
        let mut lock = file.try_lock();
        while matches!(lock, Err(TryLockError::WouldBlock)) && begun.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(5));
            lock = file.try_lock();
        }
        match lock {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed(&"another process has it open; wait for it, or use another folder"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let mut cache = Cache { path: path.clone(), file, places: BTreeMap::new(), end: 0, unreadable: 0 };
        let mut reader = BufReader::new(&cache.file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))? as u64;
            if line.last() != Some(&b'\n') {
                break;
            }
            match serde_json::from_slice::<Line>(&line).ok().and_then(|line| Fingerprint::from_hex(&line.fingerprint)) {
                Some(name) => drop(cache.places.insert(name, (cache.end, length as u32))),
                None => cache.unreadable += 1,
            }
            cache.end += length;
        }
        if !line.is_empty() {
            cache.file.set_len(cache.end).map_err(|error| failed(&error))?;
        }
        if cache.unreadable > 0 {
            tracing::warn!("{}: {} lines cannot be read and are passed over", path.display(), cache.unreadable);
        }
        Ok(cache)
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Lines that could not be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// The answer of this name.
    ///
    /// # Errors
    /// When its line has become unreadable.
    pub fn get(&mut self, name: Fingerprint) -> Result<Option<Answer>, RemoteError> {
        let Some((start, length)) = self.places.get(&name).copied() else { return Ok(None) };
        let mut line = vec![0; length as usize];
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut line));
        read.map_err(|error| self.failed(&error))?;
        let line: Line = serde_json::from_slice(&line).map_err(|error| self.failed(&error))?;
        Ok(Some(line.answer))
    }

    /// Keeps an answer: when this returns, it outlives the process.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, name: Fingerprint, answer: &Answer) -> Result<(), RemoteError> {
        let line = Line { fingerprint: name.to_hex(), answer: answer.clone() };
        let mut text = serde_json::to_vec(&line).map_err(|error| self.failed(&error))?;
        text.push(b'\n');
        // One write: a kill leaves all of it, or a beginning that the next opening cuts off.
        if let Err(error) = self.file.write_all(&text) {
            // What is half written, on a full disk, is taken back; if that fails too, the next opening does it.
            drop(self.file.set_len(self.end));
            return Err(self.failed(&error));
        }
        self.places.insert(name, (self.end, text.len() as u32));
        self.end += text.len() as u64;
        Ok(())
    }

    /// Forgets all answers, in memory and on disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear(&mut self) -> Result<(), RemoteError> {
        self.file.set_len(0).map_err(|error| self.failed(&error))?;
        self.places.clear();
        self.end = 0;
        Ok(())
    }

    /// Makes what was kept outlive the machine, too.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self) -> Result<(), RemoteError> {
        self.file.sync_data().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> RemoteError {
        RemoteError::Cache { path: self.path.clone(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use metareward_api::{Finish, Message, Sampling};
    use proptest::prelude::*;

    use super::*;
    use crate::{Completion, Request, Usage};

    fn name(number: u64) -> Fingerprint {
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 1, stop: vec![] };
        Request::chat(vec![Message::user("x")], sampling, number).fingerprint("m")
    }

    fn answer(text: &str) -> Answer {
        let completion = Completion { text: text.to_owned(), finish: Finish::EndOfTurn, logprobs: None };
        Answer { completions: vec![completion], usage: Some(Usage { prompt: 1, completion: 2 }) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The log cut at any byte keeps every answer whose line is whole, and goes on from there.
        #[test]
        fn a_kill_anywhere_loses_at_most_one_line(texts in prop::collection::vec("\\PC{0,20}", 1..6), cut in 0.0..=1.0f64) {
            let folder = tempfile::tempdir().unwrap();
            let mut cache = Cache::open(folder.path()).unwrap();
            let mut ends = vec![];
            for (number, text) in texts.iter().enumerate() {
                cache.put(name(number as u64), &answer(text)).unwrap();
                ends.push(cache.end);
            }
            drop(cache);
            let path = folder.path().join("answers.jsonl");
            let at = (*ends.last().unwrap() as f64 * cut) as u64;
            OpenOptions::new().write(true).open(&path).unwrap().set_len(at).unwrap();
            let mut cache = Cache::open(folder.path()).unwrap();
            for (number, text) in texts.iter().enumerate() {
                let found = cache.get(name(number as u64)).unwrap();
                prop_assert_eq!(found, (ends[number] <= at).then(|| answer(text)));
                cache.put(name(number as u64), &answer(text)).unwrap();
            }
            drop(cache);
            let mut cache = Cache::open(folder.path()).unwrap();
            prop_assert_eq!((cache.len(), cache.unreadable()), (texts.len(), 0));
            for (number, text) in texts.iter().enumerate() {
                prop_assert_eq!(cache.get(name(number as u64)).unwrap(), Some(answer(text)));
            }
        }
    }

    #[test]
    fn a_broken_line_is_passed_over_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(folder.path()).unwrap();
        cache.put(name(1), &answer("a")).unwrap();
        cache.file.write_all(b"{\"fingerprint\":\"nonsense\"}\n").unwrap();
        drop(cache);
        let mut cache = Cache::open(folder.path()).unwrap();
        assert_eq!((cache.len(), cache.unreadable()), (1, 1));
        cache.put(name(2), &answer("b")).unwrap();
        assert_eq!(cache.get(name(2)).unwrap(), Some(answer("b")));
        assert!(Cache::open(folder.path()).unwrap_err().to_string().contains("another process has it open"));
    }
}
