//! The secret that a server wants to see.

use std::{fmt, fs, path::Path};

use crate::RemoteError;

/// A key. It is sent in the header and shows up nowhere else: not in [`fmt::Debug`], records, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key in an environment variable; `None` where the variable is not set or empty.
    ///
    /// # Errors
    /// When it holds what no header can carry. The message does not show it.
    pub fn from_variable(variable: &str) -> Result<Option<Key>, RemoteError> {
        match std::env::var_os(variable) {
            None => Ok(None),
            Some(value) => Key::checked(&value.to_string_lossy(), &format!("the variable {variable}")),
        }
    }

    /// The key in a file, which holds nothing else.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or holds what no header can carry.
    pub fn from_file(path: &Path) -> Result<Key, RemoteError> {
        let place = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| RemoteError::Key { place: place.clone(), message: format!("cannot be read: {error}") })?;
        Key::checked(&text, &place)?.ok_or(RemoteError::Key { place, message: "holds no key".to_owned() })
    }

    fn checked(text: &str, place: &str) -> Result<Option<Key>, RemoteError> {
        let text = text.trim();
        if !text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            let message = "holds characters that a key cannot have; it must be one word of ASCII".to_owned();
            return Err(RemoteError::Key { place: place.to_owned(), message });
        }
        Ok((!text.is_empty()).then(|| Key(text.to_owned())))
    }

    /// The value of the header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` without the key: a server may repeat it in a message.
    pub(crate) fn hide(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "sk-secret\n").unwrap();
        let key = Key::from_file(&path).unwrap();
        assert_eq!(key.bearer(), "Bearer sk-secret");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "Key(…) Some(Key(…))");
        assert_eq!(key.hide("no sk-secret here"), "no … here");
        for wrong in ["", "two words", "línea"] {
            fs::write(&path, wrong).unwrap();
            let error = Key::from_file(&path).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
