//! What a component is given: a log, a random source that repeats, a clock that stands still, and nothing else.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metareward_plugin::log::Level;
use wasmtime::{
    Engine, ResourceLimiter,
    component::{HasSelf, Linker, ResourceTable},
};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::random::seeded;
use crate::{bindings::log as wire_log, log};

/// Interfaces of WASI that standard libraries ask for and that give nothing away. No files, no sockets.
const GIVEN: [&str; 5] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "metareward:plugin/"];

/// Whether a component may import this.
pub(super) fn given(import: &str) -> bool {
    GIVEN.iter().any(|prefix| import.starts_with(prefix))
}

/// The state of one store.
pub(crate) struct Sandbox {
    pub limits: Limits,
    /// The last error that the guest logged: a trap carries no words of its own.
    pub last_error: Option<String>,
    printed: Arc<Mutex<Printed>>,
    lines: Lines,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Sandbox {
    pub(super) fn new(plugin: &str, memory: usize) -> Self {
        let plugin: Arc<str> = plugin.into();
        let printed = Arc::new(Mutex::new(Printed::default()));
        let lines = Lines { plugin, written: Arc::default() };
        let stream = |level| Stream { lines: lines.clone(), level, printed: printed.clone() };
        let wasi = WasiCtxBuilder::new()
            .stdout(stream(Level::Info))
            .stderr(stream(Level::Warn))
            .secure_random(seeded())
            .insecure_random(seeded())
            .insecure_random_seed(0)
            .wall_clock(Still)
            .monotonic_clock(Still)
            .build();
        let limits = Limits { memory, used: 0, refused: false };
        Self { limits, last_error: None, printed, lines, wasi, table: ResourceTable::new() }
    }

    /// Forgets what was said and refused in the call before.
    pub(super) fn begin_call(&mut self) {
        self.limits.refused = false;
        self.last_error = None;
        self.last_printed();
        self.lines.written.store(0, Ordering::Relaxed);
    }

    /// The last line that the guest printed to its standard error, if any.
    pub(super) fn last_printed(&self) -> Option<String> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).last.take()
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl wire_log::Host for Sandbox {
    fn write(&mut self, level: wire_log::Level, line: String) {
        let level = match level {
            wire_log::Level::Error => Level::Error,
            wire_log::Level::Warn => Level::Warn,
            wire_log::Level::Info => Level::Info,
            wire_log::Level::Debug => Level::Debug,
        };
        // A panic's words are two lines, of which the log makes one.
        let line = line.replace('\n', " ");
        if level == Level::Error {
            self.last_error = Some(log::clean(&line));
        }
        self.lines.write(level, &line);
    }
}

/// The lines of one instance on their way to our log.
#[derive(Clone)]
struct Lines {
    plugin: Arc<str>,
    /// How many there were in this call.
    written: Arc<AtomicU32>,
}

/// Lines that one call may write: instructions are limited, but a line costs few of them and fills a disk.
const MOST_LINES: u32 = 1000;

impl Lines {
    fn write(&self, level: Level, line: &str) {
        match self.written.fetch_add(1, Ordering::Relaxed) {
            before if before < MOST_LINES => log::write(&self.plugin, level, line),
            MOST_LINES => {
                log::write(&self.plugin, Level::Warn, "more lines than a call may write: the rest is dropped")
            }
            // The count stays where it is, so that it cannot come round.
            _ => self.written.store(MOST_LINES + 1, Ordering::Relaxed),
        }
    }
}

/// All that the linker knows.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    // The clock stands still, so whoever waits would wait for ever, outside of what fuel can end.
    linker.allow_shadowing(true);
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    for call in ["subscribe-instant", "subscribe-duration"] {
        clock.func_new(call, |_, _, _, _| wasmtime::bail!("it wanted to sleep, which no plugin can"))?;
    }
    wire_log::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    Ok(linker)
}

/// Counts memory over all linear memories and tables of a store.
pub(crate) struct Limits {
    memory: usize,
    used: usize,
    /// Whether the guest asked for more than it may have.
    pub refused: bool,
}

/// Bytes of a table's entry, at most.
const ENTRY: usize = 16;

impl Limits {
    fn grow(&mut self, current: usize, desired: usize, size: usize) -> bool {
        let more = desired.saturating_sub(current).saturating_mul(size);
        let used = self.used.saturating_add(more);
        self.refused = used > self.memory;
        if !self.refused {
            self.used = used;
        }
        !self.refused
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, 1))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, ENTRY))
    }
}

/// A clock that stands at the epoch.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

/// The line that is being printed, and the last one that was.
#[derive(Default)]
struct Printed {
    pending: String,
    last: Option<String>,
}

/// Standard output and standard error of a guest, as lines of our log.
#[derive(Clone)]
struct Stream {
    lines: Lines,
    level: Level,
    printed: Arc<Mutex<Printed>>,
}

impl Stream {
    fn print(&self, bytes: &[u8]) {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.pending.push_str(&String::from_utf8_lossy(bytes));
        while let Some(end) = printed.pending.find('\n') {
            let line: String = printed.pending.drain(..=end).collect();
            if !line.trim().is_empty() {
                self.lines.write(self.level, &line);
                printed.last = Some(log::clean(&line));
            }
        }
        if printed.pending.len() > LONGEST_PENDING {
            let line = std::mem::take(&mut printed.pending);
            self.lines.write(self.level, &line);
        }
    }
}

/// A guest that prints without line ends must not fill our memory.
const LONGEST_PENDING: usize = 64 * 1024;

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Never asked for: components of WASI 0.2 write through `p2_stream`.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LONGEST_PENDING)
    }
}
