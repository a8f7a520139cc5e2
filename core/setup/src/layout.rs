//! The folder `.libtorch` in the checkout: one place where every build finds libtorch, whatever its origin.
//!
//! ```text
//! .libtorch/
//!   torch/include      → the headers
//!   torch/lib/…        → libtorch_cpu, libc10 and what they need; libtorch.so is a linker script
//!   nvidia             → CUDA libraries, where the loader looks for them: ../../nvidia seen from torch/lib
//!   wheels/            the unpacked wheels, if set-up fetched them
//!   cargo.toml         settings that .cargo/config.toml includes
//!   found.json         what was found and where
//! ```
//!
//! `torch/lib` has no `libtorch_cuda.so` on purpose. With one, the bindings would link it, and the binary would not
//! start on a machine without CUDA. The program opens it at start instead, from the real folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::linker;
use crate::locate::{Libtorch, Origin, examine};

/// Paths of the folder `.libtorch` of a checkout.
#[derive(Clone, Debug)]
pub struct Layout {
    own: PathBuf,
}

impl Layout {
    /// The layout of the checkout at `root`. Nothing is made yet.
    pub fn new(root: &Path) -> Layout {
        Layout { own: root.join(".libtorch") }
    }

    /// `.libtorch`.
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// The folder that `LIBTORCH` points at.
    pub fn torch(&self) -> PathBuf {
        self.own.join("torch")
    }

    /// Where wheels are unpacked.
    pub fn wheels(&self) -> PathBuf {
        self.own.join("wheels")
    }

    /// What an unfinished set-up leaves behind. Nothing in it is ever used.
    pub fn partial(&self) -> PathBuf {
        self.own.join("partial")
    }

    fn torch_new(&self) -> PathBuf {
        self.own.join("torch.new")
    }

    /// The settings that `.cargo/config.toml` includes.
    pub fn cargo_toml(&self) -> PathBuf {
        self.own.join("cargo.toml")
    }

    /// What was found, for people and programs.
    pub fn found_json(&self) -> PathBuf {
        self.own.join("found.json")
    }

    /// The libtorch that is set up. The error says what is wrong with it.
    pub fn current(&self) -> Result<Libtorch, String> {
        let mut libtorch = examine(&self.torch(), Origin::Given)?;
        let headers = self.torch().join("include").canonicalize().map_err(|error| error.to_string())?;
        libtorch.folder = headers.parent().map_or_else(|| self.torch(), Path::to_path_buf);
        let recorded = fs::read_to_string(self.found_json()).unwrap_or_default();
        let wheels = self.wheels().canonicalize().is_ok_and(|wheels| headers.starts_with(wheels));
        if wheels {
            libtorch.origin = Origin::Wheels;
        } else if recorded.contains("\"origin\": \"python\"") {
            libtorch.origin = Origin::Python;
        }
        Ok(libtorch)
    }

    /// Removes what an interrupted set-up left.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        for folder in [self.partial(), self.torch_new()] {
            remove(&folder)?;
        }
        Ok(())
    }

    /// Makes `torch/` and `nvidia` point at `libtorch`. A set-up that dies in here leaves the old links or the new ones.
    pub(crate) fn link(&self, libtorch: &Libtorch) -> Result<(), Error> {
        fs::create_dir_all(&self.own).map_err(Error::io("make", &self.own))?;
        // Links into our own wheels are relative, so that a checkout can be moved.
        let (up, up_twice) = match libtorch.origin {
            Origin::Wheels => (PathBuf::from("../wheels/torch"), PathBuf::from("../../wheels/torch")),
            Origin::Given | Origin::Python => {
                let folder = std::path::absolute(&libtorch.folder).map_err(Error::io("find", &libtorch.folder))?;
                (folder.clone(), folder)
            }
        };
        self.link_nvidia(libtorch)?;

        let new = self.torch_new();
        remove(&new)?;
        // `torch.new` stands as deep as `torch`, so links and the loader's relative paths hold before and after.
        let lib = new.join("lib");
        fs::create_dir_all(&lib).map_err(Error::io("make", &lib))?;
        symlink(&up.join("include"), &new.join("include"))?;
        let real = libtorch.folder.join("lib");
        for name in libraries(&real)? {
            symlink(&up_twice.join("lib").join(&name), &lib.join(&name))?;
        }
        // The linker is asked for `-ltorch`. The real one would pull CUDA in where there is CUDA.
        if cfg!(target_os = "linux") {
            write(&lib.join("libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
        }
        // Some builds (conda's) keep what libtorch needs in places that the loader reaches only from the real folder.
        let cpu = linker::library("torch_cpu");
        if !linker::missing(&lib.join(&cpu)).is_empty() {
            for (name, path) in linker::companions(&real.join(&cpu)) {
                if !lib.join(&name).exists() {
                    symlink(&path, &lib.join(&name))?;
                }
            }
        }
        let missing = linker::missing(&lib.join(&cpu));
        if !missing.is_empty() {
            remove(&new)?;
            let why = format!("linked, it does not find {}", missing.join(", "));
            return Err(Error::Unusable { path: libtorch.folder.clone(), why });
        }
        let torch = self.torch();
        remove(&torch)?;
        fs::rename(&new, &torch).map_err(Error::io("write", &torch))
    }

    /// `nvidia`: beside the torch folder in a Python environment and in our wheels.
    fn link_nvidia(&self, libtorch: &Libtorch) -> Result<(), Error> {
        let target = match libtorch.origin {
            Origin::Wheels => PathBuf::from("wheels/nvidia"),
            Origin::Given | Origin::Python => {
                let folder = libtorch.folder.canonicalize().map_err(Error::io("find", &libtorch.folder))?;
                folder.with_file_name("nvidia")
            }
        };
        let link = self.own.join("nvidia");
        remove(&link)?;
        if self.own.join(&target).is_dir() { symlink(&target, &link) } else { Ok(()) }
    }

    /// Writes `cargo.toml` and `found.json`; a file that says the same already is left alone.
    pub(crate) fn record(&self, libtorch: &Libtorch) -> Result<(), Error> {
        write_if_new(&self.cargo_toml(), &self.cargo_settings())?;
        write_if_new(&self.found_json(), &found(libtorch))
    }

    /// From here on plain cargo commands use this folder, even where `LIBTORCH` is exported with another version.
    fn cargo_settings(&self) -> String {
        let torch = self.torch();
        format!(
            "# Written by `cargo setup`. Delete the folder `.libtorch` to have it look for libtorch again.\n[env]\n\
             LIBTORCH = {{ value = {}, force = true }}\n",
            quoted(&torch)
        )
    }
}

/// Names in a libtorch's `lib` folder to link. On Linux three kinds, since the rest is CUDA and Python.
fn libraries(lib: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(lib).map_err(Error::io("read", lib))? {
        let entry = entry.map_err(Error::io("read", lib))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let wanted = if cfg!(target_os = "linux") {
            name == "libc10.so" || name == "libtorch_cpu.so" || name.starts_with("libgomp")
        } else {
            entry.path().is_file()
        };
        if wanted {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What `found.json` holds.
fn found(libtorch: &Libtorch) -> String {
    let cuda = libtorch.cuda_library.as_ref().map_or_else(|| "null".to_string(), |file| quoted(file));
    format!(
        "{{\n  \"version\": \"{}\",\n  \"origin\": \"{}\",\n  \"folder\": {},\n  \"cuda_library\": {cuda}\n}}\n",
        libtorch.version,
        libtorch.origin.as_str(),
        quoted(&libtorch.folder)
    )
}

/// A path in quotation marks, as both JSON and TOML read it.
fn quoted(path: &Path) -> String {
    let mut text = String::from('"');
    for letter in path.to_string_lossy().chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            letter if letter.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}

/// Removes a file, a link or a folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let outcome = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    outcome.map_err(Error::io("remove", path))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io("write", path))
}

/// Writes a file in one step, unless it holds this text already.
fn write_if_new(path: &Path, text: &str) -> Result<(), Error> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let new = path.with_extension("new");
    write(&new, text)?;
    fs::rename(&new, path).map_err(Error::io("write", path))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> Result<(), Error> {
    std::os::unix::fs::symlink(target, link).map_err(Error::io("link", link))
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> Result<(), Error> {
    Err(Error::NoWheels { system: crate::machine::system() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_a_path_may_hold() {
        assert_eq!(quoted(Path::new("/a b/\"c\"\\d\n")), "\"/a b/\\\"c\\\"\\\\d\\u000a\"");
    }

    #[test]
    fn removes_whatever_is_there_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let link = folder.path().join("link");
        symlink(&kept, &link).unwrap();
        remove(&link).unwrap();
        remove(&link).unwrap();
        assert!(kept.join("file").is_file());
        remove(&kept).unwrap();
        assert!(!kept.exists());
    }
}
