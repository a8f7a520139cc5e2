//! What plugins from outside may use, and where they are found.

use std::path::{Path, PathBuf};

/// Limits and places of plugins that are not linked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Folder that the paths of plugin files are relative to.
    pub folder: PathBuf,
    /// WASM instructions that one call may execute, roughly.
    pub fuel: u64,
    /// Memory of one component instance, and the size of one answer of a library, in MiB.
    pub memory_mib: u32,
    /// Threads over which a large batch is spread. 0: one per core.
    pub threads: usize,
    /// Folder for compiled components. `None` compiles anew every time.
    pub cache: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { folder: PathBuf::new(), fuel: 20_000_000_000, memory_mib: 512, threads: 0, cache: default_cache() }
    }
}

impl Settings {
    /// The file that a config's path means.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.folder.join(Path::new(path))
    }

    /// The limit on memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        (self.memory_mib as usize).saturating_mul(1 << 20)
    }

    /// How many threads work on a large batch.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

/// The user's cache folder for compiled components, where the environment names one.
fn default_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("metareward").join("components"))
}
