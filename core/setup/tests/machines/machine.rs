//! A machine made of files: fake libtorch folders and a Python that is a shell script.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use metareward_setup::Environment;

/// A machine in a temporary folder.
pub struct Machine {
    pub folder: tempfile::TempDir,
}

impl Machine {
    /// A machine with a checkout, the usual programs and no Python.
    pub fn new() -> Machine {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(machine.root().join("core/setup")).unwrap();
        fs::create_dir_all(machine.path("bin")).unwrap();
        for name in ["sh", "bash", "df", "ldd", "getconf", "cp", "cat", "sleep", "touch"] {
            if let Some(program) = Environment::of_process().program(name) {
                symlink(program, machine.path("bin").join(name)).unwrap();
            }
        }
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The checkout.
    pub fn root(&self) -> PathBuf {
        self.path("checkout")
    }

    /// Only this machine's programs are on the path.
    pub fn environment(&self) -> Environment {
        Environment { path: self.path("bin").into_os_string(), ..Environment::default() }
    }

    /// Writes a libtorch of some version.
    pub fn libtorch(&self, name: &str, minor: u32) -> PathBuf {
        let folder = self.path(name);
        write_libtorch(&folder, minor);
        folder
    }

    /// Writes a Python whose torch is in `torch`, or that has none. Its pip answers with `pip`, shell commands that find
    /// the folder for downloads in `$dest` and their own arguments in `$*`.
    pub fn python(&self, bin: &str, torch: Option<&Path>, pip: &str) {
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n*find_spec*) echo '{}' ;;\n'-m pip --version') {} ;;\n\
             '-m pip download'*) dest=$5; {pip} ;;\n*) exec '{}' \"$@\" ;;\nesac\n",
            torch.map_or(String::new(), |folder| folder.display().to_string()),
            if pip.is_empty() { "echo 'No module named pip' >&2; exit 1" } else { "echo pip" },
            real_python().unwrap_or_default().display(),
        );
        fs::create_dir_all(self.path(bin)).unwrap();
        for name in ["python", "python3"] {
            let file = self.path(bin).join(name);
            fs::write(&file, &script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

/// The Python of the machine that runs the test. What is on the path may be a wrapper that needs its environment.
pub fn real_python() -> Option<PathBuf> {
    let ask = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    ask.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&ask.stdout).trim()))
}

fn write_libtorch(folder: &Path, minor: u32) {
    let headers = folder.join("include/torch/headeronly");
    fs::create_dir_all(&headers).unwrap();
    fs::create_dir_all(folder.join("lib")).unwrap();
    let version =
        format!("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH 0\n");
    fs::write(headers.join("version.h"), version).unwrap();
    for name in
        ["libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libtorch_cuda.so", "libtorch_python.so"]
    {
        fs::write(folder.join("lib").join(name), name).unwrap();
    }
}
