//! Training by a command: pairs or examples are written to a file, the command trains on them, and the model folder that it
//! leaves is taken up after it was checked as a whole.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use metareward_api::{
    EngineError, EpochReport, Example, Message, Progress, SequenceLogProb, StepMetrics, TrainData, TrainJob,
    TrainReport, Trainer, Watch,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    folder,
    process::{Running, Words, shell_word},
};

/// Words in braces that a command may hold.
pub const TRAINER_WORDS: [&str; 9] =
    ["model", "data", "output", "settings", "learning_rate", "epochs", "batch_size", "max_length", "iteration"];

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(20);
/// Examples that the new model must be able to read.
const TRIED: usize = 2;

/// A command that trains. Words in braces are filled in: `{model}`, the folder to start from; `{data}`, the file of pairs
/// or examples; `{output}`, the folder to leave a model in; `{settings}`, a file with all settings; `{learning_rate}`,
/// `{epochs}`, `{batch_size}`, `{max_length}`, `{iteration}`. The same stand in variables, as in METAREWARD_MODEL.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainCommand {
    /// The command, run by the shell.
    pub command: String,
    /// How long it may take.
    pub longest: Duration,
}

/// What is trained by commands; `None`: by the engine of this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainCommands {
    /// Supervised fine-tuning.
    pub sft: Option<TrainCommand>,
    /// Preference training.
    pub preference: Option<TrainCommand>,
}

/// A trainer that leaves training to commands, and the rest to another one.
pub struct CommandTrainer<'a> {
    inner: &'a mut dyn Trainer,
    commands: TrainCommands,
}

/// What is kept of a command that has done its work.
#[derive(Serialize, Deserialize)]
struct Done {
    fingerprint: String,
    command: String,
    report: TrainReport,
    /// Whether there were losses to report.
    losses: bool,
}

impl<'a> CommandTrainer<'a> {
    /// Beside `inner`, which computes log-probabilities and reads the folders that commands leave.
    pub fn new(inner: &'a mut dyn Trainer, commands: TrainCommands) -> Self {
        Self { inner, commands }
    }

    fn command(&self, job: &TrainJob<'_>) -> Option<TrainCommand> {
        match job.data {
            TrainData::Sft(_) => self.commands.sft.clone(),
            TrainData::Preference { .. } => self.commands.preference.clone(),
        }
    }

    /// Reads some of the data with the new model: a folder that looks right may still not work.
    fn try_out(&mut self, made: &Path, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<(), EngineError> {
        let indices = job.epochs.iter().flatten().flatten().take(TRIED);
        let examples: Vec<Example> = indices.map(|index| example(&job.data, *index)).collect::<Result<_, _>>()?;
        let found = self.inner.log_probabilities(made, &examples, job.settings.max_length, watch)?;
        if found.iter().all(|found| found.sum.is_finite()) {
            return Ok(());
        }
        Err(wrong(made, "its log-probabilities are not finite".to_owned()))
    }
}

impl Trainer for CommandTrainer<'_> {
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        self.inner.log_probabilities(folder, examples, max_length, watch)
    }

    /// By the command, where there is one. Its output is kept in `command.log`; what it left is not made again. A command
    /// that was stopped finds its output folder as it left it.
    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        let Some(TrainCommand { command: template, longest }) = self.command(job) else {
            return self.inner.train(job, watch);
        };
        let epochs = u32::try_from(job.epochs.len()).unwrap_or(u32::MAX);
        let note = job.folder.join("command.json");
        let made = job.folder.join(format!("epoch-{epochs}"));
        if let Some(done) = read_done(&note, &job.fingerprint).filter(|_| folder::check(&job.model, &made).is_ok()) {
            return Ok(report(done));
        }
        let (data, output) = (job.folder.join("data.jsonl"), job.folder.join("output"));
        let settings = job.folder.join("settings.json");
        fs::create_dir_all(&output).map_err(|error| io(&output, &error))?;
        write_data(job, &data)?;
        let batch_size = job.epochs.iter().flatten().map(Vec::len).max().unwrap_or_default();
        write_settings(job, epochs, batch_size, &settings)?;
        let shown = |path: &Path| path.display().to_string();
        let words = Words(vec![
            ("model", shown(&job.model)),
            ("data", shown(&data)),
            ("output", shown(&output)),
            ("settings", shown(&settings)),
            ("learning_rate", job.settings.learning_rate.to_string()),
            ("epochs", epochs.to_string()),
            ("batch_size", batch_size.to_string()),
            ("max_length", job.settings.max_length.to_string()),
            ("iteration", job.iteration.to_string()),
        ]);
        let variables: Vec<(String, String)> = words
            .0
            .iter()
            .map(|(name, value)| (format!("METAREWARD_{}", name.to_uppercase()), value.clone()))
            .collect();
        let command = words.fill(&template, &shell_word);
        run(&command, &job.folder.join("command.log"), &variables, longest, watch)?;

        folder::check(&job.model, &output).map_err(|message| {
            wrong(&output, format!("the training command left what cannot be taken up: {message}"))
        })?;
        folder::take_up(&job.model, &output, &made)?;
        self.try_out(&made, job, watch)?;
        let losses = losses(&output);
        for (step, loss, learning_rate) in &losses {
            let metrics =
                StepMetrics { step: *step, loss: *loss, learning_rate: *learning_rate, ..StepMetrics::default() };
            watch.step(&metrics, 0.0);
        }
        let mean = losses.iter().map(|(_, loss, _)| loss).sum::<f64>() / losses.len().max(1) as f64;
        let laid_out: usize = job.epochs.iter().map(Vec::len).sum();
        let taken = losses.last().map_or_else(|| u32::try_from(laid_out).unwrap_or(u32::MAX), |(step, ..)| *step);
        let made = TrainReport {
            epochs: vec![EpochReport { epoch: epochs, folder: made, train_loss: mean, validation_loss: None }],
            steps: taken,
            first_loss: losses.first().map_or(0.0, |(_, loss, _)| *loss),
            truncated: 0,
        };
        let done = Done { fingerprint: job.fingerprint.clone(), command, report: made, losses: !losses.is_empty() };
        let text = serde_json::to_vec_pretty(&done).map_err(|error| io(&note, &error.into()))?;
        let partial = job.folder.join(".command.json.partial");
        fs::write(&partial, text).and_then(|()| fs::rename(&partial, &note)).map_err(|error| io(&note, &error))?;
        Ok(report(done))
    }
}

/// What a command's training is reported as. Without losses of its own they are not a number.
fn report(done: Done) -> TrainReport {
    let mut report = done.report;
    if !done.losses {
        report.first_loss = f64::NAN;
        report.epochs.iter_mut().for_each(|epoch| epoch.train_loss = f64::NAN);
    }
    report
}

fn read_done(note: &Path, fingerprint: &str) -> Option<Done> {
    let done: Done = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
    (done.fingerprint == fingerprint).then_some(done)
}

/// Runs the command to its end.
fn run(
    command: &str,
    log: &Path,
    variables: &[(String, String)],
    longest: Duration,
    watch: &dyn Watch,
) -> Result<(), EngineError> {
    let failed = |message: String| EngineError::Machine(format!("{message}; the command was: {command}"));
    let mut running =
        Running::start(command, log, variables).map_err(|error| EngineError::Machine(error.to_string()))?;
    let begun = Instant::now();
    loop {
        if let Some(status) = running.ended() {
            if status.success() {
                return Ok(());
            }
            return Err(failed(format!(
                "the training command ended with {status}; the end of {}:\n{}",
                log.display(),
                running.tail()
            )));
        }
        if watch.stop() {
            running.end(GRACE);
            return Err(EngineError::Stopped);
        }
        if begun.elapsed() > longest {
            running.end(GRACE);
            let hours = longest.as_secs_f64() / 3600.0;
            return Err(failed(format!(
                "the training command took longer than {hours:.2} h, as train.command_hours says"
            )));
        }
        watch.progress(Progress::default());
        thread::sleep(LOOK);
    }
}

/// One line per example, in the form that TRL and others read.
fn write_data(job: &TrainJob<'_>, path: &Path) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| io(path, &error);
    let mut indices: Vec<u32> = job.epochs.iter().flatten().flatten().copied().collect();
    indices.sort_unstable();
    indices.dedup();
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    for index in indices {
        let line = match &job.data {
            TrainData::Sft(data) => {
                let Example { messages, completion, .. } = data.example(index)?;
                json!({ "prompt": messages, "completion": [Message::assistant(completion)] })
            }
            TrainData::Preference { data, .. } => {
                let pair = data.pair(index)?;
                json!({
                    "prompt": pair.messages,
                    "chosen": [Message::assistant(pair.chosen)],
                    "rejected": [Message::assistant(pair.rejected)],
                    "reference_chosen": pair.reference_chosen,
                    "reference_rejected": pair.reference_rejected,
                    "weight": pair.weight,
                })
            }
        };
        writeln!(file, "{line}").map_err(failed)?;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
}

fn write_settings(job: &TrainJob<'_>, epochs: u32, batch_size: usize, path: &Path) -> Result<(), EngineError> {
    let optimizer = match &job.data {
        TrainData::Sft(_) => Value::Null,
        TrainData::Preference { optimizer, .. } => json!(optimizer.info().name),
    };
    let settings =
        json!({ "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "settings": job.settings });
    fs::write(path, format!("{settings:#}\n")).map_err(|error| io(path, &error))
}

/// One example as the engine reads it.
fn example(data: &TrainData<'_>, index: u32) -> Result<Example, EngineError> {
    match data {
        TrainData::Sft(data) => data.example(index),
        TrainData::Preference { data, .. } => {
            let pair = data.pair(index)?;
            Ok(Example { id: pair.id, messages: pair.messages, completion: pair.chosen })
        }
    }
}

/// Steps with loss and learning rate, as transformers' trainers write them: in the output folder, or in its last checkpoint.
fn losses(output: &Path) -> Vec<(u32, f64, f64)> {
    let mut files = vec![output.join("trainer_state.json")];
    let mut checkpoints: Vec<(u32, PathBuf)> = fs::read_dir(output)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let step = entry.file_name().to_str()?.strip_prefix("checkpoint-")?.parse().ok()?;
            Some((step, entry.path().join("trainer_state.json")))
        })
        .collect();
    checkpoints.sort();
    files.extend(checkpoints.pop().map(|(_, path)| path));
    let state = files.iter().find_map(|path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok());
    let history = state.as_ref().and_then(|state| state.get("log_history")?.as_array()).cloned().unwrap_or_default();
    let entry = |entry: &Value| {
        let step = u32::try_from(entry.get("step")?.as_u64()?).ok()?;
        Some((
            step,
            entry.get("loss")?.as_f64()?,
            entry.get("learning_rate").and_then(Value::as_f64).unwrap_or_default(),
        ))
    };
    history.iter().filter_map(entry).collect()
}

fn wrong(folder: &Path, message: String) -> EngineError {
    EngineError::Model { folder: folder.to_owned(), message }
}

fn io(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Io { path: path.to_owned(), message: error.to_string() }
}
