//! The stages of a run. Each is a [`Work`]: what a shard depends on, how it is made, what the records show. Everything
//! else, from reuse to statistics, is [`Context::stage`].

pub(crate) mod closing;
pub(crate) mod draws;
pub(crate) mod evaluate;
pub(crate) mod examples;
pub(crate) mod judge;
pub(crate) mod meta;
pub(crate) mod pairs;
pub(crate) mod prompts;
pub(crate) mod rate;
pub(crate) mod reference;
pub(crate) mod rehearsal;
pub(crate) mod respond;
pub(crate) mod train;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use metareward_api::{Generator, ModelCard, Task, Trainer};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use rehearsal::Rehearsal;

use crate::{
    Fingerprint, RunError,
    config::{Config, Loaded},
    events::{Journal, Origin, StageWatch},
    plugins::{Bound, Plugins},
    seeds::Seeds,
    statistics::Statistics,
    store::{
        FORMAT, Model, Place, Stage, StageRecord, Store,
        shard::{self, Found},
        texts::{self, TextKey},
    },
};

/// Generators that play a role, by what the config calls their servers.
pub(crate) type Served<'a> = BTreeMap<String, Box<dyn Generator + 'a>>;

/// What every stage works with.
pub(crate) struct Context<'a> {
    pub loaded: &'a Loaded,
    pub plugins: &'a Plugins,
    pub task: &'a Bound<dyn Task>,
    pub store: &'a Store,
    pub journal: &'a Journal<'a>,
    pub generator: &'a mut dyn Generator,
    pub trainer: &'a mut dyn Trainer,
    /// Servers that play a role, by what the config calls them.
    pub served: Served<'a>,
    /// Folder of the model that the generator has loaded.
    pub in_generator: Option<PathBuf>,
    pub card: ModelCard,
    /// Where the shard at hand holds generated texts: what each text depends on, in order.
    pub keys: Vec<TextKey>,
    /// Where the loop goes through its stages and computes none: what it would compute.
    pub rehearsal: Option<Rehearsal>,
}

impl Context<'_> {
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    pub fn seeds(&self) -> Seeds {
        Seeds::new(self.config().seed)
    }

    /// Makes sure that the generator has this model.
    pub fn load(&mut self, model: &Path) -> Result<(), RunError> {
        if self.in_generator.as_deref() != Some(model) {
            self.in_generator = None;
            self.generator.load(model)?;
            self.in_generator = Some(model.to_owned());
        }
        Ok(())
    }

    /// The generator that has a drawer's model.
    pub fn generator(&mut self, drawer: &Drawer) -> Result<&mut dyn Generator, RunError> {
        match &drawer.served {
            None => {
                self.load(&drawer.model.folder)?;
                Ok(self.generator)
            }
            Some(addresses) => match self.served.get_mut(addresses) {
                Some(generator) => Ok(&mut **generator),
                None => Err(RunError::Bug(format!("nobody asks {addresses}"))),
            },
        }
    }

    /// Runs a stage: takes over the shards that are there, makes the others, and writes down what they show.
    pub fn stage<W: Work>(&mut self, mut work: W) -> Result<StageRecord, RunError> {
        self.journal.check()?;
        if let Some(mut rehearsal) = self.rehearsal.take() {
            let rehearsed = rehearsal.stage(self, &work);
            self.rehearsal = Some(rehearsal);
            return rehearsed;
        }
        let (place, stage) = (work.place().clone(), work.stage());
        let folder = self.store.stage_folder(&place, stage);
        let watch = StageWatch::begin(self.journal, &place, stage, work.shards() as u64);
        let mut shards = Vec::new();
        for index in 0..work.shards() {
            self.journal.check()?;
            let in_shard = |error: RunError| error.in_shard(&place, stage, index);
            let fingerprint = self.fingerprint(&work, index).map_err(in_shard)?;
            let found = shard::find(&self.store.disk, &folder, index, &fingerprint)?;
            if let Found::Damaged(path) = &found {
                self.journal.warn(Some(&place), format!("{path} is damaged; it was set aside and is made anew"));
            }
            let found = match found {
                Found::Whole(record, records) => Some((record, records, Origin::Kept)),
                Found::Damaged(_) | Found::Nothing => self
                    .store
                    .take_shard((&place, stage), index, &fingerprint)?
                    .map(|(record, records)| (record, records, Origin::TakenOver)),
            };
            let (record, records, origin) = match found {
                Some(found) => found,
                None => {
                    self.keys.clear();
                    let records = work.compute(self, index, &watch).map_err(in_shard)?;
                    let keys = std::mem::take(&mut self.keys);
                    let record = shard::write(&self.store.disk, &folder, index, &fingerprint, &records, &keys)?;
                    (record, records, Origin::Made)
                }
            };
            if origin != Origin::Kept {
                texts::forget(&self.store.disk, &folder, index)?;
            }
            work.count(self, index, &records).map_err(in_shard)?;
            shards.push(record);
            watch.shard(origin);
        }
        let records = shards.iter().map(|shard| shard.records).sum();
        let statistics = work.statistics();
        let fingerprint = Fingerprint::of(&json!([FORMAT, stage, shards]));
        let record =
            StageRecord { format: FORMAT, place, stage, fingerprint, shards, records, statistics: statistics.clone() };
        self.store.write_json(&folder.join("stage.json"), &record)?;
        watch.finish(records, statistics);
        Ok(record)
    }

    /// The fingerprint of everything that a shard depends on.
    fn fingerprint<W: Work>(&self, work: &W, shard: usize) -> Result<Fingerprint, RunError> {
        let dtype = &self.config().engine.dtype;
        let key = work.key(self, shard)?;
        Ok(Fingerprint::of(&json!({ "format": FORMAT, "stage": work.stage(), "dtype": dtype, "key": key })))
    }
}

/// One stage: its shards, and what each depends on.
pub(crate) trait Work {
    /// What the shards hold.
    type Record: Serialize + DeserializeOwned;

    /// Part of the run.
    fn place(&self) -> &Place;

    /// The stage.
    fn stage(&self) -> Stage;

    /// Number of shards.
    fn shards(&self) -> usize;

    /// Everything that the records of a shard depend on.
    fn key(&self, cx: &Context<'_>, shard: usize) -> Result<Value, RunError>;

    /// Makes the records of a shard.
    fn compute(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        watch: &StageWatch<'_>,
    ) -> Result<Vec<Self::Record>, RunError>;

    /// Sees the records of every shard, made now or before, in order.
    fn count(&mut self, _cx: &Context<'_>, _shard: usize, _records: &[Self::Record]) -> Result<(), RunError> {
        Ok(())
    }

    /// What the records showed.
    fn statistics(&mut self) -> Statistics {
        Statistics::Records
    }
}

/// Hash of the content of a shard made earlier: what a later shard depends on.
pub(crate) fn upstream(stage: &StageRecord, shard: usize) -> Result<&str, RunError> {
    let found = stage.shards.get(shard).map(|record| record.blake3.as_str());
    found.ok_or_else(|| RunError::Bug(format!("{} of {} has no shard {shard}", stage.stage, stage.place)))
}

/// The model that draws, and from which random streams.
#[derive(Clone)]
pub(crate) struct Drawer {
    pub model: Model,
    /// The servers that have it, where it is none of this run's.
    pub served: Option<String>,
    /// Iteration in the seeds; 0 in evaluation.
    pub iteration: u32,
    pub seeds: Seeds,
}
