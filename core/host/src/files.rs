//! Plugin files that were loaded: each is read once, and what was hashed is what runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use metareward_api::{Kind, PluginInfo};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Form, HostError, LoadError, Settings, Source,
    component::{self, LoadedComponent},
    file::PluginFile,
    library::{LoadedLibrary, Stamp},
    outside::Code,
    source::Meaning,
};

/// A plugin file that can make plugins.
pub(crate) struct Loaded {
    pub info: PluginInfo,
    pub form: Form,
    pub sha256: String,
    pub api_version: String,
    pub schema: Value,
    pub code: Code,
}

/// The files of one registry.
#[derive(Default)]
pub(crate) struct Files {
    loaded: Mutex<BTreeMap<PathBuf, Arc<Loaded>>>,
}

impl Files {
    /// The plugin in the file that `source` names, of the kind that is wanted.
    pub(crate) fn get(&self, kind: Kind, source: &Source, settings: &Settings) -> Result<Arc<Loaded>, HostError> {
        let path = settings.file(&source.plugin);
        let wrong = |error| HostError::Load { file: path.clone(), error };
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match all.get(&path) {
            Some(loaded) => {
                let differs = |expected: &&str| !expected.trim().eq_ignore_ascii_case(&loaded.sha256);
                if let Some(expected) = source.sha256.as_deref().filter(differs) {
                    let (expected, found) = (expected.trim().to_owned(), loaded.sha256.clone());
                    return Err(wrong(LoadError::OtherHash { expected, found }));
                }
                if loaded.form == Form::Library && source.sha256.is_none() {
                    return Err(wrong(LoadError::NoHash(loaded.sha256.clone())));
                }
                loaded.clone()
            }
            None => {
                let loaded = Arc::new(load(&path, kind, source, settings).map_err(wrong)?);
                all.insert(path.clone(), loaded.clone());
                loaded
            }
        };
        if loaded.info.kind != kind {
            return Err(wrong(LoadError::Kind { expected: kind, found: loaded.info.kind }));
        }
        Ok(loaded)
    }
}

fn load(path: &Path, kind: Kind, source: &Source, settings: &Settings) -> Result<Loaded, LoadError> {
    let meaning = source.meaning();
    if !matches!(meaning, Meaning::Component | Meaning::Library) {
        return Err(LoadError::Ending);
    }
    let file = PluginFile::read(path, source.sha256.as_deref())?;
    let of_kind = |found: Kind| if found == kind { Ok(()) } else { Err(LoadError::Kind { expected: kind, found }) };
    let sha256 = file.sha256.clone();
    if meaning == Meaning::Library {
        if source.sha256.is_none() {
            return Err(LoadError::NoHash(sha256));
        }
        of_kind(Stamp::read(&file.bytes)?.kind)?;
        let library = LoadedLibrary::load(&file, settings)?;
        let (info, schema) = library.describe()?;
        let api_version = library.stamp.api_version.clone();
        return Ok(Loaded {
            info,
            form: Form::Library,
            sha256,
            api_version,
            schema,
            code: Code::Library(Arc::new(library)),
        });
    }
    let component = LoadedComponent::load(&file, settings)?;
    of_kind(component.kind)?;
    let (info, schema) = describe(&component, &source.plugin)?;
    let api_version = component.api_version.clone();
    let code = Code::Component(Arc::new(component));
    Ok(Loaded { info, form: Form::Component, sha256, api_version, schema, code })
}

fn describe(component: &LoadedComponent, file: &str) -> Result<(PluginInfo, Value), LoadError> {
    use crate::bindings::{meta_judge, optimizer, ranker, rubric, sampler, selector, task};
    match component.kind {
        Kind::Sampler => component::describe::<sampler::SamplerPlugin>(component, file),
        Kind::Rubric => component::describe::<rubric::RubricPlugin>(component, file),
        Kind::MetaJudge => component::describe::<meta_judge::MetaJudgePlugin>(component, file),
        Kind::Ranker => component::describe::<ranker::RankerPlugin>(component, file),
        Kind::Selector => component::describe::<selector::SelectorPlugin>(component, file),
        Kind::Optimizer => component::describe::<optimizer::OptimizerPlugin>(component, file),
        Kind::Task => component::describe::<task::TaskPlugin>(component, file),
    }
}

/// What can be known of a plugin file without running a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundFile {
    /// The file.
    pub file: PathBuf,
    /// What it is.
    pub form: Form,
    /// Its kind.
    pub kind: Kind,
    /// The plugin's name; of a library, which is not run for this, the package's.
    pub name: String,
    /// The plugin's version; of a library the package's.
    pub version: String,
    /// The contract that it was made for.
    pub api_version: String,
    /// sha256 of the file, in hexadecimal.
    pub sha256: String,
}

/// Looks at a plugin file. A library is not loaded: only its stamp is read. A component is asked in its sandbox.
///
/// # Errors
/// When the file is no plugin that this host could use.
pub fn look_at(path: &Path, settings: &Settings) -> Result<FoundFile, HostError> {
    let wrong = |error| HostError::Load { file: path.to_owned(), error };
    let looked = || -> Result<FoundFile, LoadError> {
        let meaning = Source::named(path.to_string_lossy()).meaning();
        let file = PluginFile::read(path, None)?;
        let sha256 = file.sha256.clone();
        match meaning {
            Meaning::Library => {
                let Stamp { api_version, kind, package, version } = Stamp::read(&file.bytes)?;
                crate::version::check(&api_version)?;
                let (file, form) = (path.to_owned(), Form::Library);
                Ok(FoundFile { file, form, kind, name: package, version, api_version, sha256 })
            }
            Meaning::Component => {
                let component = LoadedComponent::load(&file, settings)?;
                let (info, _) = describe(&component, &path.to_string_lossy())?;
                let PluginInfo { kind, name, version, .. } = info;
                let api_version = component.api_version.clone();
                let (file, form) = (path.to_owned(), Form::Component);
                Ok(FoundFile { file, form, kind, name, version, api_version, sha256 })
            }
            Meaning::BuiltIn | Meaning::UnknownFile => Err(LoadError::Ending),
        }
    };
    looked().map_err(wrong)
}
