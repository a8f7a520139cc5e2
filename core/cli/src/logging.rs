//! Logs: to standard error beside the progress bars, and as JSON into the run folder once there is one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::MultiProgress;
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on errors alone are shown: another process of the group says the rest.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Handle to the log's outputs.
#[derive(Clone, Debug)]
pub struct Logs {
    /// Progress bars are drawn here, and log lines are put above them.
    pub bars: MultiProgress,
    file: Arc<Mutex<Option<File>>>,
}

impl Logs {
    /// Starts logging. `RUST_LOG` chooses what is shown; without it, warnings of everything and news of our own crates.
    pub fn start() -> Self {
        let logs = Self { bars: MultiProgress::new(), file: Arc::default() };
        let filter = || EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
        let people = tracing_subscriber::fmt::layer()
            .without_time()
            .with_target(false)
            .with_writer(BarWriter(logs.bars.clone()))
            .with_filter(filter());
        let machines = tracing_subscriber::fmt::layer()
            .json()
            .with_writer(FileWriter(Arc::clone(&logs.file)))
            .with_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")));
        // A second call in one process (tests) keeps the first subscriber.
        let _ = tracing_subscriber::registry().with(people).with(machines).try_init();
        logs
    }

    /// From now on every event is also a line of JSON in `path`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }
}

/// Writes above the progress bars, so that neither tears the other.
#[derive(Clone)]
struct BarWriter(MultiProgress);

/// Where a line for people goes.
enum Line {
    Shown(BarWriter),
    Dropped(io::Sink),
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Shown(writer) => writer.write(bytes),
            Line::Dropped(sink) => sink.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Write for BarWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for BarWriter {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line::Shown(self.clone())
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Line {
        if QUIET.load(Ordering::Relaxed) && *of.level() != Level::ERROR {
            return Line::Dropped(io::sink());
        }
        self.make_writer()
    }
}

/// Writes to the log file, if there is one yet.
#[derive(Clone)]
struct FileWriter(Arc<Mutex<Option<File>>>);

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for FileWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
