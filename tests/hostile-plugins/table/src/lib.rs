//! A dynamic library whose table is made by hand, without the SDK. What it does wrong stands in its own bytes, where the
//! test writes it, so that one build gives them all.

use std::{ffi::c_void, ptr, slice};

#[used]
static MODE: [u8; 16] = *b"hostile-mode:000";

#[unsafe(export_name = "metareward_stamp_hostile-table")]
static STAMP: [u8; 57] = *b"metareward-plugin-stamp:0.1.0:ranker:hostile-table:0.1.0;";

#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    start: *mut u8,
    length: usize,
    capacity: usize,
}

type Sink = unsafe extern "C" fn(u32, *const u8, usize);

#[repr(C)]
struct Table {
    magic: [u8; 8],
    layout: u32,
    size: u32,
    set_log: unsafe extern "C" fn(Sink),
    describe: unsafe extern "C" fn(*mut Bytes) -> u32,
    create: unsafe extern "C" fn(*const u8, usize, *mut *mut c_void, *mut Bytes) -> u32,
    call: Option<unsafe extern "C" fn(*const c_void, u32, *const u8, usize, *mut Bytes) -> u32>,
    destroy: unsafe extern "C" fn(*mut c_void),
    free: unsafe extern "C" fn(Bytes),
}

#[unsafe(export_name = "metareward_plugin_hostile-table")]
static TABLE: Table = Table {
    magic: *b"mr-plug\0",
    layout: 1,
    size: size_of::<Table>() as u32,
    set_log,
    describe,
    create,
    call: if cfg!(feature = "holes") { None } else { Some(call) },
    destroy,
    free,
};

/// The number that the test wrote.
fn mode() -> u32 {
    // SAFETY: a reference is always readable. Volatile, because the bytes change after the compiler saw them.
    let bytes = unsafe { ptr::read_volatile(&MODE) };
    bytes[13..].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

fn give(bytes: &[u8]) -> Bytes {
    let mut bytes = std::mem::ManuallyDrop::new(bytes.to_vec());
    Bytes { start: bytes.as_mut_ptr(), length: bytes.len(), capacity: bytes.capacity() }
}

/// A text as postcard has it; shorter than 128 bytes.
fn text(into: &mut Vec<u8>, text: &[u8]) {
    into.push(text.len() as u8);
    into.extend_from_slice(text);
}

unsafe extern "C" fn set_log(sink: Sink) {
    let line = b"\x1b[2Jinvalid \xff\xfe here\r\n";
    // SAFETY: the line outlives the call. The second line is nowhere and has no length.
    unsafe {
        if mode() == 12 {
            sink(77, line.as_ptr(), line.len());
            sink(0, ptr::null(), usize::MAX);
        }
    }
}

unsafe extern "C" fn describe(out: *mut Bytes) -> u32 {
    let name: &[u8] = if mode() == 1 { b"ta\xff\xfeble" } else { b"table" };
    let mut said = vec![3];
    text(&mut said, name);
    text(&mut said, b"0.1.0");
    text(&mut said, b"Lies through the table");
    text(&mut said, b"{}");
    let (bytes, status) = match mode() {
        2 => (give(b"panicked \xff\xfe\x1b[2J"), 3),
        3 => (Bytes { start: ptr::null_mut(), length: said.len(), capacity: said.len() }, 0),
        _ => (give(&said), 0),
    };
    // SAFETY: the host passes a buffer of its own.
    unsafe { out.write(bytes) };
    status
}

unsafe extern "C" fn create(_: *const u8, _: usize, handle: *mut *mut c_void, out: *mut Bytes) -> u32 {
    let mut refusal = vec![1];
    text(&mut refusal, b"ke\xffy");
    text(&mut refusal, b"no");
    let (plugin, bytes, status) = match mode() {
        4 => (ptr::null_mut(), give(b""), 0),
        5 => (ptr::null_mut(), give(&refusal), 1),
        _ => (Box::into_raw(Box::new(0u64)).cast(), give(b""), 0),
    };
    // SAFETY: the host passes a buffer of its own and a handle to be written.
    unsafe {
        handle.write(plugin);
        out.write(bytes);
    }
    status
}

/// Two ratings of 1 to each of the problems, whose number is the first byte of the arguments.
fn ratings(arguments: &[u8]) -> Vec<u8> {
    let problems = arguments.first().copied().unwrap_or_default();
    let mut answer = vec![0, problems];
    for _ in 0..problems {
        answer.push(2);
        answer.extend_from_slice(&1f64.to_le_bytes());
        answer.extend_from_slice(&1f64.to_le_bytes());
        answer.extend_from_slice(&[1, 0, 0]);
    }
    answer
}

unsafe extern "C" fn call(_: *const c_void, _: u32, arguments: *const u8, length: usize, out: *mut Bytes) -> u32 {
    // SAFETY: the host passes a buffer of its own.
    let honest = ratings(unsafe { slice::from_raw_parts(arguments, length) });
    let mut error = vec![1];
    text(&mut error, b"an error with \xff\xfe in it");
    error.push(0);
    let whole = give(&honest);
    let (bytes, status) = match mode() {
        // An error whose words are no UTF-8.
        6 => (give(&error), 0),
        // Longer than anything.
        7 => (Bytes { length: usize::MAX, ..whole }, 0),
        // Longer than its own allocation.
        8 => (Bytes { length: whole.capacity + 4096, ..whole }, 0),
        // Nowhere, but long.
        9 => (Bytes { start: ptr::null_mut(), ..whole }, 0),
        // A status that means nothing.
        10 => (whole, 77),
        // Refused, which only options can be.
        11 => (give(&error), 1),
        // A list that says it has 2^63 members.
        13 => (give(&[0, 255, 255, 255, 255, 255, 255, 255, 255, 127]), 0),
        // Half of the answer.
        14 => (give(&honest[..honest.len() / 2]), 0),
        // The answer and a kilobyte of other things.
        15 => (give(&[honest.as_slice(), &[7; 1024]].concat()), 0),
        // Nothing at all.
        16 => (Bytes { start: ptr::null_mut(), length: 0, capacity: 0 }, 0),
        // Not even a buffer.
        17 => return 0,
        // Words without end.
        18 => (give(&b"word\x1b[2J ".repeat(1 << 20)), 3),
        _ => (whole, 0),
    };
    // SAFETY: the host passes a buffer of its own.
    unsafe { out.write(bytes) };
    status
}

unsafe extern "C" fn destroy(handle: *mut c_void) {
    // SAFETY: `create` made it.
    drop(unsafe { Box::from_raw(handle.cast::<u64>()) });
}

unsafe extern "C" fn free(bytes: Bytes) {
    // A length that lies would be freed as it lies: what has a capacity was made by `give`.
    if !bytes.start.is_null() {
        // SAFETY: the capacity is that of the allocation.
        drop(unsafe { Vec::from_raw_parts(bytes.start, 0, bytes.capacity) });
    }
}
