//! What happens in a run, for people and machines: [`Event`]s go to the [`Observer`], to events.jsonl and to TensorBoard.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use metareward_api::{Progress, StepMetrics, Watch};
use serde::{Deserialize, Serialize};

use crate::{
    Disk, RunError,
    statistics::Statistics,
    store::{Model, Place, Stage},
    tensorboard,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins or goes on.
    RunStarted {
        /// Name of the experiment.
        name: String,
        /// The run folder.
        folder: PathBuf,
        /// Whether it was there before.
        resumed: bool,
    },
    /// A stage begins.
    StageStarted {
        /// Part of the run.
        place: Place,
        /// The stage.
        stage: Stage,
    },
    /// How far a stage has come. Not written to events.jsonl.
    StageProgress {
        /// Part of the run.
        place: Place,
        /// The stage.
        stage: Stage,
        /// Shards finished, reused ones included; optimizer steps in training.
        done: u64,
        /// Shards or steps in all.
        total: u64,
        /// Share finished, from 0 to 1.
        share: f64,
        /// Tokens computed in this process.
        tokens: u64,
        /// Tokens per second so far.
        tokens_per_second: f64,
        /// Estimated seconds to the end of the stage.
        seconds_left: Option<f64>,
    },
    /// An optimizer step was taken.
    Step {
        /// Part of the run.
        place: Place,
        /// Its metrics.
        metrics: StepMetrics,
        /// Trained tokens per second of the step.
        tokens_per_second: f64,
    },
    /// A stage is finished.
    StageFinished {
        /// Part of the run.
        place: Place,
        /// The stage.
        stage: Stage,
        /// Its records.
        records: u64,
        /// Shards that were there before, in this run or in another one.
        reused: u64,
        /// Of these, the ones taken over from another run; of a training, 1 where its model was.
        #[serde(default)]
        shared: u64,
        /// Shards in all.
        shards: u64,
        /// Tokens computed.
        tokens: u64,
        /// Seconds taken by this process.
        seconds: f64,
        /// Tokens per second.
        tokens_per_second: f64,
        /// What the stage shows.
        statistics: Statistics,
    },
    /// A model is there, made now or before.
    ModelReady {
        /// The model.
        model: Model,
    },
    /// Something that a person should know.
    Warning {
        /// Part of the run.
        place: Option<Place>,
        /// In plain words.
        message: String,
    },
    /// The run is done.
    RunFinished {
        /// Seconds taken by this process.
        seconds: f64,
    },
    /// The run ended early.
    RunFailed {
        /// Why.
        message: String,
        /// The exit code that goes with it.
        exit_code: u8,
    },
}

/// Sees what happens, and may ask to stop.
pub trait Observer: Sync {
    /// Called at every event, from the thread on which it happens.
    fn event(&self, event: &Event);

    /// Whether to stop: the run then ends with [`RunError::Stopped`] as soon as what is at hand is safe.
    fn stop(&self) -> bool {
        false
    }
}

/// An observer that looks away.
pub struct Unobserved;

impl Observer for Unobserved {
    fn event(&self, _event: &Event) {}
}

/// The logs of an open run.
pub(crate) struct Journal<'a> {
    observer: &'a dyn Observer,
    clock: fn() -> SystemTime,
    disk: Disk,
    /// `None` where nothing is written down.
    logs: Option<Mutex<Logs>>,
}

struct Logs {
    events: (File, PathBuf),
    board: (File, PathBuf),
    /// The first failure to write; a watch cannot return it, so the run picks it up.
    failed: Option<RunError>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970.
    time: f64,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> Journal<'a> {
    /// Opens the logs in a run folder.
    pub fn open(
        folder: &Path,
        disk: &Disk,
        observer: &'a dyn Observer,
        clock: fn() -> SystemTime,
    ) -> Result<Self, RunError> {
        let events = folder.join("events.jsonl");
        let boards = folder.join("tensorboard");
        disk.create_folder(&boards)?;
        // One file per process: an event file that was cut by a crash must not be added to.
        let started = seconds(clock());
        let board = boards.join(format!("events.out.tfevents.{started:.0}.{}.metareward", std::process::id()));
        let mut board_file =
            File::options().append(true).create(true).open(&board).map_err(|error| RunError::io(&board, &error))?;
        disk.append(&mut board_file, &board, &tensorboard::header(started))?;
        let logs = Logs { events: (disk.open_log(&events)?, events), board: (board_file, board), failed: None };
        Ok(Self { observer, clock, disk: disk.clone(), logs: Some(Mutex::new(logs)) })
    }

    /// A journal that writes nothing down.
    pub fn unwritten(observer: &'a dyn Observer, clock: fn() -> SystemTime) -> Self {
        Self { observer, clock, disk: Disk::default(), logs: None }
    }

    fn logs(&self) -> Option<MutexGuard<'_, Logs>> {
        self.logs.as_ref().map(|logs| logs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Seconds since 1970.
    pub fn now(&self) -> f64 {
        seconds((self.clock)())
    }

    /// Tells of an event. A log that cannot be written stops the run at the next [`Journal::check`].
    pub fn tell(&self, event: &Event) {
        self.observer.event(event);
        match event {
            Event::Warning { message, .. } => tracing::warn!("{message}"),
            Event::StageFinished { place, stage, records, seconds, .. } => {
                tracing::info!(%place, %stage, records, seconds, "stage finished");
            }
            _ => {}
        }
        let time = self.now();
        let Some(mut guard) = self.logs() else { return };
        let logs = &mut *guard;
        if logs.failed.is_some() {
            return;
        }
        let written = match event {
            Event::StageProgress { .. } => Ok(()),
            _ => serde_json::to_vec(&Line { time, event })
                .map_err(|error| RunError::Bug(format!("an event cannot be written: {error}")))
                .and_then(|mut line| {
                    line.push(b'\n');
                    self.disk.append(&mut logs.events.0, &logs.events.1, &line)
                }),
        };
        let written = written.and_then(|()| {
            let scalars = scalars(event);
            if scalars.is_empty() {
                return Ok(());
            }
            let record: Vec<u8> = scalars
                .into_iter()
                .flat_map(|(step, tag, value)| tensorboard::scalar(time, step, &tag, value as f32))
                .collect();
            self.disk.append(&mut logs.board.0, &logs.board.1, &record)
        });
        logs.failed = written.err();
    }

    /// Tells again of the training steps of another run, whose model is taken over: its curves belong to this run too.
    pub fn retell_steps(&self, run: &Path, place: &Place) {
        let text = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        let mut steps: Vec<(u32, Event)> = Vec::new();
        for event in text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
            let step = match &event {
                Event::Step { place: of, metrics, .. } if of == place => metrics.step,
                _ => continue,
            };
            // A training that went on after a stop takes back what it repeats.
            while steps.last().is_some_and(|(earlier, _)| *earlier >= step) {
                steps.pop();
            }
            steps.push((step, event));
        }
        steps.iter().for_each(|(_, step)| self.tell(step));
    }

    /// Tells of something that a person should know.
    pub fn warn(&self, place: Option<&Place>, message: impl Into<String>) {
        self.tell(&Event::Warning { place: place.cloned(), message: message.into() });
    }

    /// The first failure to write a log.
    pub fn failure(&self) -> Option<RunError> {
        self.logs().and_then(|logs| logs.failed.clone())
    }

    /// An earlier failure to write a log, or a request to stop.
    pub fn check(&self) -> Result<(), RunError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if self.observer.stop() { Err(RunError::Stopped) } else { Ok(()) }
    }

    fn must_stop(&self) -> bool {
        self.observer.stop() || self.failure().is_some()
    }

    /// Makes the logs durable.
    pub fn flush(&self) {
        let Some(mut logs) = self.logs() else { return };
        // Logs are for looking at: a run whose records are whole does not fail for them.
        let _ = logs.events.0.flush().and_then(|()| logs.events.0.sync_data());
        let _ = logs.board.0.flush();
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |duration| duration.as_secs_f64())
}

/// What of an event goes to TensorBoard: (step, tag, value).
fn scalars(event: &Event) -> Vec<(u64, String, f64)> {
    match event {
        Event::Step { place, metrics, tokens_per_second } => {
            let folder = place.folder().display().to_string();
            let step = u64::from(metrics.step);
            let fixed = [
                ("loss", Some(metrics.loss)),
                ("gradient_norm", Some(metrics.gradient_norm)),
                ("learning_rate", Some(metrics.learning_rate)),
                ("tokens_per_second", Some(*tokens_per_second)),
                ("reward_chosen", metrics.reward_chosen),
                ("reward_rejected", metrics.reward_rejected),
                ("margin", metrics.margin),
                ("accuracy", metrics.accuracy),
                ("logp_chosen", metrics.logp_chosen),
                ("logp_rejected", metrics.logp_rejected),
            ];
            let fixed = fixed.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let extra = metrics.extra.iter().map(|(name, value)| (name.clone(), *value));
            fixed.chain(extra).map(|(name, value)| (step, format!("{folder}/{name}"), value)).collect()
        }
        Event::StageFinished { place: Place::Iteration(iteration), statistics, .. } => {
            let named: Vec<(&str, Option<f64>)> = match statistics {
                Statistics::Responses(of) => vec![
                    ("responses/characters", of.characters.value()),
                    ("responses/tokens", of.tokens.value()),
                    ("responses/duplicates", Some(of.duplicates as f64)),
                ],
                Statistics::Judgments(of) => vec![
                    ("judgments/failure_rate", of.failure_rate().value()),
                    ("judgments/score", of.score.value()),
                    ("judgments/entropy", Some(of.entropy)),
                    ("judgments/top_share", of.top.value()),
                ],
                Statistics::Verdicts(of) => vec![
                    ("verdicts/first_position", of.first.value()),
                    ("verdicts/higher_score_wins", of.higher_wins.value()),
                ],
                Statistics::Pairs(of) => vec![
                    ("pairs/actor", of.actor.as_ref().map(|actor| actor.pairs as f64)),
                    ("pairs/judge", of.judge.as_ref().map(|judge| judge.pairs as f64)),
                    ("pairs/chosen_length", of.actor.as_ref().and_then(|actor| actor.chosen_length.value())),
                    ("pairs/rejected_length", of.actor.as_ref().and_then(|actor| actor.rejected_length.value())),
                ],
                _ => Vec::new(),
            };
            let step = u64::from(*iteration);
            named.into_iter().filter_map(|(tag, value)| Some((step, tag.to_owned(), value?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Where a shard comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Computed by this process.
    Made,
    /// In the run folder from before.
    Kept,
    /// Another run's.
    TakenOver,
}

/// Eyes and hand of one stage inside the engine.
pub(crate) struct StageWatch<'a> {
    pub journal: &'a Journal<'a>,
    pub place: Place,
    pub stage: Stage,
    started: f64,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    /// Shards finished and in all.
    shards: (u64, u64),
    /// Shards that this process did not have to compute.
    reused: u64,
    /// Those of them that another run had, or its model.
    shared: u64,
    /// Tokens of finished engine calls.
    tokens: u64,
    /// Of the engine call that is going on.
    current: Progress,
}

impl<'a> StageWatch<'a> {
    /// Begins a stage of so many shards.
    pub fn begin(journal: &'a Journal<'a>, place: &Place, stage: Stage, shards: u64) -> Self {
        journal.tell(&Event::StageStarted { place: place.clone(), stage });
        let state = Mutex::new(WatchState { shards: (0, shards), ..WatchState::default() });
        Self { journal, place: place.clone(), stage, started: journal.now(), state }
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more shard is there.
    pub fn shard(&self, origin: Origin) {
        {
            let mut state = self.state();
            state.shards.0 += 1;
            state.reused += u64::from(origin != Origin::Made);
            state.shared += u64::from(origin == Origin::TakenOver);
            state.tokens += state.current.tokens;
            state.current = Progress::default();
        }
        self.tell_progress();
    }

    /// The stage's model is another run's.
    pub fn taken_over(&self) {
        self.state().shared = 1;
    }

    fn tell_progress(&self) {
        let state = self.state();
        let (finished, total) = state.shards;
        let part = match state.current {
            Progress { total: 0, .. } => 0.0,
            Progress { done, total, .. } => done as f64 / total as f64,
        };
        // Training has no shards: its steps are what is counted.
        let (done, total, share) = match total {
            0 => (state.current.done, state.current.total, part),
            _ => (finished, total, (finished as f64 + part) / total as f64),
        };
        let tokens = state.tokens + state.current.tokens;
        let elapsed = self.journal.now() - self.started;
        let own = share - if state.shards.1 == 0 { 0.0 } else { state.reused as f64 / state.shards.1 as f64 };
        let seconds_left = (own > 0.0).then(|| elapsed * (1.0 - share) / own);
        drop(state);
        self.journal.tell(&Event::StageProgress {
            place: self.place.clone(),
            stage: self.stage,
            done,
            total,
            share,
            tokens,
            tokens_per_second: rate(tokens, elapsed),
            seconds_left,
        });
    }

    /// Ends the stage.
    pub fn finish(&self, records: u64, statistics: Statistics) {
        let state = self.state();
        let tokens = state.tokens + state.current.tokens;
        let (reused, shared, shards) = (state.reused, state.shared, state.shards.1);
        drop(state);
        let seconds = self.journal.now() - self.started;
        self.journal.tell(&Event::StageFinished {
            place: self.place.clone(),
            stage: self.stage,
            records,
            reused,
            shared,
            shards,
            tokens,
            seconds,
            tokens_per_second: rate(tokens, seconds),
            statistics,
        });
    }
}

fn rate(tokens: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

impl Watch for StageWatch<'_> {
    fn progress(&self, progress: Progress) {
        self.state().current = progress;
        self.tell_progress();
    }

    fn step(&self, metrics: &StepMetrics, seconds: f64) {
        let tokens_per_second = rate(metrics.tokens, seconds);
        self.journal.tell(&Event::Step { place: self.place.clone(), metrics: metrics.clone(), tokens_per_second });
    }

    fn stop(&self) -> bool {
        self.journal.must_stop()
    }
}
