//! A plugin as a dynamic library: a table of C functions that host and library share.
//!
//! The library exports one [`Table`] named `metareward_plugin_<package>` and one stamp named
//! `metareward_stamp_<package>`: text that says what the file is, readable without running any of it. Messages are
//! postcard of the WIT types. Whoever made a buffer frees it.

use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    slice, str,
};

use crate::{
    FromOptions,
    bindings::types as wire,
    calls::{CallError, Calls},
    component, log,
    log::Level,
    wire::Cross,
};

/// First bytes of a [`Table`].
pub const MAGIC: [u8; 8] = *b"mr-plug\0";

/// Layout of [`Table`]; another number is another layout.
pub const LAYOUT: u32 = 1;

/// Before the stamp's fields `api:kind:package:version;`.
pub const STAMP: &str = "metareward-plugin-stamp:";

/// The bytes of a text as an array, for a static. Zeros when the text is shorter.
pub const fn fixed<const N: usize>(text: &str) -> &[u8; N] {
    match text.as_bytes().first_chunk::<N>() {
        Some(bytes) => bytes,
        None => &[0; N],
    }
}

/// A buffer of the library's, to be given back to [`Table::free`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// First byte; null when there are none.
    pub start: *mut u8,
    /// Number of bytes.
    pub length: usize,
    /// Size of the allocation.
    pub capacity: usize,
}

impl Bytes {
    /// No bytes.
    pub const EMPTY: Bytes = Bytes { start: std::ptr::null_mut(), length: 0, capacity: 0 };

    fn of(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self { start: bytes.as_mut_ptr(), length: bytes.len(), capacity: bytes.capacity() }
    }
}

/// How a call through the table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The buffer holds the answer.
    Done = 0,
    /// The buffer holds a postcard `option-error`: the options were refused.
    Refused = 1,
    /// The buffer holds words: the call could not be understood.
    Misunderstood = 2,
    /// The buffer holds words: the plugin panicked.
    Panicked = 3,
}

/// Where the library's log lines go: level, first byte, number of bytes of UTF-8.
pub type LogSink = unsafe extern "C" fn(u32, *const u8, usize);

/// What a library exports.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`LAYOUT`].
    pub layout: u32,
    /// Size of the table in bytes.
    pub size: u32,
    /// Says where log lines go. Called once, before all others.
    pub set_log: unsafe extern "C" fn(LogSink),
    /// Postcard `description` into the buffer.
    pub describe: unsafe extern "C" fn(*mut Bytes) -> u32,
    /// Makes a plugin from options (JSON, UTF-8).
    pub create: unsafe extern "C" fn(*const u8, usize, *mut *mut c_void, *mut Bytes) -> u32,
    /// Answers a numbered call of a plugin. May be called from several threads at once.
    pub call: unsafe extern "C" fn(*const c_void, u32, *const u8, usize, *mut Bytes) -> u32,
    /// Drops a plugin.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// Drops a buffer.
    pub free: unsafe extern "C" fn(Bytes),
}

/// A plugin with its calls by number: `calls::ranker::Numbered<P>` and its like.
pub trait Numbered: Calls + Sized {
    /// The plugin.
    type Plugin: FromOptions;

    /// Wraps the plugin.
    fn of(plugin: Self::Plugin) -> Self;
}

macro_rules! numbered {
    ($($module:ident $trait:ident)*) => {
        $(
            impl<P: FromOptions + metareward_api::$trait> Numbered for crate::calls::$module::Numbered<P> {
                type Plugin = P;

                fn of(plugin: P) -> Self {
                    Self(plugin)
                }
            }
        )*
    };
}

numbered!(sampler Sampler rubric Rubric meta_judge MetaJudge ranker Ranker selector Selector optimizer Optimizer task Task);

/// The table of a library whose plugin is `N::Plugin`.
pub const fn table<N: Numbered>() -> Table {
    Table {
        magic: MAGIC,
        layout: LAYOUT,
        size: size_of::<Table>() as u32,
        set_log,
        describe: describe::<N>,
        create: create::<N>,
        call: call::<N>,
        destroy: destroy::<N>,
        free,
    }
}

unsafe extern "C" fn set_log(sink: LogSink) {
    log::set_sink(Box::new(move |level: Level, line: &str| {
        // SAFETY: the host's sink reads `length` bytes from `start` during the call and keeps neither.
        unsafe { sink(level as u32, line.as_ptr(), line.len()) }
    }));
}

/// Runs `work` and puts what came out, or the panic's words, into `out`.
///
/// # Safety
/// `out` must point to a [`Bytes`] that may be written.
unsafe fn guarded(out: *mut Bytes, work: impl FnOnce() -> (Status, Vec<u8>)) -> u32 {
    let (status, bytes) = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without words");
        (Status::Panicked, words.as_bytes().to_vec())
    });
    // SAFETY: the caller's promise.
    unsafe { out.write(Bytes::of(bytes)) };
    status as u32
}

/// The bytes that the host passed.
///
/// # Safety
/// `start` must point to `length` bytes that stay as they are for `'a`, or `length` must be 0.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if length == 0 || start.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start, length) }
}

unsafe extern "C" fn describe<N: Numbered>(out: *mut Bytes) -> u32 {
    // SAFETY: the host passes a buffer of its own.
    unsafe {
        guarded(out, || match postcard::to_stdvec(&component::describe::<N::Plugin>()) {
            Ok(bytes) => (Status::Done, bytes),
            Err(error) => (Status::Misunderstood, error.to_string().into_bytes()),
        })
    }
}

unsafe extern "C" fn create<N: Numbered>(
    options: *const u8,
    length: usize,
    handle: *mut *mut c_void,
    out: *mut Bytes,
) -> u32 {
    // SAFETY: the host passes buffers of its own and a handle to be written.
    unsafe {
        guarded(out, || {
            let Ok(options) = str::from_utf8(bytes(options, length)) else {
                return (Status::Misunderstood, b"the options are no UTF-8".to_vec());
            };
            match component::make::<N::Plugin>(options) {
                Ok(plugin) => {
                    handle.write(Box::into_raw(Box::new(N::of(plugin))).cast());
                    (Status::Done, Vec::new())
                }
                Err(error) => {
                    let error: wire::OptionError = error.cross();
                    (Status::Refused, postcard::to_stdvec(&error).unwrap_or_default())
                }
            }
        })
    }
}

unsafe extern "C" fn call<N: Numbered>(
    handle: *const c_void,
    number: u32,
    arguments: *const u8,
    length: usize,
    out: *mut Bytes,
) -> u32 {
    // SAFETY: the host passes a handle that `create` made and that it has not destroyed, and buffers of its own.
    unsafe {
        guarded(out, || {
            let plugin = &*handle.cast::<N>();
            match plugin.call(number, bytes(arguments, length)) {
                Ok(bytes) => (Status::Done, bytes),
                Err(error @ (CallError::Unknown(_) | CallError::Arguments(_) | CallError::Answer(_))) => {
                    (Status::Misunderstood, error.to_string().into_bytes())
                }
            }
        })
    }
}

unsafe extern "C" fn destroy<N: Numbered>(handle: *mut c_void) {
    // A panic must not cross the border; there is nobody to tell of one while dropping.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the host passes a handle that `create` made, once.
        drop(unsafe { Box::from_raw(handle.cast::<N>()) });
    }));
}

unsafe extern "C" fn free(bytes: Bytes) {
    if !bytes.start.is_null() {
        // SAFETY: `Bytes::of` took these three from a vector, and the host gives each buffer back once.
        drop(unsafe { Vec::from_raw_parts(bytes.start, bytes.length, bytes.capacity) });
    }
}
