//! How long a run takes, what that costs, and what binds: from what `metareward bench engine` measured or, where nothing
//! was measured, from what a card's maker says of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    EngineFigures, Plan, RankMemory, Sharding, StageCost,
    cards::{self, Card},
    memory,
};
use crate::{Place, Stage};

/// Processor time of the one thread that sends requests to servers and takes their answers, for each: connection, JSON, the
/// answer's line on disk, decisions. Measured on two cores: 42 µs and 4 µs (`core/remote`, test `simulation`), rounded up.
pub const HANDLING_SECONDS: f64 = 60e-6;
/// Tokens of a pass of the engine in this process on a GPU.
const ENGINE_ROWS: f64 = 1024.0;
/// Answers at once of a server, as vLLM and SGLang have it by default.
const SERVER_ROWS: f64 = 256.0;

/// How a run is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// One process, one GPU.
    InProcess,
    /// Servers generate; the trainer has the same number of GPUs.
    Servers,
    /// A process per GPU, started by torchrun.
    Torchrun,
}

/// What a plan's time is predicted for.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// How the run is set up.
    pub form: Form,
    /// GPUs that generate, and GPUs that train: the same ones or as many others.
    pub gpus: u32,
    /// What was measured.
    pub figures: Option<EngineFigures>,
    /// The card, where nothing was measured, and for its memory.
    pub card: Option<&'static Card>,
    /// Price of a GPU for an hour.
    pub gpu_hour: Option<f64>,
}

/// What a stage's time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binds {
    /// Reading prompts: operations.
    Reading,
    /// Writing answers, as measured; what limits it was not.
    Writing,
    /// Writing answers: the bandwidth of the GPU's memory.
    Bandwidth,
    /// Writing answers: operations.
    Operations,
    /// Writing answers: keys and values fill the memory, and more answers at once would be faster.
    KeysAndValues,
    /// Writing answers: a call has too few of them for all GPUs; larger shards would be faster.
    FewAnswers,
    /// Log-probabilities and training: operations, or the rate measured.
    Training,
    /// Training: what the ranks send each other.
    Communication,
    /// Training: a step has fewer sequences than there are ranks.
    FewSequences,
    /// The thread that asks the servers.
    Coordinator,
    /// Loading and writing models.
    Loading,
}

impl fmt::Display for Binds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Binds::Reading => "reading prompts",
            Binds::Writing => "writing answers",
            Binds::Bandwidth => "memory bandwidth",
            Binds::Operations => "operations",
            Binds::KeysAndValues => "keys and values",
            Binds::FewAnswers => "answers per call",
            Binds::Training => "training",
            Binds::Communication => "communication",
            Binds::FewSequences => "sequences per step",
            Binds::Coordinator => "coordinator",
            Binds::Loading => "loading",
        })
    }
}

/// How long a stage takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Part of the run.
    pub place: Place,
    /// The stage.
    pub stage: Stage,
    /// Seconds in all.
    pub seconds: f64,
    /// Of them for loading and writing models, which more GPUs do not shorten.
    pub loading_seconds: f64,
    /// What most of the time is spent on.
    pub binds: Binds,
    /// Whether it rests on a data sheet or was scaled from another model, and not on a measurement of this one.
    pub estimated: bool,
}

/// Time of an iteration, or another part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceTime {
    /// Part of the run.
    pub place: Place,
    /// Seconds.
    pub seconds: f64,
    /// What it costs, where a price was given.
    pub cost: Option<f64>,
}

/// How long a run takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimePlan {
    /// How it is set up.
    pub form: Form,
    /// GPUs.
    pub gpus: u32,
    /// GPUs over which one copy of the model is cut for generation.
    pub gpus_per_copy: u32,
    /// Every stage that takes time.
    pub stages: Vec<StageTime>,
    /// The same by part of the run: SFT, iterations, evaluation.
    pub places: Vec<PlaceTime>,
    /// Seconds in all.
    pub seconds: f64,
    /// GPUs times hours.
    pub gpu_hours: f64,
    /// What it costs, where a price was given.
    pub cost: Option<f64>,
    /// How training is spread: the least sharded form that fits.
    pub sharding: Sharding,
    /// What a rank takes in each form of training.
    pub rank_memory: Vec<RankMemory>,
    /// What the figures rest on.
    pub notes: Vec<String>,
}

/// Seconds of a stage but for loading, what binds, and whether that is an estimate.
type Spent = (f64, Binds, bool);

struct Predictor<'a> {
    plan: &'a Plan,
    deployment: &'a Deployment,
    /// GPUs that work.
    gpus: f64,
    gpus_per_copy: f64,
    copies: f64,
    sharding: Sharding,
}

/// Predicts a plan's time.
///
/// # Errors
/// A sentence on what is missing or does not fit.
pub fn predict(plan: &Plan, deployment: &Deployment) -> Result<TimePlan, String> {
    let Deployment { form, figures, card, gpu_hour, .. } = deployment;
    if figures.is_none() && card.is_none() {
        return Err("neither figures of an engine nor a card are given".into());
    }
    let gpus = if *form == Form::InProcess { 1 } else { deployment.gpus.max(1) };
    let mut notes = Vec::new();
    if gpus < deployment.gpus {
        notes.push(format!(
            "one process uses one GPU: {} of {} would be idle",
            deployment.gpus - gpus,
            deployment.gpus
        ));
    }
    let gpus_per_copy = gpus_per_copy(plan, deployment, gpus)?;
    let rank_memory = memory::per_rank(plan, &plan.state, gpus, card.map(|card| card.memory));
    let sharding = match rank_memory.iter().find(|rank| rank.fits != Some(false)) {
        Some(rank) => rank.sharding,
        None => {
            notes.push(format!(
                "training does not fit {gpus} GPUs in any form: it needs at least {:.0} GB a rank",
                rank_memory.iter().map(|rank| rank.bytes).min().unwrap_or(0) as f64 / 1e9
            ));
            rank_memory.last().map_or(Sharding::None, |rank| rank.sharding)
        }
    };
    let copies = f64::from(gpus / gpus_per_copy).max(1.0);
    let (gpus_f, gpus_per_copy_f) = (f64::from(gpus), f64::from(gpus_per_copy));
    let predictor = Predictor { plan, deployment, gpus: gpus_f, gpus_per_copy: gpus_per_copy_f, copies, sharding };
    let stages: Vec<StageTime> = plan.stages.iter().filter_map(|cost| predictor.stage(cost)).collect();
    predictor.describe(&mut notes);
    let seconds: f64 = stages.iter().map(|stage| stage.seconds).sum();
    let price = |seconds: f64| gpu_hour.map(|price| seconds / 3600.0 * gpus_f * price);
    let mut places: Vec<PlaceTime> = Vec::new();
    for stage in &stages {
        match places.last_mut().filter(|last| last.place == stage.place) {
            Some(last) => last.seconds += stage.seconds,
            None => places.push(PlaceTime { place: stage.place.clone(), seconds: stage.seconds, cost: None }),
        }
    }
    places.iter_mut().for_each(|place| place.cost = price(place.seconds));
    Ok(TimePlan {
        form: *form,
        gpus,
        gpus_per_copy,
        stages,
        places,
        seconds,
        gpu_hours: seconds / 3600.0 * gpus_f,
        cost: price(seconds),
        sharding,
        rank_memory,
        notes,
    })
}

/// GPUs over which a copy is cut: the fewest, doubling, whose memory holds weights and a tenth as much again.
fn gpus_per_copy(plan: &Plan, deployment: &Deployment, gpus: u32) -> Result<u32, String> {
    let measured = deployment.figures.as_ref().map_or(1, |figures| figures.gpus.max(1));
    let Some(card) = deployment.card else { return Ok(measured) };
    let mut parts = measured;
    while plan.weight_bytes as f64 * 1.1 > 0.9 * card.memory as f64 * f64::from(parts) {
        parts *= 2;
        if deployment.form != Form::Servers {
            return Err(format!(
                "weights of {:.0} GB do not fit a {} beside keys and values, and this engine does not cut a model into parts \
                 for generation: servers do (--form servers)",
                plan.weight_bytes as f64 / 1e9,
                card.name
            ));
        }
        if parts > gpus {
            return Err(format!(
                "weights of {:.0} GB do not fit {gpus} GPUs of {:.0} GB",
                plan.weight_bytes as f64 / 1e9,
                card.memory as f64 / 1e9
            ));
        }
    }
    Ok(parts)
}

impl Predictor<'_> {
    fn stage(&self, cost: &StageCost) -> Option<StageTime> {
        let (work, binds, estimated) = match cost.stage {
            Stage::Responses | Stage::Judgments | Stage::Verdicts if cost.calls > 0 => self.generation(cost),
            Stage::Reference if cost.calls > 0 => self.log_probabilities(cost),
            Stage::Training if cost.calls > 0 => self.training(cost),
            _ => return None,
        };
        let loading = self.loading(cost);
        let binds = if loading > work { Binds::Loading } else { binds };
        Some(StageTime {
            place: cost.place.clone(),
            stage: cost.stage,
            seconds: work + loading,
            loading_seconds: loading,
            binds,
            estimated,
        })
    }

    /// How much larger the measured model was, and whether it was another.
    fn scale(&self, figures: &EngineFigures) -> (f64, bool) {
        let ratio = figures.model.parameters as f64 / self.plan.parameters.max(1) as f64;
        (ratio, figures.model.parameters != self.plan.parameters)
    }

    fn generation(&self, cost: &StageCost) -> Spent {
        let (reading, writing, binds, estimated) = match (&self.deployment.figures, self.deployment.card) {
            (Some(figures), _) => self.measured_generation(cost, figures),
            (None, Some(card)) => self.assumed_generation(cost, card),
            (None, None) => (0.0, 0.0, Binds::Writing, true),
        };
        let work = reading + writing;
        let binds = if reading > writing { Binds::Reading } else { binds };
        if self.deployment.form == Form::Servers {
            let coordinator = cost.calls as f64 * HANDLING_SECONDS;
            if coordinator > work {
                return (coordinator, Binds::Coordinator, estimated);
            }
        }
        (work, binds, estimated)
    }

    /// Seconds of reading and of writing, and what binds writing.
    fn measured_generation(&self, cost: &StageCost, figures: &EngineFigures) -> (f64, f64, Binds, bool) {
        let drawn = match cost.stage {
            Stage::Responses => &figures.responses,
            Stage::Verdicts => figures.verdicts.as_ref().unwrap_or(&figures.judgments),
            _ => &figures.judgments,
        };
        let (scale, other) = self.scale(figures);
        let units = self.gpus / f64::from(figures.gpus.max(1));
        // Conversations can have more in common than templates say: equal judgments, equal beginnings. What was measured of
        // that, in proportion to their length, is no less true of the run.
        let before = cost.load.context - cost.tokens_written as f64 / cost.calls.max(1) as f64 / 2.0;
        let each = drawn.tokens_read as f64 / drawn.answers.max(1) as f64 * before / drawn.prompt_tokens.max(1.0);
        let read = (cost.tokens_read as f64).min(cost.calls as f64 * each);
        let reading = read / (drawn.reading.median * scale * units).max(f64::MIN_POSITIVE);
        // Fewer answers at once than were measured are written no faster one by one. A CPU is busy with few.
        let share = match figures.device.to_lowercase().contains("cpu") {
            true => 1.0,
            false => {
                let rows = (drawn.answers as f64).min(ENGINE_ROWS);
                (cost.load.at_once as f64 / units / rows.max(1.0)).min(1.0)
            }
        };
        let writing =
            cost.tokens_written as f64 / (drawn.writing.median * scale * units * share).max(f64::MIN_POSITIVE);
        (reading, writing, if share < 1.0 { Binds::FewAnswers } else { Binds::Writing }, other)
    }

    fn assumed_generation(&self, cost: &StageCost, card: &Card) -> (f64, f64, Binds, bool) {
        let (plan, load) = (self.plan, &cost.load);
        let cut = if self.gpus_per_copy > 1.0 { cards::CUT_EFFICIENCY } else { 1.0 };
        let speed = self.gpus_per_copy * cut;
        let flops = card.flops * cards::READING_EFFICIENCY * speed;
        let bandwidth = card.bandwidth * cards::WRITING_EFFICIENCY * speed;
        let reading = cost.tokens_read as f64 * self.operations(load.context) / flops / self.copies;
        // One step of writing: every weight and all keys and values are read once.
        let kv = plan.cache_bytes_per_token as f64;
        let weights = plan.weight_bytes as f64;
        let cache = match plan.stated_cache_bytes {
            0 => (card.memory as f64 * self.gpus_per_copy - weights - memory::GPU_SPARE as f64) * 0.9,
            stated => stated as f64,
        };
        let engine = if self.deployment.form == Form::Servers { SERVER_ROWS } else { ENGINE_ROWS };
        let fitting = (cache / (load.own * kv).max(1.0)).max(1.0);
        let given = (load.at_once as f64 / self.copies).max(f64::MIN_POSITIVE);
        let rows = engine.min(fitting).min(given);
        let moved = (weights + rows * load.context * kv) / bandwidth;
        let computed = rows * self.operations(load.context) / flops;
        let writing = cost.tokens_written as f64 / rows * moved.max(computed) / self.copies;
        let binds = match moved >= computed {
            true if rows >= engine => Binds::Bandwidth,
            true if given <= fitting => Binds::FewAnswers,
            true => Binds::KeysAndValues,
            false => Binds::Operations,
        };
        (reading, writing, binds, true)
    }

    /// Operations of a token that goes through the model behind so many others.
    fn operations(&self, context: f64) -> f64 {
        let model = &self.plan.model;
        2.0 * self.plan.parameters as f64 + 4.0 * f64::from(model.layers) * f64::from(model.hidden) * context
    }

    fn log_probabilities(&self, cost: &StageCost) -> Spent {
        let tokens = cost.tokens_read as f64;
        if let Some(figures) = &self.deployment.figures
            && let Some(rate) = &figures.log_probabilities
        {
            let (scale, other) = self.scale(figures);
            let units = self.gpus / f64::from(figures.gpus.max(1));
            return (tokens / (rate.median * scale * units).max(f64::MIN_POSITIVE), Binds::Training, other);
        }
        let Some(card) = self.deployment.card else { return self.as_fast_as_reading(tokens) };
        let flops = card.flops * cards::READING_EFFICIENCY * self.gpus;
        (tokens * self.operations(cost.load.sequence / 2.0) / flops, Binds::Training, true)
    }

    /// Where neither log-probabilities were measured nor the card is known: as fast as prompts were read.
    fn as_fast_as_reading(&self, tokens: f64) -> Spent {
        let Some(figures) = &self.deployment.figures else { return (0.0, Binds::Training, true) };
        let (scale, _) = self.scale(figures);
        let units = self.gpus / f64::from(figures.gpus.max(1));
        (tokens / (figures.judgments.reading.median * scale * units).max(f64::MIN_POSITIVE), Binds::Training, true)
    }

    fn training(&self, cost: &StageCost) -> Spent {
        let tokens = cost.tokens_read as f64;
        let sequences = cost.load.at_once as f64;
        let ranks = self.gpus.min(sequences.max(1.0));
        let few = if ranks < self.gpus { Binds::FewSequences } else { Binds::Training };
        if let Some(figures) = &self.deployment.figures
            && let Some(trained) = &figures.training
        {
            let (scale, other) = self.scale(figures);
            let units = ranks / f64::from(figures.gpus.max(1));
            return (tokens / (trained.tokens_per_second.median * scale * units).max(f64::MIN_POSITIVE), few, other);
        }
        let Some(card) = self.deployment.card else {
            // Three times the operations of reading, and one more with checkpointing.
            let (seconds, _, _) = self.as_fast_as_reading(tokens);
            return (seconds * self.passes(), few, true);
        };
        let flops = card.flops * cards::TRAINING_EFFICIENCY * ranks;
        let computing = tokens * self.operations(cost.load.sequence / 2.0) * self.passes() / flops;
        let sending = cost.load.steps as f64 * self.sent_per_step(cost) / (card.link * cards::LINK_EFFICIENCY);
        // Sending goes on beside computing.
        if sending > computing { (sending, Binds::Communication, true) } else { (computing, few, true) }
    }

    /// Passes of reading that a training token is worth.
    fn passes(&self) -> f64 {
        let backward = if self.plan.adapters { 1.0 } else { 2.0 };
        1.0 + backward + if self.plan.checkpointing { 1.0 } else { 0.0 }
    }

    /// Bytes that a rank sends in a step.
    fn sent_per_step(&self, cost: &StageCost) -> f64 {
        if self.gpus < 2.0 || self.plan.adapters {
            return 0.0;
        }
        let others = (self.gpus - 1.0) / self.gpus;
        let whole = 2.0 * self.plan.parameters as f64 * others;
        match self.sharding {
            // Weights are gathered for the forward and the backward pass of every micro-batch, and gradients added up.
            Sharding::Parameters => {
                let tokens = cost.tokens_read as f64 / (cost.load.steps as f64).max(1.0) / self.gpus;
                let micro_batches = (tokens / f64::from(self.plan.micro_batch_tokens.max(1))).ceil().max(1.0);
                whole * (2.0 * micro_batches + 1.0)
            }
            _ => 2.0 * whole,
        }
    }

    /// Seconds that the stage takes to load its model and to write the next one.
    fn loading(&self, cost: &StageCost) -> f64 {
        let weights = self.plan.weight_bytes as f64;
        let (load, outside) = match &self.deployment.figures {
            Some(figures) => {
                let scale = 1.0 / self.scale(figures).0;
                let load = figures.load_seconds.median * scale;
                (load, figures.training.as_ref().map_or(load, |trained| trained.outside_seconds.median * scale))
            }
            None => (weights / cards::DISK, weights / cards::DISK),
        };
        match cost.stage {
            Stage::Responses | Stage::Reference => load,
            // Loaded once; a checkpoint after every epoch.
            Stage::Training if self.deployment.figures.is_some() => outside * cost.load.epochs as f64,
            Stage::Training => load + outside * cost.load.epochs as f64,
            _ => 0.0,
        }
    }

    fn describe(&self, notes: &mut Vec<String>) {
        match (&self.deployment.figures, self.deployment.card) {
            (Some(figures), _) => {
                notes.push(format!(
                    "speeds were measured: {} on {}, {} parameters in {}, medians of {} repeats with {} prompts of {}",
                    figures.engine,
                    figures.device,
                    super::display::tokens(figures.model.parameters),
                    figures.precision,
                    figures.repeats,
                    figures.prompts,
                    figures.experiment
                ));
                if self.scale(figures).1 {
                    notes.push("another model was measured: its speeds were divided by the ratio of the parameters, an estimate".into());
                }
                if self.gpus > f64::from(figures.gpus.max(1)) {
                    notes.push(format!(
                        "{} times what was measured is taken to be that much faster; what ranks send each other was not measured",
                        self.gpus / f64::from(figures.gpus.max(1))
                    ));
                }
                for (what, there) in [
                    ("log-probabilities were", figures.log_probabilities.is_some()),
                    ("training was", figures.training.is_some()),
                ] {
                    if !there {
                        notes.push(format!(
                            "{what} not measured: an estimate from the speed of reading prompts, or from the card"
                        ));
                    }
                }
            }
            (None, Some(card)) => notes.push(format!(
                "nothing was measured: an estimate from {}: {:.0} TFLOP/s in bf16, {:.2} TB/s, of which reading reaches {:.0} %, \
                 training {:.0} % and writing {:.0} % of the bandwidth; models come from disk at {:.0} GB/s",
                card.source,
                card.flops / 1e12,
                card.bandwidth / 1e12,
                100.0 * cards::READING_EFFICIENCY,
                100.0 * cards::TRAINING_EFFICIENCY,
                100.0 * cards::WRITING_EFFICIENCY,
                cards::DISK / 1e9
            )),
            (None, None) => {}
        }
        if self.gpus_per_copy > 1.0 {
            notes.push(format!(
                "a copy of the model is cut over {} GPUs for generation, which leaves {:.0} % of their speed: an estimate",
                self.gpus_per_copy,
                100.0 * cards::CUT_EFFICIENCY
            ));
        }
        if self.deployment.form == Form::Servers {
            notes.push("servers keep their GPUs while the trainer has as many of its own or takes theirs over; the price counts one set".into());
        }
        notes.push("ratings, pairs and reports are a few seconds of one core each and are not counted".into());
    }
}
