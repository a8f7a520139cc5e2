//! A run from its config to its last model.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use metareward_api::{
    Example, Generator, MetaJudgeItem, ModelCard, PositionWins, Prompt, RubricItem, SamplerItem, Scale, Trainer,
};
use metareward_host::{HostError, Registry, Settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    AcceptedChange, Config, Disk, Event, Fingerprint, Layers, Loaded, Model, Observer, Place, Plan, PluginUse, Purpose,
    Reference, RolesSection, RunError, Schedule, Seeds, Unobserved, card, changes,
    events::{Journal, seconds},
    fingerprint::model_fingerprint,
    iterate::{History, iterate},
    plan::{self, PlanRequest, model_shape, shape_of},
    plugins::Plugins,
    stages::{
        Context,
        evaluate::{HeldOut, evaluate},
        examples::{self, ExampleCounts, Examples},
        prompts::{Pool, Prompts},
        rehearsal::{NoEngine, Rehearsal, Rehearsed},
        train::{Data, Training, train},
    },
    store::{FORMAT, Neighbours, Store},
};

/// An experiment whose config is checked and whose plugins are made.
pub struct Experiment {
    loaded: Loaded,
    plugins: Plugins,
}

/// The two engines that a run works with.
pub struct Engines<'a> {
    /// Continues conversations.
    pub generator: &'a mut dyn Generator,
    /// Computes log-probabilities and trains.
    pub trainer: &'a mut dyn Trainer,
    /// One for each name of servers in `[roles]`, by that name; see [`Experiment::served_roles`]. Their models are never
    /// loaded here.
    pub served: BTreeMap<String, Box<dyn Generator + 'a>>,
}

/// Where and how an experiment is run.
pub struct RunRequest<'a> {
    /// The run folder; made where it is not there.
    pub folder: PathBuf,
    /// The seed model's folder.
    pub model: PathBuf,
    /// Sees what happens, and may ask to stop.
    pub observer: &'a dyn Observer,
    /// Time of day, for logs alone.
    pub clock: fn() -> SystemTime,
    /// How files are written.
    pub disk: Disk,
    /// What computes (libtorch, device …), for the record.
    pub machine: BTreeMap<String, String>,
    /// Goes on in a run folder that was made with other plugins: another name, version, form or hash. What depends on them
    /// is computed again; texts that were asked for in the same words stay.
    pub accept_changed_plugins: bool,
    /// Folders of other runs. A shard or a model that this run needs, and that one of them has with the same
    /// fingerprint, is linked or copied from there instead of computed. Runs with another `[engine]` are passed over.
    pub share: Vec<PathBuf>,
}

/// run.json: what ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of the run folder's format.
    pub format: u32,
    /// Version of metareward.
    pub version: String,
    /// Name of the experiment.
    pub name: String,
    /// The run's seed.
    pub seed: u64,
    /// The config as resolved: all layers, defaults included.
    pub config: Config,
    /// Every plugin with version, form, hash and options per iteration.
    pub plugins: Vec<PluginUse>,
    /// Scale of the first iteration's rubric: what full points are. Readers need not load the rubric for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric_scale: Option<Scale>,
    /// Plugins that were changed while the run went on, in the order in which that was accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin_changes: Vec<AcceptedChange>,
    /// The seed model.
    pub model: Model,
    /// What is known of it.
    pub card: ModelCard,
    /// Name of the model that the first iteration starts from, and whose responses every judge is measured on.
    pub base_model: String,
    /// What computes.
    pub machine: BTreeMap<String, String>,
}

/// What came out of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutcome {
    /// The models, from the seed to the last.
    pub models: Vec<Model>,
}

impl Experiment {
    /// Reads the config and makes the plugins. `registry` makes a registry with the settings of the config's
    /// `[plugins]`.
    ///
    /// # Errors
    /// Whatever is wrong with a layer, with a plugin's file or with its options. A task that cannot be made is no error
    /// yet: `plan` works without it, and `run` says what is wrong.
    pub fn open(
        layers: &Layers,
        registry: impl FnOnce(Settings) -> Result<Registry, HostError>,
    ) -> Result<Self, RunError> {
        let loaded = layers.load()?;
        let registry = registry(loaded.plugin_settings()).map_err(|error| RunError::PluginConfig {
            place: loaded.place("plugins"),
            key: "plugins".into(),
            message: error.to_string(),
        })?;
        let plugins = Plugins::make(&loaded, &registry)?;
        Ok(Self { loaded, plugins })
    }

    /// The config as resolved.
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    pub(crate) fn all_plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Every plugin with its options per iteration.
    pub fn plugins(&self) -> &[PluginUse] {
        &self.plugins.uses
    }

    /// The seed model's folder where the config names one; `None` where it names an id.
    pub fn model_folder(&self) -> Option<PathBuf> {
        self.loaded.config.model.path.as_ref().map(|path| self.loaded.folder.join(path))
    }

    /// What `[roles]` calls servers, each name once.
    pub fn served_roles(&self) -> Vec<String> {
        let RolesSection { actor, judge, meta_judge, .. } = &self.config().roles;
        let roles = [actor, judge, meta_judge].into_iter().flat_map(Schedule::values);
        let servers = roles.filter_map(|role| match role {
            Reference::Servers(addresses) => Some(addresses.clone()),
            _ => None,
        });
        servers.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The folder that the experiment's file lies in, which relative paths are relative to.
    pub fn folder(&self) -> &Path {
        &self.loaded.folder
    }

    /// Where the value of a key came from: a file, a variable, a `--set`, or the defaults.
    pub fn place(&self, key: &str) -> String {
        self.loaded.place(key)
    }

    /// Refuses a `model.path` where there is no folder.
    pub(crate) fn check_model_folder(&self) -> Result<(), RunError> {
        match self.model_folder().filter(|folder| !folder.is_dir()) {
            None => Ok(()),
            Some(folder) => Err(RunError::BadValue {
                place: self.loaded.place("model.path"),
                key: "model.path".into(),
                found: format!("{}, where there is no folder", folder.display()),
                expected: "a model folder; `metareward seed-model` makes the quickstart's".into(),
            }),
        }
    }

    /// Examples of the task, rendered with the rubric and the meta-judge of the first iteration: what a seed model is
    /// trained on, by its own seed.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn examples(&self, counts: ExampleCounts, seed: u64) -> Result<Vec<Example>, RunError> {
        let task = self.plugins.task.as_ref().map_err(Clone::clone)?;
        examples::draw(self.plugins.at(0)?, task, counts, Seeds::new(seed).stage(0, Purpose::Task, &[]))
    }

    /// What a run will cost. Works without weights: from `config.json` in the model's folder, or from `[model.shape]`.
    /// With a generator that has the model loaded, prompts are counted in its tokens.
    ///
    /// # Errors
    /// When neither a model's shape nor its folder is known.
    pub fn plan(&self, model: Option<&Path>, generator: Option<&mut dyn Generator>) -> Result<Plan, RunError> {
        let model = model.map(model_shape).transpose()?;
        self.plan_for(PlanRequest { model, generator, ..PlanRequest::default() })
    }

    /// What a run will cost, with more said of what it is planned for.
    ///
    /// # Errors
    /// As [`Experiment::plan`].
    pub fn plan_for(&self, mut request: PlanRequest<'_>) -> Result<Plan, RunError> {
        let model = match (request.model.take(), &self.config().model.shape, self.model_folder()) {
            (Some(shape), ..) => shape,
            (None, Some(shape), _) => shape.clone(),
            (None, None, Some(folder)) => model_shape(&folder)?,
            (None, None, None) => {
                return Err(RunError::BadValue {
                    place: self.loaded.place("model"),
                    key: "model.shape".into(),
                    found: "missing".into(),
                    expected: "given, as the model is an id that has not been fetched".into(),
                });
            }
        };
        plan::plan(&self.loaded, &self.plugins, &model, request)
    }

    /// Runs the experiment, or goes on with it where it stopped.
    ///
    /// # Errors
    /// All bad input is refused before anything is computed. [`RunError::ChangedPlugins`] when the folder was made with
    /// other plugins and the request does not accept that. [`RunError::NoPairs`] when an iteration leaves nothing to
    /// train on; [`RunError::Stopped`] when the observer asked for it.
    pub fn run(&self, request: &RunRequest<'_>, engines: Engines<'_>) -> Result<RunOutcome, RunError> {
        let task = self.plugins.task.as_ref().map_err(Clone::clone)?;
        // A folder that is there is locked first: no one should wait for a model to be told that it is in use.
        let open = || Store::open(&request.folder, &self.config().name, request.disk.clone());
        let store = request.folder.exists().then(open).transpose()?;
        let (mut plugin_changes, changes) = changes::since(&request.folder, &self.plugins.uses)?;
        if !changes.is_empty() && !request.accept_changed_plugins {
            return Err(RunError::ChangedPlugins { folder: request.folder.clone(), changes });
        }
        let pool = Pool::draw(self.config(), task)?;
        let model = Model { name: "seed".into(), ..named_model(&request.model)? };
        let card = engines.generator.load(&model.folder)?;
        self.check_templates(&pool)?;
        self.check_lengths(&pool, &card, engines.generator)?;

        let resumed = request.folder.join("run.json").exists();
        let mut store = match store {
            Some(store) => store,
            None => open()?,
        };
        store.neighbours = Neighbours::of(&request.share, &request.folder, self.config());
        if self.config().store.check_disk && !resumed {
            let request = PlanRequest { generator: Some(&mut *engines.generator), ..PlanRequest::default() };
            let plan = plan::plan(&self.loaded, &self.plugins, &shape_of(&card), request)?;
            check_disk(&store.folder, plan.disk_bytes)?;
        }
        let time = seconds((request.clock)());
        plugin_changes.extend(changes.iter().cloned().map(|change| AcceptedChange { time, change }));
        let record = RunRecord {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            name: self.config().name.clone(),
            seed: self.config().seed,
            config: self.config().clone(),
            plugins: self.plugins.uses.clone(),
            rubric_scale: Some(self.plugins.at(1)?.rubric.ask(|rubric| rubric.scale(), |_| String::new())?),
            plugin_changes,
            model: model.clone(),
            card: card.clone(),
            base_model: if self.config().sft.enabled { "sft" } else { "seed" }.into(),
            machine: request.machine.clone(),
        };
        store.write_json(&store.folder.join("run.json"), &record)?;
        let journal = Journal::open(&store.folder, &store.disk, request.observer, request.clock)?;
        let started = journal.now();
        let name = record.name;
        journal.tell(&Event::RunStarted { name, folder: store.folder.clone(), resumed });
        for change in &changes {
            journal.warn(None, format!("going on with another plugin: {change}"));
        }
        let mut cx = Context {
            loaded: &self.loaded,
            plugins: &self.plugins,
            task,
            store: &store,
            journal: &journal,
            generator: engines.generator,
            trainer: engines.trainer,
            served: engines.served,
            in_generator: Some(model.folder.clone()),
            card,
            keys: Vec::new(),
            rehearsal: None,
        };
        // A log that could not be written stops the engine, which then says no more than that it was stopped.
        let outcome = match all(&mut cx, pool, model) {
            outcome @ (Ok(_) | Err(RunError::Stopped)) => journal.failure().map_or(outcome, Err),
            failed => failed,
        };
        match &outcome {
            Ok(_) => journal.tell(&Event::RunFinished { seconds: journal.now() - started }),
            Err(error) => {
                journal.tell(&Event::RunFailed { message: error.to_string(), exit_code: error.exit_code() });
            }
        }
        journal.flush();
        outcome.map(|models| RunOutcome { models })
    }

    /// Goes through the loop without computing: every stage with the fingerprints that tell where two runs are the same.
    ///
    /// # Errors
    /// When the task cannot be made or refuses, or the pool of prompts is too small.
    pub(crate) fn rehearse(&self) -> Result<Vec<Rehearsed>, RunError> {
        let task = self.plugins.task.as_ref().map_err(Clone::clone)?;
        let pool = Pool::draw(self.config(), task)?;
        let section = &self.config().model;
        let named = json!([self.model_folder(), section.id, section.revision]);
        let model = Model { name: "seed".into(), folder: PathBuf::new(), fingerprint: Fingerprint::of(&named) };
        let store = Store::nowhere();
        let journal = Journal::unwritten(&Unobserved, || SystemTime::UNIX_EPOCH);
        let mut cx = Context {
            loaded: &self.loaded,
            plugins: &self.plugins,
            task,
            store: &store,
            journal: &journal,
            generator: &mut NoEngine,
            trainer: &mut NoEngine,
            served: BTreeMap::new(),
            in_generator: None,
            // Of the model, only its context counts in a fingerprint, and it is the model's as much as its name is.
            card: ModelCard {
                architecture: String::new(),
                parameters: 0,
                context: u32::MAX,
                vocabulary: 0,
                cache_bytes_per_token: 0,
                layers: 0,
                hidden: 0,
            },
            keys: Vec::new(),
            rehearsal: Some(Rehearsal::default()),
        };
        all(&mut cx, pool, model)?;
        Ok(cx.rehearsal.take().unwrap_or_default().stages)
    }

    /// Renders each template once, so that one that fails does so before anything is computed.
    fn check_templates(&self, pool: &Pool) -> Result<(), RunError> {
        let sample = pool.used(self.config())?;
        let Some(prompt) = sample.first() else { return Ok(()) };
        for iteration in 1..=self.config().iterations {
            let plugins = self.plugins.at(iteration)?;
            let name = |_: usize| format!("prompt {}", prompt.id);
            let opponent = plugins.compares.then_some("Another response.");
            let item = RubricItem { prompt: &prompt.text, response: "A response.", opponent };
            plugins.rubric.ask_each(1, |rubric, _| rubric.render(&[item]), name)?;
            let criteria = plugins.rubric.ask(|rubric| rubric.criteria(), name)?;
            let item = MetaJudgeItem {
                prompt: &prompt.text,
                response: "A response.",
                criteria: &criteria,
                first: "A judgment.",
                second: "Another judgment.",
            };
            plugins.meta_judge.ask_each(1, |meta, _| meta.render(&[item]), name)?;
        }
        Ok(())
    }

    /// Refuses prompts that leave no room for an answer, or for a judgment of an empty one.
    fn check_lengths(&self, pool: &Pool, card: &ModelCard, generator: &mut dyn Generator) -> Result<(), RunError> {
        let plugins = self.plugins.at(1)?;
        let own_judge = self.config().roles.judge.values().iter().any(|judge| !matches!(judge, Reference::Servers(_)));
        for prompts in pool.used(self.config())?.chunks(256) {
            let conversations: Vec<_> = prompts.iter().map(Prompt::messages).collect();
            let counts = generator.count_tokens(&conversations)?;
            too_long("the prompt", prompts, &counts, card)?;
            let opponent = plugins.compares.then_some("");
            let items: Vec<RubricItem<'_>> =
                prompts.iter().map(|prompt| RubricItem { prompt: &prompt.text, response: "", opponent }).collect();
            let name =
                |item: usize| prompts.get(item).map_or_else(String::new, |prompt| format!("prompt {}", prompt.id));
            let conversations = plugins.rubric.ask_each(
                items.len(),
                |rubric, range| rubric.render(items.get(range).unwrap_or_default()),
                name,
            )?;
            // A judge from outside has a context of its own, which is not known here.
            if own_judge {
                let counts = generator.count_tokens(&conversations)?;
                too_long("the judge's question about it", prompts, &counts, card)?;
            }
        }
        // A sampler's first plan shows options that it cannot work with.
        let item = SamplerItem { characters: 100, draws: 1 };
        for sampler in [&plugins.actor_sampler, &plugins.judge_sampler, &plugins.meta_sampler] {
            sampler.ask(|sampler| sampler.plan(std::slice::from_ref(&item)), |_| "a sample".into())?;
        }
        Ok(())
    }
}

fn too_long(what: &str, prompts: &[Prompt], counts: &[u32], card: &ModelCard) -> Result<(), RunError> {
    match prompts.iter().zip(counts).find(|(_, count)| **count >= card.context) {
        None => Ok(()),
        Some((prompt, count)) => Err(RunError::Input {
            place: format!("prompt {}", prompt.id),
            message: format!(
                "{what} has {count} tokens and the model's context is {}, which leaves no room for an answer; remove or \
                 shorten it",
                card.context
            ),
        }),
    }
}

/// A model folder that is not one of the run's own.
pub(crate) fn named_model(folder: &Path) -> Result<Model, RunError> {
    let broken =
        |message: String| RunError::Engine(metareward_api::EngineError::Model { folder: folder.to_owned(), message });
    if !folder.is_dir() {
        return Err(broken("there is no such folder".into()));
    }
    let fingerprint: Fingerprint = model_fingerprint(folder)?;
    // Absolute, so that the record does not depend on where a command was started.
    let folder = fs::canonicalize(folder).map_err(|error| RunError::io(folder, &error))?;
    Ok(Model { name: "reference".into(), folder, fingerprint })
}

fn check_disk(folder: &Path, needed: u64) -> Result<(), RunError> {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        // Some file systems do not say; the run will, when it is full.
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed { Err(RunError::DiskTooSmall { folder: folder.to_owned(), free, needed }) } else { Ok(()) }
}

/// SFT, the iterations, and the measuring of every model.
fn all(cx: &mut Context<'_>, pool: Pool, seed: Model) -> Result<Vec<Model>, RunError> {
    let config = cx.config().clone();
    cx.journal.tell(&Event::ModelReady { model: seed.clone() });
    let mut held_out = match config.evaluation.prompts {
        0 => None,
        _ => {
            let place = Place::Evaluation("held-out".into());
            let shard_size = config.prompts.shard_size as usize;
            let prompts = cx.stage(Prompts { place, prompts: pool.held_out(), shard_size })?;
            Some(HeldOut { prompts, base: None })
        }
    };
    let mut models = vec![seed.clone()];
    let initial = match config.sft.enabled {
        false => seed.clone(),
        true => {
            let examples = Examples::draw(cx)?;
            let examples = cx.stage(examples)?;
            let sft = train(
                cx,
                &Training {
                    place: Place::Sft,
                    iteration: 0,
                    name: "sft".into(),
                    from: seed.clone(),
                    section: config.sft.train.clone(),
                    judge_share: 1.0,
                    data: Data::Sft(&examples),
                },
            )?;
            models.push(sft.clone());
            card::write(cx, &Place::Sft, &sft, &seed)?;
            sft
        }
    };
    // The initial model first: its responses are what every judge is measured on.
    if let Some(held_out) = &mut held_out {
        evaluate(cx, held_out, &initial)?;
        if config.sft.enabled {
            // Once more, with what was measured.
            card::write(cx, &Place::Sft, &initial, &seed)?;
            evaluate(cx, held_out, &seed)?;
        }
    }
    let mut history = History { pool, initial: initial.clone(), pairs: Vec::new(), wins: PositionWins::default() };
    let mut model = initial;
    for t in 1..=config.iterations {
        let made = iterate(cx, t, &model, &mut history)?;
        let parent = std::mem::replace(&mut model, made);
        models.push(model.clone());
        if let Some(held_out) = &mut held_out {
            evaluate(cx, held_out, &model)?;
        }
        card::write(cx, &Place::Iteration(t), &model, &parent)?;
    }
    Ok(models)
}
