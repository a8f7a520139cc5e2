//! The plugins that can be named in a config.

use std::collections::BTreeMap;

use metareward_api::{API_VERSION, Kind, MetaJudge, Optimizer, PluginInfo, Ranker, Rubric, Sampler, Selector, Task};
use metareward_plugin::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Checked, Constructor, Form, HostError};

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

/// The plugins of one kind, by name.
struct Shelf<P: ?Sized> {
    kind: Kind,
    plugins: BTreeMap<String, Constructor<P>>,
}

impl<P: ?Sized> Shelf<P> {
    fn new(kind: Kind) -> Self {
        Self { kind, plugins: BTreeMap::new() }
    }

    fn add(&mut self, constructor: Constructor<P>) -> Result<(), HostError> {
        let PluginInfo { kind: found, name, .. } = constructor.info.clone();
        if found != self.kind {
            return Err(HostError::WrongKind { name, expected: self.kind, found });
        }
        if self.plugins.contains_key(&name) {
            return Err(HostError::Duplicate { kind: self.kind, name });
        }
        self.plugins.insert(name, constructor);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&Constructor<P>, HostError> {
        self.plugins.get(name).ok_or_else(|| HostError::Unknown {
            kind: self.kind,
            name: name.to_owned(),
            suggestion: nearest(name, self.plugins.keys().map(String::as_str)).map(str::to_owned),
            known: self.names(),
        })
    }

    fn make(&self, name: &str, options: &Value) -> Result<Checked<P>, HostError> {
        let constructor = self.find(name)?;
        let plugin = (constructor.make)(options).map_err(|error| self.refused(name, error))?;
        Ok(Checked::new(constructor.info.clone(), plugin))
    }

    fn names(&self) -> Vec<String> {
        self.plugins.keys().cloned().collect()
    }

    fn refused(&self, name: &str, error: metareward_api::OptionError) -> HostError {
        HostError::Options { kind: self.kind, name: name.to_owned(), error }
    }
}

/// What the registry can say of a plugin without making it.
trait Listing {
    fn names(&self) -> Vec<String>;
    fn infos(&self) -> Vec<PluginInfo>;
    fn record(&self, name: &str, options: &Value) -> Result<PluginRecord, HostError>;
    fn default_options(&self, name: &str) -> Result<Value, HostError>;
}

impl<P: ?Sized> Listing for Shelf<P> {
    fn names(&self) -> Vec<String> {
        Shelf::names(self)
    }

    fn infos(&self) -> Vec<PluginInfo> {
        self.plugins.values().map(|constructor| constructor.info.clone()).collect()
    }

    fn record(&self, name: &str, options: &Value) -> Result<PluginRecord, HostError> {
        let constructor = self.find(name)?;
        // Made and dropped: options that the plugin itself refuses (a template, a pattern) must not reach a record.
        (constructor.make)(options).map_err(|error| self.refused(name, error))?;
        let given = if options.is_null() { &Value::Object(serde_json::Map::new()) } else { options };
        let options = (constructor.resolve)(given).map_err(|error| self.refused(name, error))?;
        Ok(PluginRecord {
            info: constructor.info.clone(),
            form: constructor.form,
            sha256: constructor.sha256.clone(),
            api_version: API_VERSION.to_owned(),
            options,
        })
    }

    fn default_options(&self, name: &str) -> Result<Value, HostError> {
        (self.find(name)?.resolve)(&Value::Null).map_err(|error| self.refused(name, error))
    }
}

/// All plugins that can be named, by kind and name.
pub struct Registry {
    samplers: Shelf<dyn Sampler>,
    rubrics: Shelf<dyn Rubric>,
    meta_judges: Shelf<dyn MetaJudge>,
    rankers: Shelf<dyn Ranker>,
    selectors: Shelf<dyn Selector>,
    optimizers: Shelf<dyn Optimizer>,
    tasks: Shelf<dyn Task>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
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

            #[doc = concat!("Makes the [`", stringify!($plugin), "`] of this name. `options` is a JSON object, or null for the defaults.")]
            ///
            /// # Errors
            /// An unknown name (with the nearest known one), or options that are refused.
            pub fn $make(&self, name: &str, options: &Value) -> Result<Box<dyn $plugin>, HostError> {
                Ok(Box::new(self.$field.make(name, options)?))
            }
        )*
    };
}

impl Registry {
    /// A registry without plugins.
    pub fn new() -> Self {
        Self {
            samplers: Shelf::new(Kind::Sampler),
            rubrics: Shelf::new(Kind::Rubric),
            meta_judges: Shelf::new(Kind::MetaJudge),
            rankers: Shelf::new(Kind::Ranker),
            selectors: Shelf::new(Kind::Selector),
            optimizers: Shelf::new(Kind::Optimizer),
            tasks: Shelf::new(Kind::Task),
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

    /// The names of all plugins of a kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.listing(kind).names()
    }

    /// Kind, name, version and summary of all plugins of a kind, sorted by name.
    pub fn infos(&self, kind: Kind) -> Vec<PluginInfo> {
        self.listing(kind).infos()
    }

    /// All options of a plugin with their defaults, as a JSON object.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn default_options(&self, kind: Kind, name: &str) -> Result<Value, HostError> {
        self.listing(kind).default_options(name)
    }

    /// What a run records of the plugin when it is made with these options.
    ///
    /// # Errors
    /// As when it is made: an unknown name, or options that are refused.
    pub fn record(&self, kind: Kind, name: &str, options: &Value) -> Result<PluginRecord, HostError> {
        self.listing(kind).record(name, options)
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
