//! Lines that a plugin writes to the host's log, in every form.

use std::sync::OnceLock;

use crate::bindings::log::Level as WireLevel;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something that a person should look at.
    Warn = 1,
    /// What happened.
    Info = 2,
    /// For whoever looks for a fault.
    Debug = 3,
}

impl Level {
    /// The level with this number; [`Level::Debug`] for numbers that are none.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Level::Error,
            1 => Level::Warn,
            2 => Level::Info,
            _ => Level::Debug,
        }
    }
}

impl From<WireLevel> for Level {
    fn from(level: WireLevel) -> Self {
        match level {
            WireLevel::Error => Level::Error,
            WireLevel::Warn => Level::Warn,
            WireLevel::Info => Level::Info,
            WireLevel::Debug => Level::Debug,
        }
    }
}

/// Takes the lines of plugins that run in this address space.
pub type Sink = Box<dyn Fn(Level, &str) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Says where lines go; the first caller decides. The host calls it once for what is linked in, and the dynamic
/// library's table once for itself. Without a sink, lines are dropped.
pub fn set_sink(sink: Sink) {
    let _ = SINK.set(sink);
}

/// Writes a line to the host's log.
pub fn log(level: Level, line: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::log::write(
        match level {
            Level::Error => WireLevel::Error,
            Level::Warn => WireLevel::Warn,
            Level::Info => WireLevel::Info,
            Level::Debug => WireLevel::Debug,
        },
        line,
    );
    #[cfg(not(target_family = "wasm"))]
    if let Some(sink) = SINK.get() {
        sink(level, line);
    }
}
