//! The plugins of a run, made before anything starts: one set per iteration, because options are schedules.

use metareward_api::{Kind, MetaJudge, Optimizer, PluginError, Ranker, Rubric, Sampler, Selector, Task};
use metareward_host::{PluginRecord, Registry};
use serde_json::{Value, json};

use crate::{
    RunError,
    config::{Loaded, PluginUse},
    files_task,
};

/// A plugin and what it was made from.
pub(crate) struct Bound<P: ?Sized> {
    pub record: PluginRecord,
    pub plugin: Box<P>,
}

impl<P: ?Sized> Bound<P> {
    /// What a result that this plugin took part in depends on.
    pub fn identity(&self) -> Value {
        identity(&self.record)
    }

    /// The plugin's answer, or an error that names plugin, call and record.
    pub fn ask<T>(
        &self,
        answer: impl FnOnce(&P) -> Result<T, PluginError>,
        names: impl FnOnce(usize) -> String,
    ) -> Result<T, RunError> {
        answer(&self.plugin).map_err(|error| RunError::plugin(&self.record.info, &error, names))
    }
}

fn identity(record: &PluginRecord) -> Value {
    json!({
        "kind": record.info.kind,
        "name": record.info.name,
        "version": record.info.version,
        "sha256": record.sha256,
        "options": record.options,
    })
}

/// The plugins of one iteration.
pub(crate) struct PluginSet {
    pub actor_sampler: Bound<dyn Sampler>,
    pub judge_sampler: Bound<dyn Sampler>,
    pub meta_sampler: Bound<dyn Sampler>,
    pub evaluation_sampler: Bound<dyn Sampler>,
    pub rubric: Bound<dyn Rubric>,
    pub meta_judge: Bound<dyn MetaJudge>,
    pub ranker: Bound<dyn Ranker>,
    pub actor_selector: Bound<dyn Selector>,
    pub judge_selector: Bound<dyn Selector>,
    pub optimizer: Bound<dyn Optimizer>,
}

/// All plugins of a run.
pub(crate) struct Plugins {
    /// Or why it could not be made: a plan does without it.
    pub task: Result<Bound<dyn Task>, RunError>,
    sets: Vec<PluginSet>,
    /// For run.json.
    pub uses: Vec<PluginUse>,
}

impl Plugins {
    /// Makes every plugin with the options of every iteration.
    pub fn make(loaded: &Loaded, registry: &Registry) -> Result<Self, RunError> {
        let config = &loaded.config;
        let mut uses = Vec::new();
        let mut used = |kind, section: &str, name: &str, options: &serde_json::Map<String, Value>| {
            let plugin = loaded.plugin(registry, kind, section, name, options)?;
            uses.push(plugin.clone());
            Ok::<_, RunError>(plugin)
        };
        let mut section = |kind, name: &str, section: &crate::config::PluginSection| {
            used(kind, name, &section.plugin, &section.options)
        };
        let sampler = &config.sampler;
        let actor_sampler = section(Kind::Sampler, "sampler.actor", &sampler.actor)?;
        let judge_sampler = section(Kind::Sampler, "sampler.judge", &sampler.judge)?;
        let meta_sampler = section(Kind::Sampler, "sampler.meta_judge", &sampler.meta_judge)?;
        let evaluation_sampler = section(Kind::Sampler, "sampler.evaluation", &sampler.evaluation)?;
        let rubric = section(Kind::Rubric, "rubric", &config.rubric)?;
        let ranker = section(Kind::Ranker, "ranker", &config.ranker)?;
        let actor_selector = section(Kind::Selector, "selector.actor", &config.selector.actor)?;
        let judge_selector = section(Kind::Selector, "selector.judge", &config.selector.judge)?;
        let optimizer = section(Kind::Optimizer, "optimizer", &config.optimizer)?;
        let meta = &config.meta_judge;
        let meta_judge = used(Kind::MetaJudge, "meta_judge", &meta.plugin, &meta.options)?;
        let mut sets = Vec::new();
        for index in 0..config.iterations as usize {
            sets.push(PluginSet {
                actor_sampler: bind(loaded, &actor_sampler, index, |name, options| registry.sampler(name, options))?,
                judge_sampler: bind(loaded, &judge_sampler, index, |name, options| registry.sampler(name, options))?,
                meta_sampler: bind(loaded, &meta_sampler, index, |name, options| registry.sampler(name, options))?,
                evaluation_sampler: bind(loaded, &evaluation_sampler, index, |name, options| {
                    registry.sampler(name, options)
                })?,
                rubric: bind(loaded, &rubric, index, |name, options| registry.rubric(name, options))?,
                meta_judge: bind(loaded, &meta_judge, index, |name, options| registry.meta_judge(name, options))?,
                ranker: bind(loaded, &ranker, index, |name, options| registry.ranker(name, options))?,
                actor_selector: bind(loaded, &actor_selector, index, |name, options| registry.selector(name, options))?,
                judge_selector: bind(loaded, &judge_selector, index, |name, options| registry.selector(name, options))?,
                optimizer: bind(loaded, &optimizer, index, |name, options| registry.optimizer(name, options))?,
            });
        }
        let task = make_task(loaded, registry);
        if let Ok(task) = &task {
            uses.push(PluginUse { section: "task".into(), iterations: vec![task.record.clone()] });
        }
        Ok(Self { task, sets, uses })
    }

    /// The plugins of an iteration, from 1; iteration 0 (SFT, evaluation) uses those of the first.
    pub fn at(&self, iteration: u32) -> Result<&PluginSet, RunError> {
        self.sets
            .get(iteration.saturating_sub(1) as usize)
            .ok_or_else(|| RunError::Bug(format!("no plugins for iteration {iteration}")))
    }
}

fn make_task(loaded: &Loaded, registry: &Registry) -> Result<Bound<dyn Task>, RunError> {
    let section = &loaded.config.task;
    if section.plugin == files_task::NAME {
        return files_task::bind(loaded);
    }
    let task = loaded.plugin(registry, Kind::Task, "task", &section.plugin, &section.options)?;
    bind(loaded, &task, 0, |name, options| registry.task(name, options))
}

fn bind<P: ?Sized>(
    loaded: &Loaded,
    plugin: &PluginUse,
    index: usize,
    make: impl FnOnce(&str, &Value) -> Result<Box<P>, metareward_host::HostError>,
) -> Result<Bound<P>, RunError> {
    let record = plugin
        .iterations
        .get(index)
        .cloned()
        .ok_or_else(|| RunError::Bug(format!("{} has no options for iteration {}", plugin.section, index + 1)))?;
    let made = make(&record.info.name, &record.options).map_err(|error| RunError::PluginConfig {
        place: loaded.place(&format!("{}.options", plugin.section)),
        key: plugin.section.clone(),
        message: error.to_string(),
    })?;
    Ok(Bound { record, plugin: made })
}
