//! Operations between GPUs: NCCL, called directly.
//!
//! libtorch's CUDA part brings NCCL and the CUDA runtime along, and their C functions are found by name once that part is
//! loaded. So nothing here is compiled or linked against CUDA, and one program serves machines with and without GPUs.
//!
//! Operations run on a stream of their own, beside the computation. It waits for what the computation had done when an
//! operation began; [`NcclWork::wait`] waits on the host, so that a process that died, or does not answer, is an error and
//! not a GPU that hangs.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr::null_mut,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tch::{Kind, Tensor};

use crate::{Result, TorchError, library};

type Handle = *mut c_void;

/// Bytes of NCCL's name for a group.
const ID: usize = 128;

#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([u8; ID]);

// What NCCL and CUDA call these.
const SUM: c_int = 0;
const IN_PROGRESS: c_int = 7;
const NOT_READY: c_int = 600;
const NON_BLOCKING: u32 = 1;
const NO_TIMING: u32 = 2;

type Reduce = unsafe extern "C" fn(*const c_void, Handle, usize, c_int, c_int, Handle, Handle) -> c_int;

/// NCCL's and CUDA's functions.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    init_rank: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> c_int,
    abort: unsafe extern "C" fn(Handle) -> c_int,
    async_error: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    nccl_text: unsafe extern "C" fn(c_int) -> *const c_char,
    all_reduce: Reduce,
    reduce_scatter: Reduce,
    broadcast: Reduce,
    reduce: unsafe extern "C" fn(*const c_void, Handle, usize, c_int, c_int, c_int, Handle, Handle) -> c_int,
    all_gather: unsafe extern "C" fn(*const c_void, Handle, usize, c_int, Handle, Handle) -> c_int,
    set_device: unsafe extern "C" fn(c_int) -> c_int,
    cuda_text: unsafe extern "C" fn(c_int) -> *const c_char,
    stream_create: unsafe extern "C" fn(*mut Handle, u32) -> c_int,
    stream_wait: unsafe extern "C" fn(Handle, Handle, u32) -> c_int,
    event_create: unsafe extern "C" fn(*mut Handle, u32) -> c_int,
    event_record: unsafe extern "C" fn(Handle, Handle) -> c_int,
    event_query: unsafe extern "C" fn(Handle) -> c_int,
    event_destroy: unsafe extern "C" fn(Handle) -> c_int,
}

unsafe extern "C" {
    fn metareward_current_stream(device: c_int, out: *mut Handle, error: *mut c_char, capacity: usize) -> c_int;
}

/// The functions, in the libraries that libtorch's CUDA part brought along.
///
/// # Errors
/// [`TorchError::Machine`] where there is no GPU or a library is missing.
#[cfg(target_os = "linux")]
pub(crate) fn functions() -> Result<Functions> {
    use libloading::os::unix::Library;

    let cuda = library::cuda();
    let library::Cuda::Ready { .. } = cuda else {
        return Err(TorchError::Machine(format!("there is no GPU for a process group: {cuda}")));
    };
    let this = Library::this();
    macro_rules! find {
        ($name:literal) => {{
            // SAFETY: the libraries are never unloaded, and the field's type is the documented signature of this function.
            match unsafe { this.get(concat!($name, "\0").as_bytes()) } {
                Ok(symbol) => *symbol,
                Err(_) => {
                    return Err(TorchError::Machine(format!(
                        "{} is not there: libtorch's CUDA part came without NCCL, which several processes with a GPU \
                         each need",
                        $name
                    )));
                }
            }
        }};
    }
    Ok(Functions {
        get_unique_id: find!("ncclGetUniqueId"),
        init_rank: find!("ncclCommInitRank"),
        abort: find!("ncclCommAbort"),
        async_error: find!("ncclCommGetAsyncError"),
        nccl_text: find!("ncclGetErrorString"),
        all_reduce: find!("ncclAllReduce"),
        reduce_scatter: find!("ncclReduceScatter"),
        broadcast: find!("ncclBroadcast"),
        reduce: find!("ncclReduce"),
        all_gather: find!("ncclAllGather"),
        set_device: find!("cudaSetDevice"),
        cuda_text: find!("cudaGetErrorString"),
        stream_create: find!("cudaStreamCreateWithFlags"),
        stream_wait: find!("cudaStreamWaitEvent"),
        event_create: find!("cudaEventCreateWithFlags"),
        event_record: find!("cudaEventRecord"),
        event_query: find!("cudaEventQuery"),
        event_destroy: find!("cudaEventDestroy"),
    })
}

/// There is no NCCL on this system.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(crate) fn functions() -> Result<Functions> {
    Err(TorchError::Machine(format!("there is no GPU for a process group: {}", library::cuda())))
}

impl Functions {
    /// A name for a new group, which one process makes and gives to the others.
    pub fn unique_id(&self) -> Result<Vec<u8>> {
        let mut id = UniqueId([0; ID]);
        // SAFETY: NCCL writes its 128 bytes.
        self.nccl(unsafe { (self.get_unique_id)(&raw mut id) })?;
        Ok(id.0.to_vec())
    }

    fn nccl(&self, code: c_int) -> Result<()> {
        if code == 0 || code == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: the answer is a constant text for every number.
        let text = unsafe { text((self.nccl_text)(code)) };
        Err(TorchError::Group(format!("NCCL: {text}")))
    }

    fn cuda(&self, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the answer is a constant text for every number.
        let text = unsafe { text((self.cuda_text)(code)) };
        Err(TorchError::Group(format!("CUDA: {text}")))
    }
}

/// # Safety
/// `words` is null or a text that ends in a zero.
unsafe fn text(words: *const c_char) -> String {
    if words.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// A GPU's place in a group of GPUs.
pub(crate) struct Nccl {
    shared: Arc<Shared>,
    device: usize,
}

struct Shared {
    functions: Functions,
    /// NCCL's communicator, null once it was given up; operations begin one at a time.
    communicator: Mutex<Handle>,
    stream: Handle,
}

// SAFETY: the communicator is behind its lock, and streams may be used from any thread.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Nccl {
    /// Joins the group called `id` as process `rank` of `size`, on GPU `device`.
    pub fn join(functions: Functions, id: &[u8], rank: usize, size: usize, device: usize) -> Result<Self> {
        let id = UniqueId(id.try_into().map_err(|_| TorchError::Group("NCCL's name has the wrong length".to_owned()))?);
        let (mut communicator, mut stream) = (null_mut(), null_mut());
        // SAFETY: documented calls with places of our own to write to; all processes call them with the same name and size.
        unsafe {
            functions.cuda((functions.set_device)(device as c_int))?;
            functions.cuda((functions.stream_create)(&raw mut stream, NON_BLOCKING))?;
            functions.nccl((functions.init_rank)(&raw mut communicator, size as c_int, id, rank as c_int))?;
        }
        Ok(Self { shared: Arc::new(Shared { functions, communicator: Mutex::new(communicator), stream }), device })
    }

    pub fn all_reduce(&self, tensor: &Tensor, timeout: Duration) -> Result<NcclWork> {
        let (count, kind) = (tensor.numel(), number(tensor)?);
        self.start(vec![tensor.shallow_clone()], timeout, |functions, communicator, stream| {
            let memory = tensor.data_ptr();
            // SAFETY: the tensor is contiguous, on this GPU, and kept until the operation has ended.
            unsafe { (functions.all_reduce)(memory, memory, count, kind, SUM, communicator, stream) }
        })
    }

    pub fn broadcast(&self, tensor: &Tensor, root: usize, timeout: Duration) -> Result<NcclWork> {
        let (count, kind) = (tensor.numel(), number(tensor)?);
        self.start(vec![tensor.shallow_clone()], timeout, |functions, communicator, stream| {
            let memory = tensor.data_ptr();
            // SAFETY: as in `all_reduce`.
            unsafe { (functions.broadcast)(memory, memory, count, kind, root as c_int, communicator, stream) }
        })
    }

    pub fn reduce(&self, tensor: &Tensor, root: usize, timeout: Duration) -> Result<NcclWork> {
        let (count, kind) = (tensor.numel(), number(tensor)?);
        self.start(vec![tensor.shallow_clone()], timeout, |functions, communicator, stream| {
            let memory = tensor.data_ptr();
            // SAFETY: as in `all_reduce`.
            unsafe { (functions.reduce)(memory, memory, count, kind, SUM, root as c_int, communicator, stream) }
        })
    }

    pub fn reduce_scatter(&self, full: &Tensor, part: &Tensor, timeout: Duration) -> Result<NcclWork> {
        let (count, kind) = (part.numel(), number(full)?);
        let kept = vec![full.shallow_clone(), part.shallow_clone()];
        self.start(kept, timeout, |functions, communicator, stream| {
            // SAFETY: as in `all_reduce`; `full` is as long as all parts together.
            unsafe {
                (functions.reduce_scatter)(full.data_ptr(), part.data_ptr(), count, kind, SUM, communicator, stream)
            }
        })
    }

    pub fn all_gather(&self, part: &Tensor, full: &Tensor, timeout: Duration) -> Result<NcclWork> {
        let (count, kind) = (part.numel(), number(full)?);
        let kept = vec![full.shallow_clone(), part.shallow_clone()];
        self.start(kept, timeout, |functions, communicator, stream| {
            // SAFETY: as in `reduce_scatter`.
            unsafe { (functions.all_gather)(part.data_ptr(), full.data_ptr(), count, kind, communicator, stream) }
        })
    }

    /// Puts an operation on the group's stream, after what the computation has put on its own so far.
    fn start(
        &self,
        tensors: Vec<Tensor>,
        timeout: Duration,
        call: impl FnOnce(&Functions, Handle, Handle) -> c_int,
    ) -> Result<NcclWork> {
        let Shared { functions, communicator, stream } = &*self.shared;
        let communicator = communicator.lock().unwrap_or_else(PoisonError::into_inner);
        if communicator.is_null() {
            return Err(given_up());
        }
        let computing = self.current_stream()?;
        let before = Event::new(functions)?;
        let after = Event::new(functions)?;
        // SAFETY: streams and events are of this device and alive; recorded events may be destroyed, CUDA waits with it.
        unsafe {
            functions.cuda((functions.set_device)(self.device as c_int))?;
            functions.cuda((functions.event_record)(before.handle, computing))?;
            functions.cuda((functions.stream_wait)(*stream, before.handle, 0))?;
            functions.nccl(call(functions, *communicator, *stream))?;
            functions.cuda((functions.event_record)(after.handle, *stream))?;
        }
        Ok(NcclWork { shared: self.shared.clone(), after, computing, timeout, _tensors: tensors })
    }

    fn current_stream(&self) -> Result<Handle> {
        let mut stream = null_mut();
        let mut error = [0 as c_char; 400];
        // SAFETY: both places are ours, and the shim closes the error's text with a zero.
        unsafe {
            if metareward_current_stream(self.device as c_int, &raw mut stream, error.as_mut_ptr(), error.len()) != 0 {
                return Err(TorchError::Libtorch(text(error.as_ptr())));
            }
        }
        Ok(stream)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let communicator = self.communicator.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !communicator.is_null() {
            // SAFETY: nobody else has it any more. Giving it up, unlike closing it, does not wait for the others.
            unsafe { (self.functions.abort)(*communicator) };
        }
    }
}

struct Event {
    handle: Handle,
    destroy: unsafe extern "C" fn(Handle) -> c_int,
}

impl Event {
    fn new(functions: &Functions) -> Result<Self> {
        let mut handle = null_mut();
        // SAFETY: the place is ours.
        functions.cuda(unsafe { (functions.event_create)(&raw mut handle, NO_TIMING) })?;
        Ok(Self { handle, destroy: functions.event_destroy })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it was made by `new` and is destroyed once.
        unsafe { (self.destroy)(self.handle) };
    }
}

/// An operation under way on the group's stream.
pub(crate) struct NcclWork {
    shared: Arc<Shared>,
    after: Event,
    computing: Handle,
    timeout: Duration,
    _tensors: Vec<Tensor>,
}

// SAFETY: events and streams may be used from any thread.
unsafe impl Send for NcclWork {}

impl NcclWork {
    /// Waits for its end; what the computation does afterwards sees its result.
    pub fn wait(self) -> Result<()> {
        let functions = &self.shared.functions;
        let begun = Instant::now();
        loop {
            // SAFETY: the event is alive.
            match unsafe { (functions.event_query)(self.after.handle) } {
                0 => return Ok(()),
                NOT_READY => {}
                code => return functions.cuda(code),
            }
            let mut communicator = self.shared.communicator.lock().unwrap_or_else(PoisonError::into_inner);
            if communicator.is_null() {
                return Err(given_up());
            }
            let mut code = 0;
            // SAFETY: the communicator is alive while the lock is held and the pointer is not null.
            let found = functions.nccl(unsafe { (functions.async_error)(*communicator, &raw mut code) });
            let late = begun.elapsed() > self.timeout;
            if let Err(error) = found.and_then(|()| functions.nccl(code)) {
                give_up(functions, &mut communicator);
                return Err(error);
            }
            if late {
                give_up(functions, &mut communicator);
                return Err(TorchError::Group(format!(
                    "an operation between GPUs took more than {} s: another process is gone or does not answer",
                    self.timeout.as_secs()
                )));
            }
            drop(communicator);
            // Short at first: most operations end in less than a millisecond.
            let pause = (begun.elapsed() / 10).clamp(Duration::from_micros(5), Duration::from_millis(1));
            std::thread::sleep(pause);
        }
    }
}

impl Drop for NcclWork {
    /// The tensors' memory is used again by the computation only after the operation has ended.
    fn drop(&mut self) {
        // SAFETY: event and stream are alive; this puts a wait on the stream and returns.
        unsafe { (self.shared.functions.stream_wait)(self.computing, self.after.handle, 0) };
    }
}

fn give_up(functions: &Functions, communicator: &mut Handle) {
    // SAFETY: the pointer is set to null, so nobody uses or frees it again.
    unsafe { (functions.abort)(*communicator) };
    *communicator = null_mut();
}

fn given_up() -> TorchError {
    TorchError::Group("the connection between the GPUs was given up after an error".to_owned())
}

/// NCCL's number for a tensor's number format.
fn number(tensor: &Tensor) -> Result<c_int> {
    Ok(match tensor.kind() {
        Kind::Int8 => 0,
        Kind::Uint8 => 1,
        Kind::Int => 2,
        Kind::Int64 => 4,
        Kind::Half => 6,
        Kind::Float => 7,
        Kind::Double => 8,
        Kind::BFloat16 => 9,
        kind => return Err(TorchError::Input(format!("NCCL cannot send numbers of the format {kind:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that can be seen of NCCL without a GPU.
    #[test]
    fn without_a_gpu_it_says_so() {
        if let library::Cuda::Ready { .. } = library::cuda() {
            assert!(functions().is_ok_and(|functions| functions.unique_id().is_ok_and(|id| id.len() == ID)));
            return;
        }
        let error = functions().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("no GPU for a process group"), "{error}");
    }
}
