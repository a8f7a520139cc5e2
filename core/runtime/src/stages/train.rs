//! Training the next model: the order of the examples, the trainer's call, the choice of a checkpoint, publication.

use std::path::{Path, PathBuf};

use metareward_api::{
    EngineError, Example, Optimizer, Pair, PairKind, PreferenceData, PreferenceExample, SftData, TrainData, TrainJob,
    TrainReport, TrainSettings,
};
use serde_json::json;

use super::{
    Context,
    reference::{ReferenceLogProbs, name},
};
use crate::{
    Fingerprint, RunError,
    batches::Order,
    config::{Checkpoints, Keep, TrainSection},
    events::{Event, StageWatch},
    lines::Lines,
    plugins::Bound,
    seeds::{Purpose, Seeds},
    statistics::{EpochStatistics, Statistics, TrainingStatistics},
    store::{FORMAT, Model, Place, Stage, StageRecord, disk, models},
};

/// One training run as the loop sees it.
pub(crate) struct Training<'a> {
    pub place: Place,
    /// Iteration; 0 for SFT.
    pub iteration: u32,
    /// Name of the model to be made.
    pub name: String,
    /// Where it starts.
    pub from: Model,
    pub section: TrainSection,
    pub judge_share: f64,
    pub data: Data<'a>,
}

/// What is trained on, by the stages that hold it.
pub(crate) enum Data<'a> {
    Sft(&'a StageRecord),
    Preference {
        /// Pair stages with the index of a shard in each, and the same for their reference log-probabilities.
        pairs: &'a [(&'a StageRecord, usize)],
        /// `None` where the loss needs no reference.
        reference: Option<&'a StageRecord>,
        optimizer: &'a Bound<dyn Optimizer>,
    },
}

impl Training<'_> {
    fn epochs(&self) -> Result<u32, RunError> {
        self.value(&self.section.epochs)
    }

    fn value<T: Copy>(&self, schedule: &crate::Schedule<T>) -> Result<T, RunError> {
        let value = schedule.at(self.iteration.max(1)).copied();
        value.ok_or_else(|| RunError::Bug(format!("a training schedule has no value for {}", self.place)))
    }

    /// Everything that the model depends on.
    fn fingerprint(&self, cx: &Context<'_>, keep: Keep) -> Result<Fingerprint, RunError> {
        let section = &self.section;
        let data = match &self.data {
            Data::Sft(examples) => json!({ "examples": hashes(&examples.shards) }),
            Data::Preference { pairs, reference, optimizer } => {
                let mut of_pairs = Vec::new();
                for (stage, shard) in *pairs {
                    of_pairs.push(super::upstream(stage, *shard)?);
                }
                let reference = reference.map(|stage| hashes(&stage.shards));
                json!({ "pairs": of_pairs, "reference": reference, "optimizer": optimizer.identity() })
            }
        };
        let mut key = json!({
            "format": FORMAT,
            "dtype": cx.config().engine.dtype,
            "model": self.from.fingerprint,
            "data": data,
            "seeds": [
                cx.seeds().stage(self.iteration, Purpose::TrainingOrder, &[]),
                cx.seeds().stage(self.iteration, Purpose::Validation, &[]),
            ],
            "epochs": self.epochs()?,
            "keep": keep,
            "batch_size": self.value(&section.batch_size)?,
            "judge_share": self.judge_share,
            "validation_share": section.validation_share,
            "settings": self.settings(cx, 0, 0)?,
        });
        // Where there is none, fingerprints are what they were before there could be one.
        if let (Some(command), Some(key)) = (&section.command, key.as_object_mut()) {
            key.insert("command".into(), json!(command));
        }
        Ok(Fingerprint::of(&key))
    }

    fn settings(&self, cx: &Context<'_>, warmup_steps: u32, schedule_steps: u32) -> Result<TrainSettings, RunError> {
        let section = &self.section;
        Ok(TrainSettings {
            learning_rate: self.value(&section.learning_rate)?,
            lr_schedule: section.lr_schedule,
            warmup_steps,
            schedule_steps,
            weight_decay: section.weight_decay,
            adam_beta1: section.adam_beta1,
            adam_beta2: section.adam_beta2,
            adam_epsilon: section.adam_epsilon,
            max_grad_norm: section.max_grad_norm,
            max_length: max_length(cx, section),
            micro_batch_tokens: section.micro_batch_tokens,
            activation_checkpointing: section.activation_checkpointing,
            lora: section.lora.clone(),
            save_steps: section.save_steps,
            weights: section.weights,
            optimizer_state: section.optimizer_state,
            gradients: section.gradients,
        })
    }
}

/// The longest training sequence: as configured, and never more than the model's context.
pub(crate) fn max_length(cx: &Context<'_>, section: &TrainSection) -> u32 {
    section.max_length.min(cx.card.context)
}

fn hashes(shards: &[crate::ShardRecord]) -> Vec<&str> {
    shards.iter().map(|shard| shard.blake3.as_str()).collect()
}

/// Trains, or takes the model that this very training made before, in this run or in a neighbour.
pub(crate) fn train(cx: &mut Context<'_>, training: &Training<'_>) -> Result<Model, RunError> {
    cx.journal.check()?;
    let keep = training.value(&training.section.keep)?;
    let fingerprint = training.fingerprint(cx, keep)?;
    if let Some(rehearsal) = &mut cx.rehearsal {
        return Ok(rehearsal.train(training, fingerprint));
    }
    let target = cx.store.folder.join(training.place.folder()).join("model");
    let watch = StageWatch::begin(cx.journal, &training.place, Stage::Training, 0);
    let checkpoints = cx.config().store.checkpoints;
    let take = || {
        cx.store.take_model(&training.place, &fingerprint, checkpoints, |run| {
            watch.taken_over();
            cx.journal.retell_steps(run, &training.place);
        })
    };
    let found = match cx.store.find_model(&target, &fingerprint)? {
        Some(note) => Some(note),
        None => take()?,
    };
    let note = match found {
        Some(note) => note,
        None => {
            let (report, statistics) = run(cx, training, keep, &fingerprint, &watch)?;
            let chosen = report.epochs.iter().find(|epoch| epoch.epoch == statistics.kept);
            let source = chosen.map(|epoch| epoch.folder.clone()).ok_or_else(|| {
                RunError::Engine(EngineError::Machine("the trainer gave no checkpoint of the epoch to keep".into()))
            })?;
            let kept = statistics.kept;
            cx.store.publish_model(&source, &target, &fingerprint, kept, statistics)?
        }
    };
    let statistics = Statistics::Training(note.report.clone());
    let record = StageRecord {
        format: FORMAT,
        place: training.place.clone(),
        stage: Stage::Training,
        fingerprint,
        shards: Vec::new(),
        records: note.report.examples,
        statistics: statistics.clone(),
    };
    let folder = cx.store.stage_folder(&training.place, Stage::Training);
    if checkpoints == Checkpoints::Kept && models::owns(&folder, &record.fingerprint) {
        // The model is published and needs none of these; what it is linked to stays.
        for path in disk::entries(&folder)?.into_iter().filter(|path| path.is_dir()) {
            cx.store.disk.remove_folder(&path)?;
        }
    }
    cx.store.write_json(&folder.join("stage.json"), &record)?;
    watch.finish(note.report.examples, statistics);
    // The generator may still have the folder's former model.
    if cx.in_generator.as_ref() == Some(&target) {
        cx.in_generator = None;
    }
    let model = Model { name: training.name.clone(), folder: target, fingerprint: note.model };
    cx.journal.tell(&Event::ModelReady { model: model.clone() });
    Ok(model)
}

fn run(
    cx: &mut Context<'_>,
    training: &Training<'_>,
    keep: Keep,
    fingerprint: &Fingerprint,
    watch: &StageWatch<'_>,
) -> Result<(TrainReport, TrainingStatistics), RunError> {
    let folder = cx.store.stage_folder(&training.place, Stage::Training);
    own_folder(cx, &folder, fingerprint)?;
    let epochs = training.epochs()?;
    let batch_size = training.value(&training.section.batch_size)?;
    let share = training.section.validation_share;
    let seeds = cx.seeds();
    let order = Order {
        seeds,
        iteration: training.iteration,
        batch_size,
        epochs: match keep {
            Keep::Epoch(epoch) => epoch.min(epochs),
            Keep::Last | Keep::Best => epochs,
        },
        judge_share: training.judge_share,
    };
    let source = match &training.data {
        Data::Sft(examples) => Source::Sft(SftLines(Lines::index(files(cx, &whole(examples)), |_| {})?)),
        Data::Preference { pairs, reference, optimizer } => {
            Source::Preference(PairLines::index(cx, pairs, *reference)?, &*optimizer.plugin)
        }
    };
    let (trained, validation) = source.split(seeds, training.iteration, share)?;
    let laid_out = order.epochs(&trained, &|index| source.kind(index));
    let per_epoch = laid_out.first().map_or(0, Vec::len);
    let schedule_steps = u32::try_from(per_epoch).unwrap_or(u32::MAX).saturating_mul(epochs);
    let warmup_steps = (training.section.warmup_ratio * f64::from(schedule_steps)).ceil() as u32;
    let of_kind = |kind| trained.iter().filter(|index| source.kind(**index) == Some(kind)).count() as u64;
    let mut statistics = TrainingStatistics {
        examples: trained.len() as u64,
        actor_pairs: of_kind(PairKind::Actor),
        judge_pairs: of_kind(PairKind::Judge),
        validation: validation.len() as u64,
        ..TrainingStatistics::default()
    };
    if training.judge_share < 1.0 && statistics.actor_pairs == 0 && statistics.judge_pairs > 0 {
        cx.journal.warn(Some(&training.place), "there are judge pairs alone, so pairs.judge_share does not apply");
    }
    let job = TrainJob {
        model: training.from.folder.clone(),
        folder,
        fingerprint: fingerprint.to_string(),
        iteration: training.iteration,
        data: source.data(),
        epochs: laid_out,
        validation,
        settings: training.settings(cx, warmup_steps, schedule_steps)?,
    };
    let report = cx.trainer.train(&job, watch)?;
    if report.truncated > 0 {
        let message = format!(
            "{} training examples were cut at max_length, {} tokens",
            report.truncated, job.settings.max_length
        );
        cx.journal.warn(Some(&training.place), message);
    }
    statistics.steps = report.steps;
    statistics.first_loss = report.first_loss;
    statistics.truncated = report.truncated;
    statistics.epochs = report
        .epochs
        .iter()
        .map(|epoch| EpochStatistics {
            epoch: epoch.epoch,
            train_loss: epoch.train_loss,
            validation_loss: epoch.validation_loss,
        })
        .collect();
    statistics.kept = choose(keep, &statistics.epochs).unwrap_or(job.epochs.len() as u32);
    Ok((report, statistics))
}

/// The epoch whose checkpoint is kept. Equal validation losses: the earlier one.
fn choose(keep: Keep, epochs: &[EpochStatistics]) -> Option<u32> {
    match keep {
        Keep::Epoch(epoch) => Some(epoch),
        Keep::Last => epochs.last().map(|epoch| epoch.epoch),
        Keep::Best => epochs
            .iter()
            .filter_map(|epoch| Some((epoch.validation_loss?, epoch.epoch)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, epoch)| epoch),
    }
}

/// Gives the training folder to this job. What another job left is removed, not overwritten: its checkpoints may be
/// linked to a model that is kept.
fn own_folder(cx: &Context<'_>, folder: &Path, fingerprint: &Fingerprint) -> Result<(), RunError> {
    if !models::owns(folder, fingerprint) {
        if folder.exists() {
            cx.store.disk.remove_folder(folder)?;
        }
        cx.store.write_json(&folder.join("job.json"), &models::owner(fingerprint))?;
    }
    Ok(())
}

/// The files of stage shards.
fn files(cx: &Context<'_>, shards: &[(&StageRecord, usize)]) -> Vec<PathBuf> {
    shards
        .iter()
        .filter_map(|(stage, shard)| {
            Some(cx.store.stage_folder(&stage.place, stage.stage).join(&stage.shards.get(*shard)?.file))
        })
        .collect()
}

/// All shards of a stage.
pub(crate) fn whole(stage: &StageRecord) -> Vec<(&StageRecord, usize)> {
    (0..stage.shards.len()).map(|shard| (stage, shard)).collect()
}

enum Source<'a> {
    Sft(SftLines),
    Preference(PairLines, &'a dyn Optimizer),
}

impl Source<'_> {
    fn data(&self) -> TrainData<'_> {
        match self {
            Source::Sft(lines) => TrainData::Sft(lines),
            Source::Preference(lines, optimizer) => TrainData::Preference { data: lines, optimizer: *optimizer },
        }
    }

    fn kind(&self, index: u32) -> Option<PairKind> {
        match self {
            Source::Sft(_) => None,
            Source::Preference(lines, _) => lines.small.get(index as usize).map(|small| small.kind),
        }
    }

    /// Indices to train on and indices held out. What belongs to one prompt stays together.
    fn split(&self, seeds: Seeds, iteration: u32, share: f64) -> Result<(Vec<u32>, Vec<u32>), RunError> {
        let count = match self {
            Source::Sft(lines) => lines.0.len(),
            Source::Preference(lines, _) => lines.lines.len(),
        };
        if share == 0.0 {
            return Ok(((0..count).collect(), Vec::new()));
        }
        // The groups with the lowest seeds are held out: at least one, and never all.
        let group = |index: u32| match self {
            Source::Sft(_) => seeds.stage(iteration, Purpose::Validation, &[index]),
            Source::Preference(lines, _) => lines.small.get(index as usize).map_or(0, |small| small.group),
        };
        let mut groups: Vec<u64> = (0..count).map(group).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.len() < 2 {
            let message = "there is too little to hold some out; set validation_share = 0".into();
            return Err(RunError::Input { place: "validation_share".into(), message });
        }
        let held = ((groups.len() as f64 * share).round() as usize).clamp(1, groups.len() - 1);
        let limit = groups.get(held).copied().unwrap_or(u64::MAX);
        Ok((0..count).partition(|index| group(*index) >= limit))
    }
}

struct SftLines(Lines<Example>);

impl SftData for SftLines {
    fn len(&self) -> u32 {
        self.0.len()
    }

    fn example(&self, index: u32) -> Result<Example, EngineError> {
        self.0.get(index)
    }
}

/// Pairs on disk with what of them is small in memory.
struct PairLines {
    lines: Lines<Pair>,
    small: Vec<SmallPair>,
}

struct SmallPair {
    kind: PairKind,
    /// Seed of the pair's prompt, for validation.
    group: u64,
    chosen: f64,
    rejected: f64,
}

impl PairLines {
    fn index(
        cx: &Context<'_>,
        pairs: &[(&StageRecord, usize)],
        reference: Option<&StageRecord>,
    ) -> Result<Self, RunError> {
        let seeds = cx.seeds();
        let mut small = Vec::new();
        let lines = Lines::index(files(cx, pairs), |pair: Pair| {
            let group = seeds.prompt(0, Purpose::Validation, &pair.prompt, &[]);
            small.push(SmallPair { kind: pair.kind, group, chosen: 0.0, rejected: 0.0 });
        })?;
        if let Some(reference) = reference {
            let mut filled = 0;
            for shard in 0..reference.shards.len() {
                for measured in cx.store.read::<ReferenceLogProbs>(reference, shard)? {
                    if let Some(pair) = small.get_mut(filled) {
                        (pair.chosen, pair.rejected) = (measured.chosen, measured.rejected);
                    }
                    filled += 1;
                }
            }
            if filled != small.len() {
                return Err(RunError::Bug(format!("{} pairs have {filled} reference log-probabilities", small.len())));
            }
        }
        Ok(Self { lines, small })
    }
}

impl PreferenceData for PairLines {
    fn len(&self) -> u32 {
        self.lines.len()
    }

    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        let pair = self.lines.get(index)?;
        let (reference_chosen, reference_rejected) =
            self.small.get(index as usize).map_or((0.0, 0.0), |small| (small.chosen, small.rejected));
        Ok(PreferenceExample {
            id: name(&pair),
            messages: pair.messages,
            chosen: pair.chosen.text,
            rejected: pair.rejected.text,
            reference_chosen,
            reference_rejected,
            weight: pair.weight,
        })
    }
}
