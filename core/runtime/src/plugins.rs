//! The plugins of a run, made before anything starts: one set per iteration, because options are schedules.

use std::ops::Range;

use metareward_api::{Kind, MetaJudge, Optimizer, Part, PluginError, Ranker, Rubric, Sampler, Selector, Task};
use metareward_host::{HostError, PluginRecord, Registry, Source};
use serde_json::{Value, json};

use crate::{
    RunError,
    config::{Chosen, Loaded, PluginSection, PluginUse},
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

    /// The plugin's answers to `count` items. `answer` passes the items of a range on.
    ///
    /// A call that fails as a whole, as one that traps does, is made again for one item after the other to find the first
    /// that fails. Where each succeeds on its own, the error names the first item and the last.
    pub fn ask_each<T>(
        &self,
        count: usize,
        answer: impl Fn(&P, Range<usize>) -> Result<Vec<T>, PluginError>,
        names: impl Fn(usize) -> String,
    ) -> Result<Vec<T>, RunError> {
        let info = &self.record.info;
        answer(&self.plugin, 0..count).map_err(|error| match error.item {
            Some(_) => RunError::plugin(info, &error, names),
            None => {
                let alone = (0..count).find_map(|item| Some((item, answer(&self.plugin, item..item + 1).err()?)));
                let (record, error) = match alone {
                    Some((item, alone)) => (Some(names(item)), alone),
                    None => (count.checked_sub(1).map(|last| format!("{} to {}", names(0), names(last))), error),
                };
                RunError::Plugin { kind: info.kind, plugin: info.name.clone(), record, message: error.message }
            }
        })
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
    /// Whether the rubric judges a response beside another one.
    pub compares: bool,
    pub meta_judge: Bound<dyn MetaJudge>,
    pub ranker: Bound<dyn Ranker>,
    pub actor_selector: Bound<dyn Selector>,
    pub judge_selector: Bound<dyn Selector>,
    pub optimizer: Bound<dyn Optimizer>,
}

impl PluginSet {
    /// How a part's answers are drawn.
    pub fn sampler(&self, part: Part) -> &Bound<dyn Sampler> {
        match part {
            Part::Actor => &self.actor_sampler,
            Part::Judge => &self.judge_sampler,
            Part::MetaJudge => &self.meta_sampler,
            Part::Evaluation => &self.evaluation_sampler,
        }
    }
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
        let mut choose = |kind, key: &str, section: &PluginSection| {
            let chosen = loaded.plugin(registry, kind, key, section)?;
            uses.push(chosen.used.clone());
            Ok::<_, RunError>(chosen)
        };
        let sampler = &config.sampler;
        let actor_sampler = choose(Kind::Sampler, "sampler.actor", &sampler.actor)?;
        let judge_sampler = choose(Kind::Sampler, "sampler.judge", &sampler.judge)?;
        let meta_sampler = choose(Kind::Sampler, "sampler.meta_judge", &sampler.meta_judge)?;
        let evaluation_sampler = choose(Kind::Sampler, "sampler.evaluation", &sampler.evaluation)?;
        let rubric = choose(Kind::Rubric, "rubric", &config.rubric)?;
        let ranker = choose(Kind::Ranker, "ranker", &config.ranker)?;
        let actor_selector = choose(Kind::Selector, "selector.actor", &config.selector.actor)?;
        let judge_selector = choose(Kind::Selector, "selector.judge", &config.selector.judge)?;
        let optimizer = choose(Kind::Optimizer, "optimizer", &config.optimizer)?;
        let meta_judge = choose(Kind::MetaJudge, "meta_judge", &config.meta_judge.section())?;
        let mut sets = Vec::new();
        for index in 0..config.iterations as usize {
            let sampler = |chosen: &Chosen| bind(loaded, chosen, index, |source, o| registry.sampler(source, o));
            let selector = |chosen: &Chosen| bind(loaded, chosen, index, |source, o| registry.selector(source, o));
            let rubric = bind(loaded, &rubric, index, |source, o| registry.rubric(source, o))?;
            sets.push(PluginSet {
                actor_sampler: sampler(&actor_sampler)?,
                judge_sampler: sampler(&judge_sampler)?,
                meta_sampler: sampler(&meta_sampler)?,
                evaluation_sampler: sampler(&evaluation_sampler)?,
                compares: rubric.ask(|rubric| rubric.compares(), |_| String::new())?,
                rubric,
                meta_judge: bind(loaded, &meta_judge, index, |source, o| registry.meta_judge(source, o))?,
                ranker: bind(loaded, &ranker, index, |source, o| registry.ranker(source, o))?,
                actor_selector: selector(&actor_selector)?,
                judge_selector: selector(&judge_selector)?,
                optimizer: bind(loaded, &optimizer, index, |source, o| registry.optimizer(source, o))?,
            });
        }
        let task = make_task(loaded, registry);
        if let Ok(task) = &task {
            uses.push(PluginUse { section: "task".into(), iterations: vec![task.record.clone()] });
        }
        let plugins = Self { task, sets, uses };
        plugins.judgments_can_meet(loaded)?;
        Ok(plugins)
    }

    /// The plugins of an iteration, from 1; iteration 0 (SFT, evaluation) uses those of the first.
    pub fn at(&self, iteration: u32) -> Result<&PluginSet, RunError> {
        self.sets
            .get(iteration.saturating_sub(1) as usize)
            .ok_or_else(|| RunError::Bug(format!("no plugins for iteration {iteration}")))
    }

    /// Refuses judge pairs where the rubric compares responses.
    fn judgments_can_meet(&self, loaded: &Loaded) -> Result<(), RunError> {
        let config = &loaded.config;
        for (iteration, set) in (1..).zip(&self.sets) {
            if set.compares && *config.at(&config.meta_judge.pairs, iteration)? {
                let key = "meta_judge.pairs";
                let rubric = &set.rubric.record.info.name;
                return Err(RunError::BadValue {
                    place: loaded.place(key),
                    key: key.into(),
                    found: format!("true in iteration {iteration}"),
                    expected: format!(
                        "false with rubric `{rubric}`, which judges a response beside another one: two judgments of a \
                         response do not answer the same question, so they cannot meet"
                    ),
                });
            }
        }
        Ok(())
    }
}

fn make_task(loaded: &Loaded, registry: &Registry) -> Result<Bound<dyn Task>, RunError> {
    let section = &loaded.config.task;
    if section.plugin == files_task::NAME {
        return files_task::bind(loaded);
    }
    let task = loaded.plugin(registry, Kind::Task, "task", section)?;
    bind(loaded, &task, 0, |source, options| registry.task(source, options))
}

fn bind<P: ?Sized>(
    loaded: &Loaded,
    Chosen { source, used }: &Chosen,
    index: usize,
    make: impl FnOnce(&Source, &Value) -> Result<Box<P>, HostError>,
) -> Result<Bound<P>, RunError> {
    let record = used
        .iterations
        .get(index)
        .cloned()
        .ok_or_else(|| RunError::Bug(format!("{} has no options for iteration {}", used.section, index + 1)))?;
    let made = make(source, &record.options).map_err(|error| RunError::PluginConfig {
        place: loaded.place(&format!("{}.options", used.section)),
        key: used.section.clone(),
        message: error.to_string(),
    })?;
    Ok(Bound { record, plugin: made })
}
