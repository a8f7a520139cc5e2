//! libtorch itself: where it lies, its version, and its CUDA part, which is loaded at run time.
//!
//! The binary is linked against `libtorch_cpu` only, so that it starts on machines without a GPU driver. Where
//! `libtorch_cuda.so` lies beside it and the machine has a GPU, that file is opened before libtorch is asked anything
//! about CUDA: asked first, libtorch would remember for the life of the process that there is none.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Version of libtorch that this crate is built for; the build script refuses any other.
pub const LIBTORCH_VERSION: &str = env!("METAREWARD_LIBTORCH_VERSION");

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Whether GPUs can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuda {
    /// Yes.
    Ready {
        /// Number of GPUs.
        devices: usize,
    },
    /// The machine has no NVIDIA device node.
    NoDevice,
    /// There is a GPU, but libtorch's CUDA part is not beside the CPU part.
    NoLibrary {
        /// Folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// libtorch's CUDA part is there and does not load.
    Failed {
        /// The file.
        file: PathBuf,
        /// What the loader said.
        message: String,
    },
}

impl fmt::Display for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cuda::Ready { devices } => write!(f, "{devices} GPU(s)"),
            Cuda::NoDevice => f.write_str("no NVIDIA device on this machine"),
            Cuda::NoLibrary { searched } => {
                write!(f, "{CUDA_LIBRARY} is not in ")?;
                for (index, folder) in searched.iter().enumerate() {
                    let comma = if index > 0 { " or " } else { "" };
                    write!(f, "{comma}{}", folder.display())?;
                }
                Ok(())
            }
            Cuda::Failed { file, message } => write!(f, "{} does not load: {message}", file.display()),
        }
    }
}

/// What is known of the libtorch in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibtorchInfo {
    /// Version that the program was built for.
    pub version: &'static str,
    /// Folder of `libtorch_cpu.so`; `None` where the system does not tell.
    pub folder: Option<PathBuf>,
    /// GPUs.
    pub cuda: Cuda,
    /// Threads that one operation uses.
    pub threads: usize,
}

/// What is known of the libtorch in this process, for people to read.
pub fn libtorch_info() -> LibtorchInfo {
    LibtorchInfo {
        version: LIBTORCH_VERSION,
        folder: cpu_library().and_then(|file| file.parent().map(Path::to_owned)),
        cuda: cuda().clone(),
        threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
    }
}

/// Whether GPUs can be used. The first call loads libtorch's CUDA part (0.2 s); later calls return the same answer.
pub fn cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(load_cuda)
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What no process holds.
    pub free: u64,
    /// What the device has.
    pub total: u64,
}

/// Memory of a GPU that is in use by this process; `None` on a CPU and where the CUDA runtime does not say.
pub fn device_memory(device: tch::Device) -> Option<DeviceMemory> {
    let tch::Device::Cuda(index) = device else { return None };
    let Cuda::Ready { .. } = cuda() else { return None };
    cuda_memory(index)
}

#[cfg(target_os = "linux")]
fn cuda_memory(index: usize) -> Option<DeviceMemory> {
    use libloading::os::unix::Library;

    type SetDevice = unsafe extern "C" fn(std::ffi::c_int) -> std::ffi::c_int;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> std::ffi::c_int;
    let this = Library::this();
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: libtorch_cuda brought the CUDA runtime along and is never unloaded, and these are its documented signatures.
    // The device is one that libtorch uses in this process.
    let failed = unsafe {
        let set = this.get::<SetDevice>(b"cudaSetDevice\0").ok()?;
        let info = this.get::<MemGetInfo>(b"cudaMemGetInfo\0").ok()?;
        set(std::ffi::c_int::try_from(index).ok()?) != 0 || info(&raw mut free, &raw mut total) != 0
    };
    if failed { None } else { Some(DeviceMemory { free: free as u64, total: total as u64 }) }
}

#[cfg(not(target_os = "linux"))]
fn cuda_memory(_: usize) -> Option<DeviceMemory> {
    None
}

/// The file of libtorch's CPU part, as mapped into this process.
fn cpu_library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Some(PathBuf::from(&line[line.find('/')?..]))
}

/// Folders in which libtorch's CUDA part may lie: beside the CPU part (links followed), in `LIBTORCH`, and in the
/// Python environment that is active.
fn cuda_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = cpu_library().and_then(|file| file.parent().map(Path::to_owned)) {
        folders.push(folder);
    }
    if let Some(root) = std::env::var_os("LIBTORCH") {
        folders.push(Path::new(&root).join("lib"));
    }
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        let Some(root) = std::env::var_os(variable) else { continue };
        let Ok(entries) = fs::read_dir(Path::new(&root).join("lib")) else { continue };
        let mut found: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path().join("site-packages/torch/lib")).collect();
        found.retain(|folder| folder.is_dir());
        found.sort();
        folders.extend(found);
    }
    folders.dedup();
    folders
}

#[cfg(target_os = "linux")]
fn load_cuda() -> Cuda {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    if !Path::new("/dev/nvidiactl").exists() && !Path::new("/dev/dxg").exists() {
        return Cuda::NoDevice;
    }
    let searched = cuda_folders();
    let Some(file) = searched.iter().map(|folder| folder.join(CUDA_LIBRARY)).find(|file| file.is_file()) else {
        return Cuda::NoLibrary { searched };
    };
    // SAFETY: libtorch_cuda's initialisers register its kernels with the libtorch_cpu that is already loaded. It is a
    // part of the same build of libtorch when it lies beside it, and nothing has queried CUDA yet: `cuda()` runs this
    // once, and every use of a GPU in this crate goes through `DeviceChoice::resolve`, which calls it.
    match unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // Never unloaded: libtorch holds pointers into it.
            std::mem::forget(library);
            Cuda::Ready { devices: usize::try_from(tch::Cuda::device_count()).unwrap_or(0) }
        }
        Err(error) => Cuda::Failed { file, message: error.to_string() },
    }
}

#[cfg(not(target_os = "linux"))]
fn load_cuda() -> Cuda {
    Cuda::NoDevice
}
