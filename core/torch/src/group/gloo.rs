//! c10d's store and its Gloo process group, through `shim/group.cpp`.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tch::Tensor;
use torch_sys::C_tensor;

use super::environment::Member;
use crate::{Result, TorchError};

/// The shim's `Group`.
#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

/// The shim's handle on an operation under way.
#[repr(C)]
struct RawWork {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn metareward_group_join(
        host: *const c_char,
        port: u16,
        serves: c_int,
        prefix: *const c_char,
        rank: c_int,
        size: c_int,
        join_ms: i64,
        out: *mut *mut RawGroup,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_leave(group: *mut RawGroup);
    fn metareward_group_all_reduce(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        maximum: c_int,
        timeout_ms: i64,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_broadcast(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        root: c_int,
        timeout_ms: i64,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_reduce(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        root: c_int,
        timeout_ms: i64,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_reduce_scatter(
        group: *mut RawGroup,
        full: *const C_tensor,
        part: *const C_tensor,
        timeout_ms: i64,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_all_gather(
        group: *mut RawGroup,
        part: *const C_tensor,
        full: *const C_tensor,
        timeout_ms: i64,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_send(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        peer: c_int,
        tag: c_int,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_receive(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        peer: c_int,
        tag: c_int,
        out: *mut *mut RawWork,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn metareward_group_wait(work: *mut RawWork, timeout_ms: i64, error: *mut c_char, capacity: usize) -> c_int;
    fn metareward_group_forget(work: *mut RawWork);
}

/// Room for the first line of an error.
const LINE: usize = 600;

/// What an operation combines the processes' numbers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Maximum,
}

/// The connections to all other processes.
pub(crate) struct Gloo {
    /// Operations are started one at a time: their order is what matches them between processes.
    raw: Mutex<NonNull<RawGroup>>,
    /// Operations that have not ended well, or not yet.
    open: Arc<AtomicUsize>,
}

// SAFETY: the group's own threads do its work, and every call to start some is behind the lock.
unsafe impl Send for Gloo {}
// SAFETY: as above.
unsafe impl Sync for Gloo {}

impl Gloo {
    /// Meets the others, within `patience`.
    pub fn join(member: &Member, patience: Duration) -> Result<Self> {
        let text = |value: &str| {
            CString::new(value).map_err(|_| TorchError::Group(format!("{value:?} has a zero character in it")))
        };
        let (host, prefix) = (text(&member.host)?, text(&member.prefix)?);
        let mut out = std::ptr::null_mut();
        // SAFETY: both texts end in a zero and live through the call; `out` and the error's buffer are ours.
        said(|error, capacity| unsafe {
            metareward_group_join(
                host.as_ptr(),
                member.port,
                c_int::from(member.serves),
                prefix.as_ptr(),
                member.rank as c_int,
                member.size as c_int,
                milliseconds(patience),
                &raw mut out,
                error,
                capacity,
            )
        })
        .map_err(|line| {
            TorchError::Group(format!(
                "process {} of {} could not meet the others at {}:{}: {line}; see that all {} were started, that this \
                 host's name leads to an address that the others can reach (or name a network interface in \
                 GLOO_SOCKET_IFNAME), and that no other program has the port",
                member.rank, member.size, member.host, member.port, member.size
            ))
        })?;
        let raw = NonNull::new(out).ok_or_else(|| TorchError::Group("c10d gave no group: this is a bug".to_owned()))?;
        Ok(Self { raw: Mutex::new(raw), open: Arc::default() })
    }

    /// Starts an operation on `tensors`, which the handle keeps. `patience` is 0 where the operation limits itself.
    fn start(
        &self,
        tensors: Vec<Tensor>,
        patience: Duration,
        call: impl FnOnce(*mut RawGroup, *mut *mut RawWork, *mut c_char, usize) -> c_int,
    ) -> Result<GlooWork> {
        let group = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = std::ptr::null_mut();
        said(|error, capacity| call(group.as_ptr(), &raw mut out, error, capacity)).map_err(lost)?;
        match NonNull::new(out) {
            raw @ Some(_) => {
                self.open.fetch_add(1, Ordering::SeqCst);
                Ok(GlooWork { raw, patience, open: Arc::clone(&self.open), _tensors: tensors })
            }
            None => Err(TorchError::Group("c10d gave no operation: this is a bug".to_owned())),
        }
    }

    /// Combines `tensor`, in place, with the others'.
    pub fn all_reduce(&self, tensor: &Tensor, reduction: Reduction, timeout: Duration) -> Result<GlooWork> {
        let maximum = c_int::from(reduction == Reduction::Maximum);
        let kept = tensor.shallow_clone();
        let pointer = kept.as_ptr();
        // SAFETY: the tensor lives through the call, and the operation keeps its memory alive; `Pending` says that nobody
        // reads or writes it before the operation has ended.
        self.start(vec![kept], Duration::ZERO, |group, out, error, capacity| unsafe {
            metareward_group_all_reduce(group, pointer, maximum, milliseconds(timeout), out, error, capacity)
        })
    }

    /// Gives `tensor` of process `root` to all.
    pub fn broadcast(&self, tensor: &Tensor, root: usize, timeout: Duration) -> Result<GlooWork> {
        let kept = tensor.shallow_clone();
        let pointer = kept.as_ptr();
        // SAFETY: as in `all_reduce`.
        self.start(vec![kept], Duration::ZERO, |group, out, error, capacity| unsafe {
            metareward_group_broadcast(group, pointer, root as c_int, milliseconds(timeout), out, error, capacity)
        })
    }

    /// Sums `tensor` over the processes, at process `root`.
    pub fn reduce(&self, tensor: &Tensor, root: usize, timeout: Duration) -> Result<GlooWork> {
        let kept = tensor.shallow_clone();
        let pointer = kept.as_ptr();
        // SAFETY: as in `all_reduce`.
        self.start(vec![kept], Duration::ZERO, |group, out, error, capacity| unsafe {
            metareward_group_reduce(group, pointer, root as c_int, milliseconds(timeout), out, error, capacity)
        })
    }

    /// Sums `full` over the processes and gives each its part; `full` is as long as all parts together.
    pub fn reduce_scatter(&self, full: &Tensor, part: &Tensor, timeout: Duration) -> Result<GlooWork> {
        let kept = vec![full.shallow_clone(), part.shallow_clone()];
        let (full, part) = (kept[0].as_ptr(), kept[1].as_ptr());
        // SAFETY: as in `all_reduce`, for both tensors.
        self.start(kept, Duration::ZERO, |group, out, error, capacity| unsafe {
            metareward_group_reduce_scatter(group, full, part, milliseconds(timeout), out, error, capacity)
        })
    }

    /// Puts the parts of all processes into `full`, in the order of their ranks.
    pub fn all_gather(&self, part: &Tensor, full: &Tensor, timeout: Duration) -> Result<GlooWork> {
        let kept = vec![part.shallow_clone(), full.shallow_clone()];
        let (part, full) = (kept[0].as_ptr(), kept[1].as_ptr());
        // SAFETY: as in `all_reduce`, for both tensors.
        self.start(kept, Duration::ZERO, |group, out, error, capacity| unsafe {
            metareward_group_all_gather(group, part, full, milliseconds(timeout), out, error, capacity)
        })
    }

    /// Sends `tensor` to process `peer`.
    pub fn send(&self, tensor: &Tensor, peer: usize, tag: i32, patience: Duration) -> Result<GlooWork> {
        let kept = tensor.shallow_clone();
        let pointer = kept.as_ptr();
        // SAFETY: as in `all_reduce`.
        self.start(vec![kept], patience, |group, out, error, capacity| unsafe {
            metareward_group_send(group, pointer, peer as c_int, tag, out, error, capacity)
        })
    }

    /// Receives into `tensor` what process `peer` sends.
    pub fn receive(&self, tensor: &Tensor, peer: usize, tag: i32, patience: Duration) -> Result<GlooWork> {
        let kept = tensor.shallow_clone();
        let pointer = kept.as_ptr();
        // SAFETY: as in `all_reduce`.
        self.start(vec![kept], patience, |group, out, error, capacity| unsafe {
            metareward_group_receive(group, pointer, peer as c_int, tag, out, error, capacity)
        })
    }
}

impl Drop for Gloo {
    /// Closes the connections, unless an operation has failed or is under way: c10d would wait for it, and the others, who
    /// do the same, would wait for this process. Then they are closed when the process ends.
    fn drop(&mut self) {
        if self.open.load(Ordering::SeqCst) > 0 {
            return;
        }
        let group = self.raw.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the pointer came from `metareward_group_join` and is freed once.
        unsafe { metareward_group_leave(group.as_ptr()) };
    }
}

/// An operation under way.
pub(crate) struct GlooWork {
    raw: Option<NonNull<RawWork>>,
    /// How long to wait, where the operation itself has no limit.
    patience: Duration,
    open: Arc<AtomicUsize>,
    _tensors: Vec<Tensor>,
}

// SAFETY: the handle is a reference-counted pointer to an object with a lock of its own.
unsafe impl Send for GlooWork {}

impl GlooWork {
    /// Waits for its end.
    pub fn wait(mut self) -> Result<()> {
        let Some(raw) = self.raw.take() else { return Ok(()) };
        let patience = milliseconds(self.patience);
        // SAFETY: the handle came from the shim, and the call frees it: it was taken out of what `drop` frees.
        said(|error, capacity| unsafe { metareward_group_wait(raw.as_ptr(), patience, error, capacity) })
            .map_err(lost)?;
        self.open.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for GlooWork {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            // SAFETY: the handle came from the shim and nobody has freed it.
            unsafe { metareward_group_forget(raw.as_ptr()) };
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    // c10d adds it to the time of day in nanoseconds: a hundred years would overflow.
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(365 * 24 * 3600 * 1000)
}

/// Runs `call` with a buffer for the error's first line; that line on failure.
fn said(call: impl FnOnce(*mut c_char, usize) -> c_int) -> std::result::Result<(), String> {
    let mut error = [0 as c_char; LINE];
    if call(error.as_mut_ptr(), error.len()) == 0 {
        return Ok(());
    }
    // SAFETY: on failure the shim closes the text with a zero inside the buffer.
    let text = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
    // Gloo begins with the place in its source.
    let line = match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, rest)) if place.contains(".cc:") || place.contains(".h:") || place.contains(".cpp:") => {
            rest.to_owned()
        }
        _ => text,
    };
    Err(line)
}

/// The error of an operation that failed while the group was at work.
fn lost(line: String) -> TorchError {
    TorchError::Group(format!("another process is gone or does not answer: {line}"))
}
