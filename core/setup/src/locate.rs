//! Looks for a libtorch 2.11 that is already on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::linker;
use crate::machine::{Environment, output_of};
use crate::version::{Version, WANTED};

/// How a libtorch came to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user said where: `LIBTORCH`, or `cargo setup --libtorch`.
    Given,
    /// The torch of a Python environment.
    Python,
    /// Wheels that set-up fetched.
    Wheels,
}

impl Origin {
    /// A word for it, as in `found.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Given => "given",
            Origin::Python => "python",
            Origin::Wheels => "wheels",
        }
    }
}

/// A libtorch that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// How it came to be used.
    pub origin: Origin,
    /// The folder that holds `include/` and `lib/`.
    pub folder: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its `libtorch_cuda.so`; `None` for a libtorch without CUDA, or without the libraries that CUDA needs.
    pub cuda_library: Option<PathBuf>,
}

/// A folder that was looked at and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The folder.
    pub folder: PathBuf,
    /// Why it cannot be used.
    pub why: String,
}

/// What was found, and what was passed over on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first that can be used.
    pub libtorch: Option<Libtorch>,
    /// Those before it that cannot.
    pub rejected: Vec<Rejected>,
}

/// Looks at `LIBTORCH`, then at the torch of each Python environment. `own` is the folder that set-up itself makes
/// (`.libtorch`): what points into it is no find. With `cuda`, one without CUDA will not do.
pub fn locate(environment: &Environment, own: &Path, cuda: bool) -> Found {
    let mut found = Found::default();
    let given = environment.libtorch.iter().map(|folder| (Origin::Given, folder.clone()));
    let python = pythons(environment).into_iter().filter_map(|python| torch_of(&python, own));
    for (origin, folder) in given.chain(python.map(|folder| (Origin::Python, folder))) {
        if is_within(&folder, own) || found.rejected.iter().any(|seen| seen.folder == folder) {
            continue;
        }
        match examine(&folder, origin) {
            Ok(libtorch) if cuda && libtorch.cuda_library.is_none() => {
                found.rejected.push(Rejected { folder, why: "it has no CUDA that can be loaded".into() });
            }
            Ok(libtorch) => {
                found.libtorch = Some(libtorch);
                break;
            }
            Err(why) => found.rejected.push(Rejected { folder, why }),
        }
    }
    found
}

/// Looks at one folder. The error says why it cannot be used.
pub fn examine(folder: &Path, origin: Origin) -> Result<Libtorch, String> {
    if !folder.is_dir() {
        return Err("no such folder".into());
    }
    let Some(version) = Version::of(folder) else {
        return Err("it has no header that names a version (include/torch/…/version.h)".into());
    };
    if !version.is_wanted() {
        return Err(format!("its version is {version}, and {}.{} is needed", WANTED.0, WANTED.1));
    }
    let library = folder.join("lib").join(linker::library("torch_cpu"));
    if !library.is_file() {
        return Err(format!("{} is missing", library.display()));
    }
    let missing = linker::missing(&library);
    if !missing.is_empty() {
        return Err(format!("its library needs {}, which the loader does not find", missing.join(", ")));
    }
    let cuda = library.with_file_name(linker::library("torch_cuda"));
    let real = library.canonicalize().ok().map(|file| file.with_file_name(linker::library("torch_cuda")));
    let usable = |file: &PathBuf| file.is_file() && linker::missing(file).is_empty();
    let cuda_library = [Some(cuda), real].into_iter().flatten().find(usable);
    Ok(Libtorch { origin, folder: folder.to_path_buf(), version, cuda_library })
}

/// Python programs to ask, in order: the environment in use, then those on `PATH`.
pub fn pythons(environment: &Environment) -> Vec<PathBuf> {
    let active = [&environment.virtual_env, &environment.conda_prefix].into_iter().flatten();
    let active = active.map(|folder| folder.join("bin/python")).filter(|file| file.is_file());
    let mut pythons: Vec<PathBuf> = Vec::new();
    for python in active.chain(["python3", "python"].iter().filter_map(|name| environment.program(name))) {
        if !pythons.contains(&python) {
            pythons.push(python);
        }
    }
    pythons
}

/// The folder of a Python's torch. Its import system is asked where, and torch is not imported: that takes seconds.
fn torch_of(python: &Path, own: &Path) -> Option<PathBuf> {
    const ASK: &str = "import importlib.util as u\ns = u.find_spec('torch')\n\
                       print(list(s.submodule_search_locations)[0] if s and s.origin else '')";
    let mut command = Command::new(python);
    command.args(["-c", ASK]);
    // With -c the current folder is on Python's search path: the one above `.libtorch` has no folder named torch.
    if let Some(root) = own.parent().filter(|root| root.is_dir()) {
        command.current_dir(root);
    }
    let folder = output_of(&mut command)?.trim().to_string();
    (!folder.is_empty()).then(|| PathBuf::from(folder))
}

/// Whether `folder` is `own` or lies in it, links not followed.
fn is_within(folder: &Path, own: &Path) -> bool {
    let plain = |path: &Path| {
        let mut parts = PathBuf::new();
        for part in std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).components() {
            match part {
                std::path::Component::ParentDir => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        parts
    };
    plain(folder).starts_with(plain(own))
}
