//! Fetches libtorch as wheels with pip, and unpacks what is needed of them.
//!
//! The wheels are not installed: pip downloads them, and only headers and libraries are unpacked. So any Python 3
//! with pip will do, whatever its version, and no environment is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::layout::{Layout, remove};
use crate::locate::pythons;
use crate::machine::{Environment, OLDEST_GLIBC, free_disk, glibc, system};

/// The wheel that holds libtorch.
const TORCH: &str = "torch==2.11.0";

/// What `libtorch_cpu.so` of that wheel needs to load, even where no CUDA is used.
const FOR_CPU: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// Disk space for the download, pip's own copy of it and what is unpacked.
const DISK_FOR_CPU: u64 = 2 << 30;
/// The same with all of CUDA.
const DISK_FOR_CUDA: u64 = 11 << 30;

/// One set of tags on every machine, whatever Python runs pip: the libraries in the wheels are the same for all. pip
/// takes a platform to the letter, so every one up to the glibc of the torch wheel is named.
fn tags() -> Vec<String> {
    let mut tags = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"].map(String::from).to_vec();
    tags.push("--platform=manylinux2014_x86_64".into());
    tags.extend((5..=OLDEST_GLIBC.1).map(|minor| format!("--platform=manylinux_2_{minor}_x86_64")));
    tags
}

/// Unpacks members of a wheel by their first letters. Arguments: wheel, folder, beginnings.
const UNPACK: &str = "import sys, zipfile\n\
    wheel, folder, *beginnings = sys.argv[1:]\n\
    with zipfile.ZipFile(wheel) as z:\n    \
    z.extractall(folder, [n for n in z.namelist() if n.startswith(tuple(beginnings))])";

/// Fetches the wheels into `layout.wheels()`: for the CPU only, or with all of CUDA. They appear there whole or not at
/// all. `say` is told what happens.
///
/// # Errors
/// No wheels for this system, no Python with pip, no network, not enough disk.
pub(crate) fn fetch(
    layout: &Layout,
    environment: &Environment,
    cuda: bool,
    say: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    check_system()?;
    let python = python_with_pip(environment)?;
    let needed = if cuda { DISK_FOR_CUDA } else { DISK_FOR_CPU };
    if let Some(free) = free_disk(layout.own()).filter(|free| *free < needed) {
        return Err(Error::Disk { path: layout.own().to_path_buf(), needed, free });
    }
    let size = if cuda { "about 2.7 GB with CUDA" } else { "about 550 MB" };
    say(&format!("fetching libtorch 2.11 with {} ({size})", python.display()));

    let outcome = fetch_into(layout, &python, cuda, say);
    // After a failure too: the downloads are large, and pip keeps its own copies.
    remove(&layout.partial())?;
    outcome
}

/// Downloads and unpacks in `layout.partial()`, then moves the result to its place.
fn fetch_into(layout: &Layout, python: &Path, cuda: bool, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let partial = layout.partial();
    remove(&partial)?;
    let (downloads, unpacked) = (partial.join("downloads"), partial.join("unpacked"));
    for folder in [&downloads, &unpacked, &partial.join("tmp")] {
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    }
    let pip = Pip { python, downloads: &downloads, tmp: partial.join("tmp") };
    pip.download(&["--no-deps", TORCH])?;
    let torch = wheels(&downloads)?;
    let libraries: &[&str] =
        if cuda { &["torch/lib/"] } else { &["torch/lib/libc10.so", "torch/lib/libtorch_cpu.so", "torch/lib/libgomp"] };
    for wheel in &torch {
        say("unpacking libtorch");
        pip.unpack(wheel, &unpacked, &[&["torch/include/", "torch/version.py", "torch-"], libraries].concat())?;
    }
    if cuda {
        let metadata = read_metadata(&unpacked)?;
        let requirements = cuda_requirements(&metadata);
        pip.download(&requirements.iter().map(String::as_str).collect::<Vec<_>>())?;
    } else {
        pip.download(&[&["--no-deps"][..], &FOR_CPU].concat())?;
    }
    say("unpacking the CUDA libraries that it needs");
    for wheel in wheels(&downloads)?.iter().filter(|wheel| !torch.contains(wheel)) {
        pip.unpack(wheel, &unpacked, &["nvidia"])?;
    }

    let wheels = layout.wheels();
    if wheels.exists() {
        let old = partial.join("old");
        fs::rename(&wheels, &old).map_err(Error::io("move", &wheels))?;
    }
    fs::rename(&unpacked, &wheels).map_err(Error::io("write", &wheels))
}

/// Whether the wheels can work here.
fn check_system() -> Result<(), Error> {
    if !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) {
        return Err(Error::NoWheels { system: system() });
    }
    match glibc() {
        Some(version) if version >= OLDEST_GLIBC => Ok(()),
        Some((major, minor)) => Err(Error::NoWheels { system: format!("{} with glibc {major}.{minor}", system()) }),
        None => Err(Error::NoWheels { system: format!("{} without glibc", system()) }),
    }
}

/// The first Python with a working pip.
pub(crate) fn python_with_pip(environment: &Environment) -> Result<PathBuf, Error> {
    let mut tried = Vec::new();
    for python in pythons(environment) {
        let output = Command::new(&python).args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => return Ok(python),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                tried.push(format!("{}: {}", python.display(), said.trim().lines().last().unwrap_or("pip failed")));
            }
            Err(error) => tried.push(format!("{}: {error}", python.display())),
        }
    }
    if tried.is_empty() {
        tried.push("python3 and python are not on PATH".into());
    }
    Err(Error::NoPip { tried })
}

/// pip, as far as it is needed here.
struct Pip<'a> {
    python: &'a Path,
    downloads: &'a Path,
    tmp: PathBuf,
}

impl Pip<'_> {
    /// Downloads wheels. Its progress goes to standard error.
    fn download(&self, what: &[&str]) -> Result<(), Error> {
        let mut command = Command::new(self.python);
        command.args(["-m", "pip", "download", "--dest"]).arg(self.downloads).args(tags()).args(what);
        // The system's own temporary folder is often too small for half a gigabyte.
        command.env("TMPDIR", &self.tmp).stdin(Stdio::null()).stdout(std::io::stderr());
        let output = command
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .map_err(|source| Error::Start { program: self.python.display().to_string(), source })?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failure(&String::from_utf8_lossy(&output.stderr), self.downloads))
        }
    }

    fn unpack(&self, wheel: &Path, folder: &Path, beginnings: &[&str]) -> Result<(), Error> {
        let mut command = Command::new(self.python);
        command.args(["-c", UNPACK]).arg(wheel).arg(folder).args(beginnings);
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::Start { program: self.python.display().to_string(), source })?;
        if output.status.success() { Ok(()) } else { Err(failure(&String::from_utf8_lossy(&output.stderr), folder)) }
    }
}

/// What a failed pip meant, by what it said.
fn failure(said: &str, folder: &Path) -> Error {
    const NETWORK: [&str; 6] = [
        "NewConnectionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "NameResolutionError",
        "Temporary failure in name resolution",
        "ProxyError",
    ];
    let lines: Vec<&str> = said.trim().lines().collect();
    let last = lines[lines.len().saturating_sub(6)..].join("\n");
    if said.contains("No space left on device") {
        let free = free_disk(folder).unwrap_or(0);
        return Error::Disk { path: folder.to_path_buf(), needed: DISK_FOR_CPU.max(free + 1), free };
    }
    if NETWORK.iter().any(|sign| said.contains(sign)) {
        return Error::NoNetwork { said: last };
    }
    Error::Pip { said: last }
}

/// The wheels in a folder, by name.
fn wheels(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut wheels = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    wheels.sort();
    Ok(wheels)
}

/// The `METADATA` of the unpacked torch wheel.
fn read_metadata(unpacked: &Path) -> Result<String, Error> {
    let file = unpacked.join(format!("{}.dist-info/METADATA", TORCH.replace("==", "-")));
    fs::read_to_string(&file).map_err(Error::io("read", &file))
}

/// What a torch wheel requires of CUDA, as pip takes it. A wheel's `METADATA` names the nvidia packages and, since CUDA
/// 13, a package `cuda-toolkit` that stands for most of them; pip follows what these require in turn.
pub fn cuda_requirements(metadata: &str) -> Vec<String> {
    let header = metadata.split("\n\n").next().unwrap_or_default();
    let required = header.lines().filter_map(|line| line.strip_prefix("Requires-Dist:"));
    required
        .filter_map(|line| {
            let (requirement, marker) = line.split_once(';').unwrap_or((line, ""));
            let requirement = requirement.trim();
            let of_cuda = requirement.starts_with("nvidia-") || requirement.starts_with("cuda-toolkit");
            (of_cuda && !marker.contains("extra")).then(|| requirement.replace(' ', ""))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_a_cuda_13_wheel() {
        let metadata = "Metadata-Version: 2.4\nName: torch\nRequires-Dist: filelock\n\
            Requires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; platform_system == \"Linux\"\n\
            Requires-Dist: cuda-bindings<14,>=13.0.3; platform_system == \"Linux\"\n\
            Requires-Dist: nvidia-nccl-cu13 ==2.28.9; platform_system == \"Linux\"\n\
            Requires-Dist: nvidia-extra==1; extra == \"more\"\nRequires-Dist: triton==3.6.0\n\n\
            Requires-Dist: nvidia-in-the-description==1\n";
        assert_eq!(cuda_requirements(metadata), ["cuda-toolkit[cublas,cudart]==13.0.2", "nvidia-nccl-cu13==2.28.9"]);
    }

    #[test]
    fn metadata_without_cuda() {
        assert_eq!(cuda_requirements("Name: torch\nRequires-Dist: filelock\n"), Vec::<String>::new());
        assert_eq!(cuda_requirements(""), Vec::<String>::new());
    }

    #[test]
    fn a_failure_is_told_by_what_pip_said() {
        let folder = Path::new("/");
        let network =
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\nERROR: No matching distribution";
        assert!(matches!(failure(network, folder), Error::NoNetwork { .. }));
        assert!(matches!(failure("OSError: [Errno 28] No space left on device", folder), Error::Disk { .. }));
        assert!(matches!(failure("ERROR: No matching distribution found", folder), Error::Pip { .. }));
        assert!(matches!(failure("", folder), Error::Pip { .. }));
    }
}
