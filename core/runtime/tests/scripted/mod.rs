//! Engines without a model: texts that follow from hashes of what is asked, and a trainer that hashes what it is given.
#![allow(dead_code)]

pub mod plugins;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metareward_api::{
    EngineError, EpochReport, Example, Finish, Generation, GenerationDraw, GenerationRequest, Generator, Guides,
    Message, ModelCard, NextTokens, Progress, Sampler, SequenceLogProb, StepMetrics, TrainData, TrainJob, TrainReport,
    Trainer, Watch,
};
use metareward_host::{HostError, Registry, Settings};
use metareward_runtime::{Disk, Engines, Event, Experiment, Layers, Observer, RunError, RunOutcome, RunRequest};

/// How many answers of which kind were generated, and how many sequences were measured or trained on.
pub type Counts = Arc<Mutex<BTreeMap<&'static str, u64>>>;

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn count_one(counts: &Counts, what: &'static str) {
    count(counts, what, 1);
}

fn count(counts: &Counts, what: &'static str, number: u64) {
    *counts.lock().unwrap().entry(what).or_default() += number;
}

/// How the scripted judge behaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Judge {
    /// Scores from 0 to 5, one in sixteen unreadable.
    Lively,
    /// Never a score.
    Mute,
    /// Always 5.
    Saturated,
}

pub struct ScriptedGenerator {
    pub counts: Counts,
    pub judge: Judge,
    pub context: u32,
    model: Option<[u8; 32]>,
}

impl ScriptedGenerator {
    pub fn new(context: u32) -> Self {
        Self { counts: Counts::default(), judge: Judge::Lively, context, model: None }
    }

    /// What a draw depends on: its seed, and the token that its sampler finds most probable.
    fn stream(&self, draw: &GenerationDraw, reshape: Option<&dyn Sampler>) -> Result<u64, EngineError> {
        let Some(sampler) = reshape else { return Ok(draw.seed) };
        let failed = |message: String| EngineError::Plugin { plugin: sampler.info().name, message };
        let count = sampler.reshapes().map_err(|error| failed(error.message))?.unwrap();
        let tokens = (0..count).collect();
        let row = NextTokens { draw: draw.draw, position: 0, tokens, logits: vec![0.0; count as usize] };
        let row = sampler.reshape(&[row]).map_err(|error| failed(error.message))?.remove(0);
        count_one(&self.counts, "reshaped");
        let top = (0..).zip(row).max_by(|a: &(u64, f64), b| a.1.total_cmp(&b.1)).unwrap().0;
        Ok(draw.seed ^ (top + 1))
    }

    fn text(&self, messages: &[Message], seed: u64) -> (&'static str, String) {
        let asked = serde_json::to_vec(messages).unwrap();
        let model = self.model.unwrap();
        let bytes = hash(&[&model, &asked, &seed.to_le_bytes()]);
        let last = messages.last().unwrap().content.as_str();
        if last.starts_with("JUDGE") {
            let text = match self.judge {
                Judge::Mute => format!("I cannot say. {}", bytes[1]),
                Judge::Lively if bytes[0] < 16 => "No idea.".into(),
                Judge::Lively => format!("Because of {}.\nScore: {}", bytes[1], bytes[2] % 6),
                Judge::Saturated => format!("Perfect {}.\nScore: 5", bytes[1]),
            };
            ("judgments", text)
        } else if last.starts_with("COMPARE") {
            let winner = ["A", "B"][usize::from(bytes[0] % 2)];
            ("verdicts", format!("Thinking {}.\nWinner: {winner}", bytes[1]))
        } else {
            // A small range, so that some responses to a prompt are the same.
            ("responses", "word ".repeat(usize::from(bytes[0] % 6)) + "end")
        }
    }
}

impl Generator for ScriptedGenerator {
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        let weights = fs::read(folder.join("model.safetensors")).map_err(|error| EngineError::Model {
            folder: folder.to_owned(),
            message: format!("model.safetensors: {error}"),
        })?;
        self.model = Some(hash(&[&weights]));
        Ok(ModelCard {
            architecture: "Scripted".into(),
            parameters: 10,
            context: self.context,
            vocabulary: 10,
            cache_bytes_per_token: 1,
            layers: 1,
            hidden: 1,
        })
    }

    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        let words = |message: &Message| message.content.split_whitespace().count() as u32;
        Ok(conversations.iter().map(|messages| messages.iter().map(words).sum()).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        let total = requests.iter().map(|request| request.draws.len() as u64).sum();
        let mut done = 0;
        let mut answers = Vec::new();
        for request in requests {
            if watch.stop() {
                return Err(EngineError::Stopped);
            }
            let mut of_request = Vec::new();
            for draw in &request.draws {
                let (kind, text) = self.text(&request.messages, self.stream(draw, guides.reshape)?);
                count(&self.counts, kind, 1);
                let tokens = text.split_whitespace().count() as u32;
                of_request.push(Generation { text, tokens, finish: Finish::EndOfTurn });
                done += 1;
                watch.progress(Progress { done, total, tokens: done * 10 });
            }
            answers.push(of_request);
        }
        Ok(answers)
    }
}

#[derive(Default)]
pub struct ScriptedTrainer {
    pub counts: Counts,
}

/// The state of a training run: the weights are a hash of everything trained on.
#[derive(serde::Serialize, serde::Deserialize)]
struct State {
    fingerprint: String,
    step: u32,
    weights: Vec<u8>,
}

fn io_error(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Io { path: path.to_owned(), message: error.to_string() }
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let partial = path.with_extension("part");
    fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path)).map_err(|error| io_error(path, &error))
}

impl Trainer for ScriptedTrainer {
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        _max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        let weights = fs::read(folder.join("model.safetensors")).unwrap();
        let mut measured = Vec::new();
        for example in examples {
            if watch.stop() {
                return Err(EngineError::Stopped);
            }
            count(&self.counts, "reference", 1);
            let bytes = hash(&[&weights, example.completion.as_bytes()]);
            measured.push(SequenceLogProb { sum: -f64::from(bytes[0]) / 7.0, tokens: 3 });
        }
        Ok(measured)
    }

    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        let path = job.folder.join("state.json");
        let start = fs::read(job.model.join("model.safetensors")).unwrap();
        let mut state = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok())
            .filter(|state| state.fingerprint == job.fingerprint)
            .unwrap_or(State { fingerprint: job.fingerprint.clone(), step: 0, weights: start });
        let mut step = 0;
        let mut epochs = Vec::new();
        for (epoch, steps) in (1..).zip(&job.epochs) {
            for batch in steps {
                step += 1;
                if step <= state.step {
                    continue;
                }
                if watch.stop() {
                    return Err(EngineError::Stopped);
                }
                for index in batch {
                    let example = match job.data {
                        TrainData::Sft(data) => serde_json::to_vec(&data.example(*index)?).unwrap(),
                        TrainData::Preference { data, .. } => serde_json::to_vec(&data.pair(*index)?).unwrap(),
                    };
                    state.weights = hash(&[&state.weights, &example]).to_vec();
                    count(&self.counts, "trained", 1);
                }
                state.step = step;
                save(&path, &serde_json::to_vec(&state).unwrap())?;
                watch.step(&StepMetrics { step, epoch, loss: 0.5, tokens: 10, ..StepMetrics::default() }, 0.1);
            }
            let folder = job.folder.join(format!("epoch-{epoch}"));
            if state.step == step || folder.exists() {
                fs::create_dir_all(&folder).unwrap();
                if state.step == step && !folder.join("model.safetensors").exists() {
                    save(&folder.join("config.json"), b"{}")?;
                    save(&folder.join("model.safetensors"), &state.weights)?;
                }
            }
            let validation_loss = (!job.validation.is_empty()).then(|| f64::from((epoch + 1) % 3));
            epochs.push(EpochReport { epoch, folder, train_loss: 0.5, validation_loss });
        }
        Ok(TrainReport { epochs, steps: step, first_loss: std::f64::consts::LN_2, truncated: 0 })
    }
}

/// Remembers events and stops after so many questions whether to.
#[derive(Default)]
pub struct Recorder {
    pub events: Mutex<Vec<Event>>,
    pub stop_after: Option<u64>,
    pub asked: AtomicU64,
}

impl Observer for Recorder {
    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }

    fn stop(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        self.stop_after.is_some_and(|after| asked >= after)
    }
}

impl Recorder {
    pub fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                Event::Warning { message, .. } => Some(message.clone()),
                _ => None,
            })
            .collect()
    }
}

/// An experiment in a folder of its own, with a scripted model.
pub struct Lab {
    pub root: tempfile::TempDir,
    pub set: Vec<String>,
    pub judge: Judge,
    pub context: u32,
    pub registry: MakeRegistry,
    pub accept_changed_plugins: bool,
    pub share: Vec<PathBuf>,
}

/// Makes the plugins that a lab knows.
pub type MakeRegistry = fn(Settings) -> Result<Registry, HostError>;

const EXPERIMENT: &str = r#"
name = "scripted"
iterations = 2
model.path = "model"

[task]
options = { prompts = "prompts.jsonl", judge_examples = "judge.jsonl" }

[prompts]
per_iteration = 4
pool = 12
shard_size = 2

[actor]
responses = 4

[judge]
judgments = 4

[rubric]
options = { template = "JUDGE {{prompt}} | {{response}}" }

[meta_judge]
options = { template = "COMPARE {{first}} | {{second}}" }

[sft]
judge_examples = 4
[sft.train]
epochs = 1
batch_size = 2

[train]
epochs = 3
keep = [2, "last"]
batch_size = 3

[evaluation]
prompts = 3
responses = 2
judge_prompts = 2
judgments = 2
"#;

impl Lab {
    pub fn new() -> Self {
        // Memory, where there is such a folder: the crash test makes hundreds of files durable.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let lab = Self {
            root,
            set: Vec::new(),
            judge: Judge::Lively,
            context: 100,
            registry: plugins::registry,
            accept_changed_plugins: false,
            share: Vec::new(),
        };
        let prompts: String =
            (0..12).map(|n| format!("{{\"id\": \"p{n}\", \"prompt\": \"question number {n}\"}}\n")).collect();
        let example = r#"{"prompt": "q", "response": "r", "judgment": "Fine.\nScore: 3"}"#;
        lab.write("experiment.toml", EXPERIMENT);
        lab.write("prompts.jsonl", &prompts);
        lab.write("judge.jsonl", &format!("{example}\n\n{example}\n{example}\n"));
        lab.write("model/config.json", "{}");
        lab.write("model/model.safetensors", "seed");
        lab
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn run_folder(&self) -> PathBuf {
        self.root.path().join("run")
    }

    pub fn layers(&self) -> Layers {
        Layers { set: self.set.clone(), ..Layers::file(self.root.path().join("experiment.toml")) }
    }

    pub fn open(&self) -> Result<Experiment, RunError> {
        Experiment::open(&self.layers(), self.registry)
    }

    /// Runs and returns how much was computed.
    pub fn run(&self) -> (Result<RunOutcome, RunError>, BTreeMap<&'static str, u64>) {
        self.run_with(&Recorder::default(), Disk::default())
    }

    pub fn run_with(
        &self,
        recorder: &Recorder,
        disk: Disk,
    ) -> (Result<RunOutcome, RunError>, BTreeMap<&'static str, u64>) {
        let counts = Counts::default();
        let outcome = self.open().and_then(|experiment| {
            let mut generator =
                ScriptedGenerator { counts: counts.clone(), judge: self.judge, context: self.context, model: None };
            let mut trainer = ScriptedTrainer { counts: counts.clone() };
            let request = RunRequest {
                folder: self.run_folder(),
                model: experiment.model_folder().unwrap(),
                observer: recorder,
                clock,
                disk,
                machine: BTreeMap::new(),
                accept_changed_plugins: self.accept_changed_plugins,
                share: self.share.clone(),
            };
            experiment
                .run(&request, Engines { generator: &mut generator, trainer: &mut trainer, served: BTreeMap::new() })
        });
        let counts = counts.lock().unwrap().clone();
        (outcome, counts)
    }

    /// Every file of the run that must not depend on an interruption, with its bytes.
    pub fn records(&self) -> BTreeMap<String, Vec<u8>> {
        records_of(&self.run_folder())
    }

    pub fn remove_run(&self) {
        fs::remove_dir_all(self.run_folder()).ok();
    }
}

/// Every file of a run folder that must not depend on an interruption, with its bytes.
pub fn records_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files);
    files.retain(|name, _| !name.starts_with("events") && !name.starts_with("tensorboard") && name != "lock");
    files
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap());
        }
    }
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}
