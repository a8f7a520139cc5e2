//! Compiled components on disk. They are native code: only what this program wrote is loaded.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use crate::file::{PluginFile, sha256};

/// Length of the hash in front of the code.
const HASH: usize = 32;

/// The component from the cache, or compiled and put there. A cache that cannot be used is a warning, never an error.
pub(super) fn compiled(engine: &Engine, file: &PluginFile, folder: Option<&Path>) -> wasmtime::Result<Component> {
    let Some(folder) = folder else { return Component::from_binary(engine, &file.bytes) };
    let entry = folder.join(name(engine, file));
    if let Some(component) = read(engine, folder, &entry) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, &file.bytes)?;
    match component.serialize() {
        Ok(code) => {
            if let Err(error) = write(folder, &entry, &code) {
                tracing::warn!(folder = %folder.display(), %error, "compiled components cannot be kept");
            }
        }
        Err(error) => tracing::warn!(%error, "a compiled component cannot be kept"),
    }
    Ok(component)
}

/// The component's hash, and the hash of wasmtime's version, its settings and this processor's features.
fn name(engine: &Engine, file: &PluginFile) -> String {
    struct Sum(Sha256);
    impl std::hash::Hasher for Sum {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sum = Sum(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut sum);
    let settings = sha256(&sum.0.finalize());
    format!("{}-{}.cwasm", file.sha256, settings.get(..16).unwrap_or(&settings))
}

/// The entry, where folder and file are this user's alone and the code is what was written.
fn read(engine: &Engine, folder: &Path, entry: &Path) -> Option<Component> {
    if !(private(folder) && private(entry)) {
        return None;
    }
    let bytes = fs::read(entry).ok()?;
    let (hash, code) = bytes.split_at_checked(HASH)?;
    if Sha256::digest(code).as_slice() != hash {
        return None;
    }
    // SAFETY: the entry was written by `write`: nobody else may write to the folder or to the file, and the hash says
    // that it is whole. wasmtime itself checks version and settings.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Whether this user owns it and nobody else may write to it.
#[cfg(unix)]
fn private(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let me = fs::metadata("/proc/self").map(|me| me.uid());
    match (fs::symlink_metadata(path), me) {
        (Ok(found), Ok(me)) => found.uid() == me && found.mode() & 0o022 == 0 && !found.is_symlink(),
        _ => false,
    }
}

/// Elsewhere nothing is known of it: everything is compiled anew.
#[cfg(not(unix))]
fn private(_: &Path) -> bool {
    false
}

/// Puts the entry there whole or not at all.
fn write(folder: &Path, entry: &Path, code: &[u8]) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let temporary: PathBuf = entry.with_extension(format!("{}.tmp", std::process::id()));
    let mut bytes = Sha256::digest(code).to_vec();
    bytes.extend_from_slice(code);
    fs::write(&temporary, bytes)?;
    #[cfg(unix)]
    fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    fs::rename(&temporary, entry)
}
