//! Fingerprints: blake3 over canonical JSON, and over the files of a model folder.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::RunError;

/// 64 hexadecimal digits that stand for everything a result depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a JSON value. The order of an object's fields does not matter; every value does.
    pub fn of(value: &Value) -> Self {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, value);
        Self(hasher.finalize().to_hex().to_string())
    }

    /// The fingerprint of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The first 12 digits, as in file names.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Feeds a value in a form in which two different values never look alike: a tag, a length, then the content.
/// serde_json may or may not keep the order of fields, depending on what other crates ask of it, so fields are sorted.
fn feed(hasher: &mut blake3::Hasher, value: &Value) {
    let text = |hasher: &mut blake3::Hasher, tag: u8, text: &str| {
        hasher.update(&[tag]);
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    match value {
        Value::Null => text(hasher, b'n', ""),
        Value::Bool(bool) => text(hasher, b'b', if *bool { "1" } else { "0" }),
        Value::Number(number) => text(hasher, b'#', &number.to_string()),
        Value::String(string) => text(hasher, b's', string),
        Value::Array(items) => {
            text(hasher, b'[', &items.len().to_string());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Object(fields) => {
            text(hasher, b'{', &fields.len().to_string());
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            for (key, value) in sorted {
                text(hasher, b'k', key);
                feed(hasher, value);
            }
        }
    }
}

/// The files of a model folder that decide what the model says, by name, with their sizes in bytes.
///
/// # Errors
/// When the folder cannot be read.
pub fn model_files(folder: &Path) -> Result<BTreeMap<String, u64>, RunError> {
    let failed = |error: &io::Error| RunError::io(folder, error);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let matters = name.ends_with(".safetensors")
            || name.ends_with(".safetensors.index.json")
            || matches!(
                name.as_str(),
                "config.json"
                    | "generation_config.json"
                    | "tokenizer.json"
                    | "tokenizer_config.json"
                    | "special_tokens_map.json"
                    | "chat_template.jinja"
            );
        // Through the path, not the entry: a link to a weight file counts as the file.
        let metadata = fs::metadata(entry.path()).map_err(|error| RunError::io(&entry.path(), &error))?;
        if matters && metadata.is_file() {
            files.insert(name, metadata.len());
        }
    }
    Ok(files)
}

/// The fingerprint of a model folder: config, weights, tokenizer and chat template.
///
/// # Errors
/// When a file cannot be read, or the folder holds none of them.
pub fn model_fingerprint(folder: &Path) -> Result<Fingerprint, RunError> {
    let files = model_files(folder)?;
    if files.is_empty() {
        return Err(RunError::Engine(metareward_api::EngineError::Model {
            folder: folder.to_owned(),
            message: "holds neither config.json nor weights".into(),
        }));
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for (name, length) in files {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&length.to_le_bytes());
        let path = folder.join(&name);
        let mut file = fs::File::open(&path).map_err(|error| RunError::io(&path, &error))?;
        loop {
            let read = file.read(&mut buffer).map_err(|error| RunError::io(&path, &error))?;
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
    }
    Ok(Fingerprint(hasher.finalize().to_hex().to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(|number| json!(number)),
            "[a-z]{0,4}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn equal_exactly_when_the_values_are(a in value(), b in value()) {
            prop_assert_eq!(Fingerprint::of(&a) == Fingerprint::of(&b), a == b);
        }

        #[test]
        fn the_order_of_fields_does_not_matter(fields in proptest::collection::btree_map("[a-z]{1,3}", value(), 0..5)) {
            let forward: serde_json::Map<_, _> = fields.clone().into_iter().collect();
            let backward: serde_json::Map<_, _> = fields.into_iter().rev().collect();
            prop_assert_eq!(Fingerprint::of(&Value::Object(forward)), Fingerprint::of(&Value::Object(backward)));
        }
    }

    #[test]
    fn numbers_that_look_alike_differ() {
        assert_ne!(Fingerprint::of(&json!([1, 23])), Fingerprint::of(&json!([12, 3])));
        assert_ne!(Fingerprint::of(&json!("1")), Fingerprint::of(&json!(1)));
        assert_ne!(Fingerprint::of(&json!({"a": {"b": 1}})), Fingerprint::of(&json!({"a": {}, "b": 1})));
    }
}
