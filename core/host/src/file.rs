//! Bytes of a plugin file and their hash.

use std::{fmt::Write as _, fs, path::Path};

use sha2::{Digest, Sha256};

use crate::LoadError;

/// A file as it was when it was read. What is loaded later are these bytes, whatever becomes of the file.
pub(crate) struct PluginFile {
    pub bytes: Vec<u8>,
    pub sha256: String,
}

impl PluginFile {
    /// Reads the file and compares its hash with the one that was asked for.
    pub(crate) fn read(path: &Path, expected: Option<&str>) -> Result<Self, LoadError> {
        let bytes = fs::read(path).map_err(|error| LoadError::Unreadable(error.to_string()))?;
        let sha256 = sha256(&bytes);
        match expected {
            Some(expected) if !expected.trim().eq_ignore_ascii_case(&sha256) => {
                Err(LoadError::OtherHash { expected: expected.trim().to_owned(), found: sha256 })
            }
            _ => Ok(Self { bytes, sha256 }),
        }
    }
}

/// sha256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// sha256 of a file, in hexadecimal: what a config pins.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_file(path: &Path) -> Result<String, LoadError> {
    Ok(PluginFile::read(path, None)?.sha256)
}
