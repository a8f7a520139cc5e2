//! Plugins as dynamic libraries. They run with the user's rights; what is loaded are the bytes that were hashed.

use std::{
    ffi::c_void,
    io::Write,
    ptr, slice,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use libloading::Library;
use metareward_api::{Kind, OptionError, PluginError, PluginInfo};
use metareward_plugin::{
    library::{Bytes, LAYOUT, MAGIC, STAMP, Status, Table},
    log::Level,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{LoadError, Settings, bindings::types as wire, elf, file::PluginFile, log, version, words};

/// What a library says of itself before any of it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub api_version: String,
    pub kind: Kind,
    pub package: String,
    pub version: String,
}

impl Stamp {
    /// The stamp among the bytes of a library.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        let none = || LoadError::NoPlugin("it has no stamp of metareward's SDK".to_owned());
        let start = bytes.windows(STAMP.len()).position(|window| window == STAMP.as_bytes()).ok_or_else(none)?;
        let rest = bytes.get(start + STAMP.len()..).unwrap_or_default();
        let end = rest.iter().take(1024).position(|byte| *byte == b';').ok_or_else(none)?;
        let text = str::from_utf8(rest.get(..end).unwrap_or_default()).map_err(|_| none())?;
        let fields: Vec<&str> = text.split(':').collect();
        let [api_version, kind, package, version] = fields[..] else { return Err(none()) };
        let plain = |text: &&str| text.chars().all(|c| c.is_ascii_graphic());
        if !fields.iter().all(plain) {
            return Err(none());
        }
        let known =
            version::kind(kind).ok_or_else(|| LoadError::NoPlugin(format!("its stamp says it is a {kind:?}")))?;
        Ok(Self {
            api_version: api_version.to_owned(),
            kind: known,
            package: package.to_owned(),
            version: version.to_owned(),
        })
    }
}

/// A library that is loaded for good: its code may be running, so it is never unloaded.
pub(crate) struct LoadedLibrary {
    pub stamp: Stamp,
    table: &'static Table,
    /// Largest answer in bytes.
    largest: usize,
}

/// Where the pointers to functions begin in a table.
const FUNCTIONS: usize = std::mem::offset_of!(Table, set_log);

/// Libraries of this process by hash: the same bytes are loaded once.
static LOADED: Mutex<Vec<(String, &'static Table)>> = Mutex::new(Vec::new());

impl LoadedLibrary {
    /// Loads the bytes that were hashed and checks the table.
    pub(crate) fn load(file: &PluginFile, settings: &Settings) -> Result<Self, LoadError> {
        let stamp = Stamp::read(&file.bytes)?;
        version::check(&stamp.api_version)?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.iter().find(|(sha256, _)| *sha256 == file.sha256).map(|(_, table)| *table);
        let table = match known {
            Some(table) => table,
            None => {
                let table = open(file, &stamp.package)?;
                loaded.push((file.sha256.clone(), table));
                table
            }
        };
        Ok(Self { stamp, table, largest: settings.memory() })
    }

    /// What the library says of itself: name, version, schema of options.
    pub(crate) fn describe(&self) -> Result<(PluginInfo, serde_json::Value), LoadError> {
        let mut out = Bytes::EMPTY;
        // SAFETY: the table was checked, and `out` is ours to be written.
        let status = unsafe { (self.table.describe)(&mut out) };
        let bytes = self.take(out).map_err(LoadError::Failed)?;
        if status != Status::Done as u32 {
            return Err(LoadError::Failed(fault(status, &bytes)));
        }
        let said = decode(&bytes).map_err(|error| LoadError::Failed(format!("its description {error}")))?;
        crate::description::read(said, self.stamp.kind)
    }

    /// Copies an answer and gives the buffer back.
    fn take(&self, out: Bytes) -> Result<Vec<u8>, String> {
        if out.start.is_null() {
            return match out.length {
                0 => Ok(Vec::new()),
                length => Err(format!("its buffer of {length} bytes is nowhere")),
            };
        }
        let copied = if out.length > out.capacity {
            Err(format!("its buffer of {} bytes lies in an allocation of {}", out.length, out.capacity))
        } else if out.length > self.largest {
            let (found, most) = (out.length.div_ceil(1 << 20), self.largest >> 20);
            Err(format!(
                "it handed over {found} MiB in one call, more than {most}; raise plugins.memory_mib if it needs so much"
            ))
        } else {
            // SAFETY: the library says that `length` bytes start there, and keeps them until `free`.
            Ok(unsafe { slice::from_raw_parts(out.start, out.length) }.to_vec())
        };
        // SAFETY: the buffer is the library's, and is given back once.
        unsafe { (self.table.free)(out) };
        copied
    }
}

/// A plugin that a library makes, and makes anew after a panic: what state the old one is in, nobody knows.
pub(crate) struct LibraryPlugin {
    library: Arc<LoadedLibrary>,
    options: String,
    made: Mutex<Option<Arc<Handle>>>,
}

/// A handle of `create`'s.
struct Handle {
    library: Arc<LoadedLibrary>,
    handle: *mut c_void,
    /// Set when the plugin panicked: it is neither asked nor dropped any more.
    panicked: AtomicBool,
}

// SAFETY: the contract of the table says that `call` may come from several threads at once, and the SDK makes tables
// only of plugins that are `Send + Sync`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Makes a plugin from options as JSON.
    fn make(library: &Arc<LoadedLibrary>, options: &str) -> Result<Self, OptionError> {
        let (mut handle, mut out) = (ptr::null_mut(), Bytes::EMPTY);
        // SAFETY: the table was checked; the options outlive the call; handle and buffer are ours to be written.
        let status = unsafe { (library.table.create)(options.as_ptr(), options.len(), &mut handle, &mut out) };
        let bytes = library.take(out).map_err(OptionError::new)?;
        if status == Status::Done as u32 && !handle.is_null() {
            return Ok(Self { library: library.clone(), handle, panicked: AtomicBool::new(false) });
        }
        Err(match (status, decode::<wire::OptionError>(&bytes)) {
            (status, Ok(error)) if status == Status::Refused as u32 => words::refusal(error),
            (status, Err(error)) if status == Status::Refused as u32 => {
                OptionError::new(format!("it refused its options, but its reason {error}"))
            }
            (status, _) if status == Status::Done as u32 => {
                OptionError::new("it said that it made a plugin, but gave none")
            }
            (status, _) => OptionError::new(format!("it failed over its options: {}", fault(status, &bytes))),
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.panicked.load(Ordering::Acquire) {
            // SAFETY: the handle is `create`'s and is destroyed once.
            unsafe { (self.library.table.destroy)(self.handle) };
        }
    }
}

impl LibraryPlugin {
    /// Makes the plugin, so that options are refused now.
    pub(crate) fn make(library: Arc<LoadedLibrary>, options: &str) -> Result<Self, OptionError> {
        let first = Arc::new(Handle::make(&library, options)?);
        Ok(Self { library, options: options.to_owned(), made: Mutex::new(Some(first)) })
    }

    /// The plugin, made anew where it panicked.
    fn handle(&self) -> Result<Arc<Handle>, PluginError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match made.as_ref().filter(|handle| !handle.panicked.load(Ordering::Acquire)) {
            Some(handle) => Ok(handle.clone()),
            None => {
                let new = Handle::make(&self.library, &self.options)
                    .map_err(|error| PluginError::new(format!("it cannot be made again after a panic: {error}")))?;
                Ok(made.insert(Arc::new(new)).clone())
            }
        }
    }

    /// Asks call `number` with a tuple of arguments.
    pub(crate) fn call<A: Serialize, T: DeserializeOwned>(&self, number: u32, arguments: &A) -> Result<T, PluginError> {
        let handle = self.handle()?;
        let arguments = postcard::to_stdvec(arguments)
            .map_err(|error| PluginError::new(format!("the arguments cannot be encoded: {error}")))?;
        let mut out = Bytes::EMPTY;
        // SAFETY: the table was checked, the handle is alive, the arguments outlive the call, the buffer is ours.
        let status =
            unsafe { (self.library.table.call)(handle.handle, number, arguments.as_ptr(), arguments.len(), &mut out) };
        let bytes = self.library.take(out).map_err(PluginError::new)?;
        if status == Status::Done as u32 {
            let answer: Result<T, wire::PluginError> =
                decode(&bytes).map_err(|error| PluginError::new(format!("its answer {error}")))?;
            return answer.map_err(words::error);
        }
        if status == Status::Panicked as u32 {
            handle.panicked.store(true, Ordering::Release);
        }
        Err(PluginError::new(fault(status, &bytes)))
    }
}

/// A message, to its last byte.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(format!("goes on for {} bytes after its end", rest.len())),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// What a status other than `Done` and the buffer with it say.
fn fault(status: u32, bytes: &[u8]) -> String {
    let said = log::clean(&String::from_utf8_lossy(bytes));
    if status == Status::Panicked as u32 {
        format!("it panicked: {said}")
    } else if status == Status::Misunderstood as u32 {
        format!("it did not understand the call: {said}")
    } else {
        format!("it answered with status {status}, which means nothing")
    }
}

/// Loads the bytes and finds the table.
fn open(file: &PluginFile, package: &str) -> Result<&'static Table, LoadError> {
    let malformed =
        |message: String| LoadError::Malformed { expected: "dynamic library", message: log::clean(&message) };
    elf::check(&file.bytes).map_err(malformed)?;
    // Found before anything of it runs: a path that changes between hashing and loading changes nothing.
    let held = hold(&file.bytes).map_err(|error| malformed(format!("it cannot be laid out for loading: {error}")))?;
    // SAFETY: loading runs the library's initialisers. The user vouched for these very bytes with their hash.
    let library = unsafe { Library::new(&held.path) }.map_err(|error| malformed(reason(&error)))?;
    let symbol = format!("metareward_plugin_{package}");
    // SAFETY: the symbol is a static `Table` of the SDK; magic, layout and size are checked below before it is used.
    let table = unsafe { library.get::<*const Table>(symbol.as_bytes()) }.map(|symbol| *symbol);
    // Never unloaded, whatever the checks say: its threads and its thread-local destructors may outlive us.
    std::mem::forget(library);
    // Nor is its place given up: the loader knows libraries by name, and a second one must not get the first one's.
    std::mem::forget(held);
    let table = table.map_err(|_| LoadError::NoPlugin(format!("it exports no {symbol}, of which its stamp speaks")))?;
    let no_table = |message: String| Err(LoadError::NoPlugin(format!("its symbol {symbol} {message}")));
    if table.is_null() || !table.is_aligned() {
        return no_table("is not where a table can be".to_owned());
    }
    // SAFETY: the first three fields have the same place in every layout, and the library stays loaded.
    let (magic, layout, size) = unsafe { ((*table).magic, (*table).layout, (*table).size) };
    if magic != MAGIC {
        return no_table("is no table of metareward's SDK".to_owned());
    }
    if layout != LAYOUT || size as usize != size_of::<Table>() {
        let ours = size_of::<Table>();
        return no_table(format!(
            "is a table of layout {layout} with {size} bytes; this metareward reads layout {LAYOUT} with {ours}"
        ));
    }
    // SAFETY: of this layout and size, all that follows is pointers to functions, read here as numbers.
    let functions = unsafe {
        table.byte_add(FUNCTIONS).cast::<[usize; (size_of::<Table>() - FUNCTIONS) / size_of::<usize>()]>().read()
    };
    if functions.contains(&0) {
        return no_table("is a table with a function that is nowhere".to_owned());
    }
    // SAFETY: magic, layout and size are those of `Table`, and the library is never unloaded.
    let table: &'static Table = unsafe { &*table };
    // SAFETY: the table was checked, and the sink is a function of this program.
    unsafe { (table.set_log)(sink) };
    Ok(table)
}

/// What the system's loader says.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Takes the log lines of all libraries.
unsafe extern "C" fn sink(level: u32, start: *const u8, length: usize) {
    if start.is_null() {
        return;
    }
    // SAFETY: the library says that `length` bytes start there, for the time of the call.
    let bytes = unsafe { slice::from_raw_parts(start, length.min(1 << 16)) };
    log::write("library", Level::from_number(level), &String::from_utf8_lossy(bytes));
}

/// The place of the bytes in the file system while they are loaded.
struct Held {
    path: std::path::PathBuf,
    /// Keeps the memory, or elsewhere the folder, alive.
    #[cfg(target_os = "linux")]
    _memory: std::fs::File,
    #[cfg(not(target_os = "linux"))]
    _folder: tempfile::TempDir,
}

/// In memory that nobody else can reach where the system has such a thing, otherwise in a folder of our own.
fn hold(bytes: &[u8]) -> std::io::Result<Held> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let descriptor = rustix::fs::memfd_create("plugin", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(descriptor);
        file.write_all(bytes)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Held { path, _memory: file })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("plugin");
        std::fs::File::create(&path)?.write_all(bytes)?;
        Ok(Held { path, _folder: folder })
    }
}

/// Sends the log lines of plugins that are linked in to our log.
pub(crate) fn listen() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        metareward_plugin::log::set_sink(Box::new(|level, line| log::write("built-in", level, line)));
    });
}
