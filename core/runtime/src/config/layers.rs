//! The layers of a config, later ones over earlier ones, with the place each value came from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::{Config, Reference, check};
use crate::{RunError, error::nearest};

/// Where a config comes from.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The experiment's TOML file; its folder is what relative paths are relative to.
    pub file: PathBuf,
    /// Further TOML files, each over the ones before it. Paths in them are relative to the experiment's folder all the same.
    pub over: Vec<PathBuf>,
    /// Environment variables as (name, value); those that do not begin with `METAREWARD__` are passed over.
    pub variables: Vec<(String, String)>,
    /// `--set` arguments, each `key.of.section=value`.
    pub set: Vec<String>,
    /// What a cell of a sweep sets, over all others: keys with values as TOML.
    pub cell: Vec<(String, String)>,
}

/// A config whose values are checked, and the places they came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// Folder of the experiment's file.
    pub folder: PathBuf,
    pub(crate) figment: Figment,
}

impl Layers {
    /// Layers of a file alone.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: path.into(), ..Self::default() }
    }

    /// Reads, merges and checks all layers.
    ///
    /// # Errors
    /// A file that cannot be read, a key that no one knows, a value of the wrong type, out of its range, or a schedule
    /// of the wrong length; each names the place and the key.
    pub fn load(&self) -> Result<Loaded, RunError> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        for path in std::iter::once(&self.file).chain(&self.over) {
            figment = figment.merge(read(path)?);
        }
        let mut variables: Vec<_> =
            self.variables.iter().filter(|(name, _)| name.starts_with("METAREWARD__")).collect();
        variables.sort();
        for (name, value) in variables {
            let path = name.trim_start_matches("METAREWARD__").to_lowercase().replace("__", ".");
            figment = figment.merge(Layer::single(format!("variable {name}"), &path, value));
        }
        for argument in &self.set {
            let place = format!("--set {argument}");
            let (path, value) = argument.split_once('=').ok_or_else(|| RunError::ConfigSyntax {
                place: place.clone(),
                message: "write it as section.key=value".into(),
            })?;
            figment = figment.merge(Layer::single(place, path.trim(), value.trim()));
        }
        for (key, value) in &self.cell {
            figment = figment.merge(Layer::single(format!("grid argument {key}={value}"), key, value));
        }
        let mut config: Config = figment.extract().map_err(|error| named(&figment, error))?;
        if let Some(judge) = config.judge.model.take() {
            if config.roles.judge != Reference::DataModel.into() {
                return Err(RunError::BadValue {
                    place: place(&figment, "judge.model"),
                    key: "judge.model".into(),
                    found: "given beside roles.judge".into(),
                    expected: "left out: it is the former name of roles.judge".into(),
                });
            }
            config.roles.judge = judge;
        }
        let folder = self.file.parent().map(Path::to_owned).unwrap_or_default();
        let loaded = Loaded { config, folder, figment };
        check::check(&loaded)?;
        Ok(loaded)
    }
}

/// The layer of a TOML file.
fn read(path: &Path) -> Result<Layer, RunError> {
    let file = Layer::named(path.display().to_string());
    let syntax = |message: String| RunError::ConfigSyntax { place: file.place.clone(), message };
    let text = fs::read_to_string(path).map_err(|error| syntax(format!("cannot read the experiment: {error}")))?;
    // Parsed here as well, because figment's message for broken TOML lacks the line.
    toml::from_str::<toml::Table>(&text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
    let dict = Toml::string(&text).data().map_err(|error| syntax(error.to_string()))?;
    Ok(Layer { dict: dict.into_values().next().unwrap_or_default(), ..file })
}

impl Loaded {
    /// Where the value of a key came from: a file, a variable, a `--set`, or the defaults.
    pub fn place(&self, key: &str) -> String {
        place(&self.figment, key)
    }
}

fn place(figment: &Figment, key: &str) -> String {
    let mut key = key;
    loop {
        if let Some(metadata) = figment.find_metadata(key) {
            return if metadata.name.contains("Config") { "defaults".into() } else { metadata.name.to_string() };
        }
        match key.rsplit_once('.') {
            Some((parent, _)) => key = parent,
            None => return "config".into(),
        }
    }
}

/// A figment error in our words. A list in an `Error` is a chain of several; the first is said.
fn named(figment: &Figment, error: figment::Error) -> RunError {
    use figment::error::Kind;
    let path = error.path.join(".");
    match error.kind {
        Kind::UnknownField(field, known) => {
            let section = error.path.iter().filter(|part| **part != field).cloned().collect::<Vec<_>>().join(".");
            let join = |key: &str| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            let key = join(&field);
            let suggestion = nearest(&field, known.iter().copied()).map(join);
            RunError::UnknownKey { place: place(figment, &key), key, suggestion }
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => RunError::BadValue {
            place: place(figment, &path),
            key: path,
            found: plain_value(&found),
            expected: plain_type(&expected),
        },
        Kind::UnknownVariant(found, known) => RunError::BadValue {
            place: place(figment, &path),
            key: path,
            found: format!("{found:?}"),
            expected: format!("one of {}", known.join(", ")),
        },
        Kind::MissingField(field) => RunError::BadValue {
            place: place(figment, &path),
            key: if path.is_empty() { field.to_string() } else { format!("{path}.{field}") },
            found: "missing".into(),
            expected: "given".into(),
        },
        other => RunError::BadValue {
            place: place(figment, &path),
            key: path,
            found: "wrong".into(),
            expected: other.to_string(),
        },
    }
}

/// A value as it was written.
fn plain_value(found: &figment::error::Actual) -> String {
    use figment::error::Actual;
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".into(),
        Actual::Map => "a section".into(),
        other => other.to_string(),
    }
}

/// Rust's names of types as a person says them.
fn plain_type(expected: &str) -> String {
    match expected {
        "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        other => other.strip_prefix("struct ").map_or_else(|| other.to_owned(), |_| "a section".into()),
    }
}

/// One layer with a name for messages.
struct Layer {
    place: String,
    dict: Dict,
}

impl Layer {
    fn named(place: String) -> Self {
        Self { place, dict: Dict::new() }
    }

    /// A layer with one value. The text is read as TOML, and taken as it is where it is none: `4`, `[1, 2]`, `true` and
    /// `my name` all do what they look like.
    fn single(place: String, path: &str, text: &str) -> Self {
        let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"))
            .ok()
            .and_then(|mut table| table.remove("value"))
            .and_then(|value| Value::serialize(value).ok());
        let mut value = parsed.unwrap_or_else(|| Value::from(text.to_owned()));
        let mut parts = path.split('.').rev();
        let last = parts.next().unwrap_or_default().to_owned();
        let mut dict = Dict::from([(last, value)]);
        for part in parts {
            value = Value::from(dict);
            dict = Dict::from([(part.to_owned(), value)]);
        }
        Self { place, dict }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}
