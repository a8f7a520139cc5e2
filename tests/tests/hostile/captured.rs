//! The lines that reach our log during a call, kept for a look.

use std::{
    io,
    sync::{Arc, Mutex},
};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` gives, and the lines that were logged on this thread meanwhile: level, fields, and what was said.
pub fn lines<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("plugin=debug")
        .with_writer(move || writer.clone())
        .without_time()
        .with_ansi(false)
        .finish();
    let result = tracing::subscriber::with_default(subscriber, work);
    let bytes = std::mem::take(&mut *kept.0.lock().unwrap());
    (result, String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect())
}
