//! What `metareward doctor` says about the machine.

use std::path::{Path, PathBuf};

use crate::layout::Layout;
use crate::locate::{Found, Libtorch, Rejected, locate};
use crate::machine::{Environment, free_disk, glibc, system, threads, wasm_targets};
use crate::wheels::python_with_pip;

/// The machine as set-up sees it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Operating system and processor.
    pub system: String,
    /// Version of the GNU C library; `None` on systems with another one.
    pub glibc: Option<(u32, u32)>,
    /// Threads that a process may use at once.
    pub threads: usize,
    /// Free bytes in the current folder.
    pub free_disk: Option<u64>,
    /// The libtorch in use: the one set up in the checkout, else the one that set-up would take.
    pub libtorch: Option<Libtorch>,
    /// Whether it is set up, so that builds find it.
    pub set_up: bool,
    /// Folders that were looked at and cannot be used.
    pub rejected: Vec<Rejected>,
    /// A Python with pip, which fetches wheels.
    pub python: Option<PathBuf>,
    /// Compilation targets for plugins, and whether they are installed.
    pub wasm_targets: Vec<(&'static str, bool)>,
    /// For each thing that is missing, what to do, one sentence each.
    pub advice: Vec<String>,
}

/// Looks at the machine and changes nothing. `root` is the checkout; `None` for a binary that is used without one.
pub fn probe(root: Option<&Path>, environment: &Environment) -> Report {
    let folder = root.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let layout = Layout::new(&folder);
    let current = root.map(|_| layout.current());
    let set_up = matches!(current, Some(Ok(_)));
    let found = match &current {
        Some(Ok(libtorch)) => Found { libtorch: Some(libtorch.clone()), rejected: Vec::new() },
        _ => locate(environment, layout.own(), false),
    };
    let mut report = Report {
        system: system(),
        glibc: glibc(),
        threads: threads(),
        free_disk: free_disk(&folder),
        libtorch: found.libtorch,
        set_up,
        rejected: found.rejected,
        python: python_with_pip(environment).ok(),
        wasm_targets: wasm_targets(&folder),
        advice: Vec::new(),
    };
    if let Some(Err(why)) = current.filter(|_| layout.torch().exists()) {
        report.rejected.push(Rejected { folder: layout.torch(), why });
    }
    report.advice = advice(&report, root.is_some());
    report
}

/// What to do about what is missing.
fn advice(report: &Report, checkout: bool) -> Vec<String> {
    let mut advice = Vec::new();
    match &report.libtorch {
        None if checkout => advice.push("libtorch 2.11 is missing: run `cargo setup`".to_string()),
        None => advice.push("libtorch 2.11 is missing: export LIBTORCH as its folder".to_string()),
        Some(_) if checkout && !report.set_up => {
            advice.push("libtorch 2.11 is there but builds do not find it yet: run `cargo setup`".to_string());
        }
        // NVIDIA's driver makes this node; without it there is no GPU to use.
        Some(libtorch) if libtorch.cuda_library.is_none() && Path::new("/dev/nvidiactl").exists() => {
            advice.push("this machine has a GPU and libtorch has no CUDA: run `cargo setup --cuda`".to_string());
        }
        Some(_) => {}
    }
    if report.libtorch.is_none() && report.python.is_none() {
        advice.push("no Python with pip to fetch libtorch with: install python3-pip".to_string());
    }
    let missing: Vec<&str> =
        report.wasm_targets.iter().filter(|(_, installed)| !installed).map(|(target, _)| *target).collect();
    if checkout && !missing.is_empty() {
        advice.push(format!("to build WASM plugins, run `rustup target add {}`", missing.join(" ")));
    }
    advice
}
