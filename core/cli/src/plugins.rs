//! A plugin as named on the command line.

use std::path::Path;

use metareward_api::{Kind, MetaJudge, Optimizer, Ranker, Rubric, Sampler, Selector, Task};
use metareward_host::{FoundFile, HostError, KINDS, Meaning, Registry, Settings, Source, look_at};
use metareward_laws::AnyPlugin;
use metareward_plugin::nearest;
use serde_json::{Map, Value};

use crate::{
    args::{LimitArgs, TrustArgs},
    failure::{Code, Failure},
};

/// A plugin that was found, and what it can be made with.
pub struct Named {
    /// Its kind.
    pub kind: Kind,
    /// Its name or file, with the hash that vouches for a library.
    pub source: Source,
}

/// The settings of the plugin host with these limits. Paths are relative to the working directory.
pub fn settings(limits: &LimitArgs) -> Settings {
    Settings { fuel: limits.fuel, memory_mib: limits.memory_mib, ..Settings::default() }
}

/// All plugins.
///
/// # Errors
/// When two have the same name, which is a mistake of ours.
pub fn registry(settings: Settings) -> Result<Registry, Failure> {
    metareward_builtin::registry(settings).map_err(|error| Failure::new(Code::Bug, error))
}

/// Whether the text is the path of a file.
pub fn is_file(plugin: &str) -> bool {
    Source::named(plugin).meaning() != Meaning::BuiltIn
}

/// Finds out what a name or a path means. A file says its kind itself; of a built-in plugin it is asked for only where
/// several kinds have one of the name.
///
/// # Errors
/// A name that no one has, or several kinds; a file that cannot be used; a library that nothing vouches for.
pub fn find(
    registry: &Registry,
    settings: &Settings,
    plugin: &str,
    kind: Option<Kind>,
    trust: &TrustArgs,
) -> Result<Named, Failure> {
    if is_file(plugin) {
        let found = look_at(Path::new(plugin), settings).map_err(failure)?;
        let source = Source { plugin: plugin.to_owned(), sha256: vouched(&found, trust)? };
        return Ok(Named { kind: kind.unwrap_or(found.kind), source });
    }
    let source = Source { plugin: plugin.to_owned(), sha256: trust.sha256.clone() };
    if let Some(kind) = kind {
        return Ok(Named { kind, source });
    }
    let has = |kind: &Kind| registry.names(*kind).iter().any(|name| name == plugin);
    let kinds: Vec<Kind> = KINDS.into_iter().filter(has).collect();
    match kinds.as_slice() {
        [kind] => Ok(Named { kind: *kind, source }),
        [] => Err(unknown(registry, plugin)),
        several => {
            let several = several.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            Err(Failure::new(Code::Input, format!("`{plugin}` is the name of a {several}"))
                .hint("say which with --kind"))
        }
    }
}

/// The hash that a file must have: the one given; the file's own for a library that is trusted whatever it is.
fn vouched(found: &FoundFile, trust: &TrustArgs) -> Result<Option<String>, Failure> {
    let library = found.form == metareward_host::Form::Library;
    match &trust.sha256 {
        Some(sha256) => Ok(Some(sha256.clone())),
        None if !library => Ok(None),
        None if trust.trust => Ok(Some(found.sha256.clone())),
        None => {
            let file = found.file.display();
            Err(Failure::new(
                Code::Input,
                format!("{file} is a dynamic library, which runs with your rights, and nothing vouches for it"),
            )
            .hint(format!(
                "if you know where it comes from, give --sha256 {}, or --trust to run it as it is",
                found.sha256
            )))
        }
    }
}

fn unknown(registry: &Registry, plugin: &str) -> Failure {
    let names: Vec<String> = KINDS.into_iter().flat_map(|kind| registry.names(kind)).collect();
    let failure = Failure::new(Code::Input, format!("no built-in plugin is named `{plugin}`"));
    match nearest(plugin, names.iter().map(String::as_str)) {
        Some(name) => {
            failure.hint(format!("did you mean `{name}`? A file is named by its path, ending in .wasm or .so"))
        }
        None => failure.hint("`metareward plugin list` shows all; a file is named by its path, ending in .wasm or .so"),
    }
}

/// The plugin host's error on its way out: whatever is wrong with a name, a file or options is the user's input.
pub fn failure(error: HostError) -> Failure {
    Failure::new(Code::Input, error)
}

/// Options from the command line: a JSON object; null where none are given.
///
/// # Errors
/// When the text is not a JSON object.
pub fn options(text: Option<&str>) -> Result<Value, Failure> {
    let Some(text) = text else { return Ok(Value::Null) };
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(options) => Ok(Value::Object(options)),
        Err(error) => Err(Failure::new(Code::Input, format!("--options is no JSON object: {error}"))
            .hint("write for example --options '{\"scale\": 400}'")),
    }
}

/// A plugin of any kind, made.
pub enum Made {
    /// A sampler.
    Sampler(Box<dyn Sampler>),
    /// A rubric.
    Rubric(Box<dyn Rubric>),
    /// A meta-judge.
    MetaJudge(Box<dyn MetaJudge>),
    /// A ranker.
    Ranker(Box<dyn Ranker>),
    /// A selector.
    Selector(Box<dyn Selector>),
    /// An optimizer.
    Optimizer(Box<dyn Optimizer>),
    /// A task.
    Task(Box<dyn Task>),
}

impl Made {
    /// Makes the plugin from its options.
    ///
    /// # Errors
    /// As the registry's: a name that no one has, a file that cannot be used, options that are refused.
    pub fn make(registry: &Registry, named: &Named, options: &Value) -> Result<Self, HostError> {
        let source = &named.source;
        Ok(match named.kind {
            Kind::Sampler => Made::Sampler(registry.sampler(source, options)?),
            Kind::Rubric => Made::Rubric(registry.rubric(source, options)?),
            Kind::MetaJudge => Made::MetaJudge(registry.meta_judge(source, options)?),
            Kind::Ranker => Made::Ranker(registry.ranker(source, options)?),
            Kind::Selector => Made::Selector(registry.selector(source, options)?),
            Kind::Optimizer => Made::Optimizer(registry.optimizer(source, options)?),
            Kind::Task => Made::Task(registry.task(source, options)?),
        })
    }

    /// The plugin as the laws take it.
    pub fn any(&self) -> AnyPlugin<'_> {
        match self {
            Made::Sampler(plugin) => AnyPlugin::Sampler(&**plugin),
            Made::Rubric(plugin) => AnyPlugin::Rubric(&**plugin),
            Made::MetaJudge(plugin) => AnyPlugin::MetaJudge(&**plugin),
            Made::Ranker(plugin) => AnyPlugin::Ranker(&**plugin),
            Made::Selector(plugin) => AnyPlugin::Selector(&**plugin),
            Made::Optimizer(plugin) => AnyPlugin::Optimizer(&**plugin),
            Made::Task(plugin) => AnyPlugin::Task(&**plugin),
        }
    }
}
