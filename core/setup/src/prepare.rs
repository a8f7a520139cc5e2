//! Set-up itself: find libtorch or fetch it, make the layout, add the wasm targets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::layout::Layout;
use crate::locate::{Libtorch, Origin, Rejected, examine, locate};
use crate::machine::{Environment, wasm_targets};
use crate::wheels;

/// What is asked of set-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// A libtorch with CUDA.
    pub cuda: bool,
    /// This libtorch and no other.
    pub libtorch: Option<PathBuf>,
}

/// Sees to it that `.libtorch` in the checkout at `root` holds a libtorch 2.11, and returns it. What is there already is
/// kept. Otherwise the first of: the one wished for, `LIBTORCH`, a Python environment's, wheels. `say` is told what
/// happens, in sentences.
///
/// # Errors
/// See [`Error`]. After an error, and after a kill at any point, the next call starts over with what was whole.
pub fn prepare(
    root: &Path,
    environment: &Environment,
    wishes: &Wishes,
    say: &mut dyn FnMut(&str),
) -> Result<Libtorch, Error> {
    let layout = Layout::new(root);
    fs::create_dir_all(layout.own()).map_err(Error::io("make", layout.own()))?;
    let _lock = lock(layout.own(), say)?;
    layout.sweep()?;

    if let Some(folder) = &wishes.libtorch {
        let unusable = |why| Error::Unusable { path: folder.clone(), why };
        let libtorch = examine(folder, Origin::Given).map_err(unusable)?;
        if wishes.cuda && libtorch.cuda_library.is_none() {
            return Err(unusable("it has no CUDA that can be loaded".into()));
        }
        return adopt(&layout, &libtorch, say);
    }
    match layout.current() {
        Ok(libtorch) if !wishes.cuda || libtorch.cuda_library.is_some() => {
            layout.record(&libtorch)?;
            return Ok(libtorch);
        }
        Ok(_) => say("the libtorch in .libtorch has no CUDA"),
        Err(why) if layout.torch().exists() => say(&format!("the libtorch in .libtorch cannot be used: {why}")),
        Err(_) => {}
    }

    let found = locate(environment, layout.own(), wishes.cuda);
    for Rejected { folder, why } in &found.rejected {
        say(&format!("passing over {}: {why}", folder.display()));
    }
    if let Some(libtorch) = found.libtorch {
        match adopt(&layout, &libtorch, say) {
            Err(Error::Unusable { path, why }) => say(&format!("passing over {}: {why}", path.display())),
            outcome => return outcome,
        }
    }
    let torch = layout.wheels().join("torch");
    let whole = |libtorch: &Libtorch| !wishes.cuda || libtorch.cuda_library.is_some();
    let wheels = match examine(&torch, Origin::Wheels).ok().filter(whole) {
        Some(libtorch) => libtorch,
        None => {
            wheels::fetch(&layout, environment, wishes.cuda, say)?;
            examine(&torch, Origin::Wheels).map_err(|why| Error::Unusable { path: torch, why })?
        }
    };
    adopt(&layout, &wheels, say)
}

/// Makes the layout for a libtorch.
fn adopt(layout: &Layout, libtorch: &Libtorch, say: &mut dyn FnMut(&str)) -> Result<Libtorch, Error> {
    layout.link(libtorch)?;
    layout.record(libtorch)?;
    let cuda = if libtorch.cuda_library.is_some() { ", with CUDA" } else { "" };
    say(&format!("using libtorch {} in {}{cuda}", libtorch.version, libtorch.folder.display()));
    Ok(libtorch.clone())
}

/// One set-up at a time. The lock ends with the file handle, so a killed set-up leaves none.
fn lock(own: &Path, say: &mut dyn FnMut(&str)) -> Result<File, Error> {
    let path = own.join("lock");
    let file = File::create(&path).map_err(Error::io("make", &path))?;
    if file.try_lock().is_err() {
        say("another set-up is running; waiting for it");
        file.lock().map_err(Error::io("lock", &path))?;
    }
    Ok(file)
}

/// Adds the wasm targets with rustup where they are missing. They are needed for plugins only, so what cannot be added is
/// said and is no error.
pub fn add_wasm_targets(root: &Path, say: &mut dyn FnMut(&str)) {
    let targets = wasm_targets(root).into_iter().filter(|(_, installed)| !installed);
    let missing: Vec<&str> = targets.map(|(target, _)| target).collect();
    if missing.is_empty() {
        return;
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add"]).args(&missing).current_dir(root).stdin(Stdio::null());
    let note = "needed only to build WASM plugins";
    match command.output() {
        Ok(output) if output.status.success() => say(&format!("added the targets {}", missing.join(" and "))),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or("no reason given").to_string();
            say(&format!("could not add the targets {} ({note}): {last}", missing.join(" and ")));
        }
        Err(_) => say(&format!("no rustup here to add the targets {} ({note})", missing.join(" and "))),
    }
}
