//! The plugins that can be named in a config: those that are linked in, and files.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use metareward_api::{
    API_VERSION, Kind, MetaJudge, Optimizer, OptionError, PluginInfo, Ranker, Rubric, Sampler, Selector, Task,
};
use metareward_plugin::nearest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Checked, Constructor, Form, HostError, Settings, Source,
    files::{Files, Loaded},
    library, options,
    outside::{Code, Outside},
    parallel::Parallel,
    source::Meaning,
};

/// What a run records of a plugin that it uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Kind, name, version, summary.
    pub info: PluginInfo,
    /// Where its code comes from.
    pub form: Form,
    /// Hash of its file; `None` for what is linked in, whose version is the binary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The plugin contract that it was made for.
    pub api_version: String,
    /// All options as used, defaults included.
    pub options: Value,
}

/// What can be said of a plugin before it is made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginCard {
    /// Kind, name, version, summary.
    pub info: PluginInfo,
    /// Where its code comes from.
    pub form: Form,
    /// Its file; `None` for what is linked in.
    pub file: Option<PathBuf>,
    /// Hash of its file.
    pub sha256: Option<String>,
    /// The plugin contract that it was made for.
    pub api_version: String,
    /// JSON schema of its options.
    pub options: Value,
}

/// Makes a plugin from outside.
type MakeOutside<P> = fn(&Code, PluginInfo, &str) -> Result<Box<P>, OptionError>;

/// The plugins of one kind: those linked in, by name, and what makes one of a file.
struct Shelf<P: ?Sized> {
    kind: Kind,
    built_in: BTreeMap<String, Constructor<P>>,
    outside: MakeOutside<P>,
    /// Spreads large batches over so many threads, where the kind allows it.
    spread: fn(Box<P>, usize) -> Box<P>,
}

impl<P: ?Sized> Shelf<P> {
    fn new(kind: Kind, outside: MakeOutside<P>, spread: fn(Box<P>, usize) -> Box<P>) -> Self {
        Self { kind, built_in: BTreeMap::new(), outside, spread }
    }

    fn add(&mut self, constructor: Constructor<P>) -> Result<(), HostError> {
        let PluginInfo { kind: found, name, .. } = constructor.info.clone();
        if found != self.kind {
            return Err(HostError::WrongKind { name, expected: self.kind, found });
        }
        if self.built_in.contains_key(&name) {
            return Err(HostError::Duplicate { kind: self.kind, name });
        }
        self.built_in.insert(name, constructor);
        Ok(())
    }

    /// The plugin's code.
    fn find(&self, source: &Source, outer: &Outer) -> Result<Found<'_, P>, HostError> {
        let name = &source.plugin;
        match (source.meaning(), self.built_in.get(name)) {
            (Meaning::BuiltIn, Some(_)) if source.sha256.is_some() => {
                Err(HostError::BuiltInHash { kind: self.kind, name: name.clone() })
            }
            (Meaning::BuiltIn, Some(constructor)) => Ok(Found::BuiltIn(constructor)),
            (Meaning::BuiltIn, None) => Err(HostError::Unknown {
                kind: self.kind,
                name: name.clone(),
                suggestion: nearest(name, self.built_in.keys().map(String::as_str)).map(str::to_owned),
                known: self.built_in.keys().cloned().collect(),
            }),
            _ => Ok(Found::File(outer.files.get(self.kind, source, &outer.settings)?)),
        }
    }

    /// The plugin, and all its options as it got them.
    fn make(&self, source: &Source, given: &Value, outer: &Outer) -> Result<(Box<P>, Value, Found<'_, P>), HostError> {
        let found = self.find(source, outer)?;
        let refused = |error| HostError::Options { kind: self.kind, name: source.plugin.clone(), error };
        let (plugin, resolved) = match &found {
            Found::BuiltIn(constructor) => {
                let plugin = (constructor.make)(given).map_err(refused)?;
                let given = if given.is_null() { &Value::Object(Map::new()) } else { given };
                (plugin, (constructor.resolve)(given).map_err(refused)?)
            }
            Found::File(loaded) => {
                let resolved = options::resolve(&loaded.schema, given).map_err(refused)?;
                let plugin =
                    (self.outside)(&loaded.code, loaded.info.clone(), &resolved.to_string()).map_err(refused)?;
                // The plugin's own words come first: they are the better ones where it has any.
                options::validate(&loaded.schema, &resolved).map_err(refused)?;
                (plugin, resolved)
            }
        };
        Ok(((self.spread)(plugin, outer.settings.threads()), resolved, found))
    }
}

/// A plugin's code.
enum Found<'a, P: ?Sized> {
    BuiltIn(&'a Constructor<P>),
    File(Arc<Loaded>),
}

impl<P: ?Sized> Found<'_, P> {
    fn info(&self) -> &PluginInfo {
        match self {
            Found::BuiltIn(constructor) => &constructor.info,
            Found::File(loaded) => &loaded.info,
        }
    }

    fn default_options(&self) -> Result<Value, OptionError> {
        match self {
            Found::BuiltIn(constructor) => (constructor.resolve)(&Value::Null),
            Found::File(loaded) => options::resolve(&loaded.schema, &Value::Null),
        }
    }

    fn record(&self, options: Value) -> PluginRecord {
        match self {
            Found::BuiltIn(constructor) => PluginRecord {
                info: constructor.info.clone(),
                form: Form::BuiltIn,
                sha256: None,
                api_version: API_VERSION.to_owned(),
                options,
            },
            Found::File(loaded) => PluginRecord {
                info: loaded.info.clone(),
                form: loaded.form,
                sha256: Some(loaded.sha256.clone()),
                api_version: loaded.api_version.clone(),
                options,
            },
        }
    }
}

/// What the registry can say of a plugin without knowing its kind at compile time.
trait Listing {
    fn names(&self) -> Vec<String>;
    fn infos(&self) -> Vec<PluginInfo>;
    fn info(&self, source: &Source, outer: &Outer) -> Result<PluginInfo, HostError>;
    fn card(&self, source: &Source, outer: &Outer) -> Result<PluginCard, HostError>;
    fn record(&self, source: &Source, options: &Value, outer: &Outer) -> Result<PluginRecord, HostError>;
    fn default_options(&self, source: &Source, outer: &Outer) -> Result<Value, HostError>;
}

impl<P: ?Sized> Listing for Shelf<P> {
    fn names(&self) -> Vec<String> {
        self.built_in.keys().cloned().collect()
    }

    fn infos(&self) -> Vec<PluginInfo> {
        self.built_in.values().map(|constructor| constructor.info.clone()).collect()
    }

    fn info(&self, source: &Source, outer: &Outer) -> Result<PluginInfo, HostError> {
        Ok(self.find(source, outer)?.info().clone())
    }

    fn card(&self, source: &Source, outer: &Outer) -> Result<PluginCard, HostError> {
        let found = self.find(source, outer)?;
        let PluginRecord { info, form, sha256, api_version, .. } = found.record(Value::Null);
        let (file, options) = match &found {
            Found::BuiltIn(constructor) => (None, (constructor.schema)()),
            Found::File(loaded) => (Some(outer.settings.file(&source.plugin)), loaded.schema.clone()),
        };
        Ok(PluginCard { info, form, file, sha256, api_version, options })
    }

    fn record(&self, source: &Source, options: &Value, outer: &Outer) -> Result<PluginRecord, HostError> {
        // Made and dropped: options that the plugin itself refuses (a template, a pattern) must not reach a record.
        let (_, resolved, found) = self.make(source, options, outer)?;
        Ok(found.record(resolved))
    }

    fn default_options(&self, source: &Source, outer: &Outer) -> Result<Value, HostError> {
        let found = self.find(source, outer)?;
        found.default_options().map_err(|error| HostError::Options {
            kind: self.kind,
            name: source.plugin.clone(),
            error,
        })
    }
}

/// What plugins from outside need.
struct Outer {
    settings: Settings,
    files: Files,
}

/// All plugins that can be named, by kind and name, and all that can be loaded.
pub struct Registry {
    samplers: Shelf<dyn Sampler>,
    rubrics: Shelf<dyn Rubric>,
    meta_judges: Shelf<dyn MetaJudge>,
    rankers: Shelf<dyn Ranker>,
    selectors: Shelf<dyn Selector>,
    optimizers: Shelf<dyn Optimizer>,
    tasks: Shelf<dyn Task>,
    outer: Outer,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

/// A pair of methods per kind: one adds a constructor, one makes a checked plugin.
macro_rules! kinds {
    ($($field:ident, $add:ident, $make:ident, $plugin:ident;)*) => {
        $(
            #[doc = concat!("Adds a plugin of kind [`", stringify!($plugin), "`].")]
            ///
            /// # Errors
            /// When the name is taken or the plugin is of another kind.
            pub fn $add(&mut self, constructor: Constructor<dyn $plugin>) -> Result<(), HostError> {
                self.$field.add(constructor)
            }

            #[doc = concat!("Makes the [`", stringify!($plugin), "`] of this name or file. `options` is a JSON object, or null for the defaults.")]
            ///
            /// # Errors
            /// An unknown name (with the nearest known one), a file that cannot be used, or options that are refused.
            pub fn $make(&self, source: &Source, options: &Value) -> Result<Box<dyn $plugin>, HostError> {
                let (plugin, _, found) = self.$field.make(source, options, &self.outer)?;
                Ok(Box::new(Checked::new(found.info().clone(), plugin)))
            }
        )*
    };
}

/// Plugins from outside of a kind whose items are independent of each other, and what spreads their batches.
macro_rules! spread_shelf {
    ($kind:ident, $trait:ident, $world:path) => {
        Shelf::new(
            Kind::$kind,
            |code, info, options| Ok(Box::new(Outside::<$world>::make(code, info, options)?)),
            |inner: Box<dyn $trait>, threads| Box::new(Parallel { inner, threads }),
        )
    };
}

/// Plugins from outside of a kind that is asked as a whole.
macro_rules! whole_shelf {
    ($kind:ident, $world:path) => {
        Shelf::new(
            Kind::$kind,
            |code, info, options| Ok(Box::new(Outside::<$world>::make(code, info, options)?)),
            |plugin, _| plugin,
        )
    };
}

impl Registry {
    /// A registry without built-in plugins.
    pub fn new(settings: Settings) -> Self {
        library::listen();
        use crate::bindings::{meta_judge, optimizer, ranker, rubric, sampler, selector, task};
        Self {
            samplers: spread_shelf!(Sampler, Sampler, sampler::SamplerPlugin),
            rubrics: spread_shelf!(Rubric, Rubric, rubric::RubricPlugin),
            meta_judges: spread_shelf!(MetaJudge, MetaJudge, meta_judge::MetaJudgePlugin),
            rankers: spread_shelf!(Ranker, Ranker, ranker::RankerPlugin),
            selectors: spread_shelf!(Selector, Selector, selector::SelectorPlugin),
            optimizers: whole_shelf!(Optimizer, optimizer::OptimizerPlugin),
            tasks: whole_shelf!(Task, task::TaskPlugin),
            outer: Outer { settings, files: Files::default() },
        }
    }

    kinds! {
        samplers, add_sampler, sampler, Sampler;
        rubrics, add_rubric, rubric, Rubric;
        meta_judges, add_meta_judge, meta_judge, MetaJudge;
        rankers, add_ranker, ranker, Ranker;
        selectors, add_selector, selector, Selector;
        optimizers, add_optimizer, optimizer, Optimizer;
        tasks, add_task, task, Task;
    }

    /// The names of all built-in plugins of a kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.listing(kind).names()
    }

    /// Kind, name, version and summary of all built-in plugins of a kind, sorted by name.
    pub fn infos(&self, kind: Kind) -> Vec<PluginInfo> {
        self.listing(kind).infos()
    }

    /// Kind, name, version and summary of one plugin.
    ///
    /// # Errors
    /// An unknown name, or a file that cannot be used.
    pub fn info(&self, kind: Kind, source: &Source) -> Result<PluginInfo, HostError> {
        self.listing(kind).info(source, &self.outer)
    }

    /// All that can be said of a plugin before it is made.
    ///
    /// # Errors
    /// An unknown name, or a file that cannot be used.
    pub fn card(&self, kind: Kind, source: &Source) -> Result<PluginCard, HostError> {
        self.listing(kind).card(source, &self.outer)
    }

    /// All options of a plugin with their defaults, as a JSON object.
    ///
    /// # Errors
    /// An unknown name, or a file that cannot be used.
    pub fn default_options(&self, kind: Kind, source: &Source) -> Result<Value, HostError> {
        self.listing(kind).default_options(source, &self.outer)
    }

    /// What a run records of the plugin when it is made with these options.
    ///
    /// # Errors
    /// As when it is made: an unknown name, a file that cannot be used, or options that are refused.
    pub fn record(&self, kind: Kind, source: &Source, options: &Value) -> Result<PluginRecord, HostError> {
        self.listing(kind).record(source, options, &self.outer)
    }

    fn listing(&self, kind: Kind) -> &dyn Listing {
        match kind {
            Kind::Sampler => &self.samplers,
            Kind::Rubric => &self.rubrics,
            Kind::MetaJudge => &self.meta_judges,
            Kind::Ranker => &self.rankers,
            Kind::Selector => &self.selectors,
            Kind::Optimizer => &self.optimizers,
            Kind::Task => &self.tasks,
        }
    }
}
