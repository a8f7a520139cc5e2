//! The task `files`: prompts and examples from JSONL files.
//!
//! Options: `prompts` (a path or a list of paths), `judge_examples`, `demonstrations`, `meta_examples` (paths), all
//! relative to the experiment. A prompt line is one of
//! - `{"id": …, "prompt": …}`, with `system` and `category` where there are any;
//! - MT-Bench's `{"question_id": …, "turns": ["…"], "category": …}`, of which the first turn is taken;
//! - Arena-Hard's `{"uid" or "question_id": …, "prompt": … or "turns": [{"content": …}], "cluster": …}`.
//!
//! Example lines carry the fields of [`JudgeExample`] and [`MetaExample`]; a demonstration is a prompt line with a
//! `response`. Other fields are passed over, as such files come with many.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use metareward_api::{
    Demonstration, JudgeExample, Kind, MetaExample, Plugin, PluginError, PluginInfo, Prompt, PromptId, Task,
};
use metareward_host::{Form, PluginRecord};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{Fingerprint, RunError, config::Loaded, error::nearest, plugins::Bound, seeds::shuffled};

/// Name of the task in a config.
pub(crate) const NAME: &str = "files";

/// Reads all files that the task section names.
pub(crate) fn bind(loaded: &Loaded) -> Result<Bound<dyn Task>, RunError> {
    let options = &loaded.config.task.options;
    let known = ["prompts", "judge_examples", "demonstrations", "meta_examples"];
    for key in options.keys() {
        if !known.contains(&key.as_str()) {
            let full = format!("task.options.{key}");
            let suggestion = nearest(key, known).map(|name| format!("task.options.{name}"));
            return Err(RunError::UnknownKey { place: loaded.place(&full), key: full, suggestion });
        }
    }
    let mut task = FilesTask::default();
    let prompt_files = paths(loaded, options, "prompts")?;
    if prompt_files.is_empty() {
        return Err(RunError::BadValue {
            place: loaded.place("task.options"),
            key: "task.options.prompts".into(),
            found: "missing".into(),
            expected: "the path of a JSONL file, or a list of them".into(),
        });
    }
    let mut seen: BTreeMap<PromptId, String> = BTreeMap::new();
    for path in &prompt_files {
        let prompts = lines(path, prompt)?;
        if prompts.is_empty() {
            return Err(RunError::Input { place: path.display().to_string(), message: "holds no prompts".into() });
        }
        for (line, prompt) in prompts {
            let place = format!("{}:{line}", path.display());
            if let Some(first) = seen.insert(prompt.id.clone(), place.clone()) {
                let message = format!("prompt id `{}` is taken by {first}; give every prompt its own", prompt.id);
                return Err(RunError::Input { place, message });
            }
            task.prompts.push(prompt);
        }
    }
    for path in paths(loaded, options, "judge_examples")? {
        task.judge_examples.extend(lines(&path, typed)?.into_iter().map(|(_, example)| example));
    }
    for path in paths(loaded, options, "meta_examples")? {
        task.meta_examples.extend(lines(&path, typed)?.into_iter().map(|(_, example)| example));
    }
    for path in paths(loaded, options, "demonstrations")? {
        task.demonstrations.extend(lines(&path, demonstration)?.into_iter().map(|(_, example)| example));
    }
    let record = PluginRecord {
        info: task.info(),
        form: Form::BuiltIn,
        sha256: None,
        api_version: metareward_api::API_VERSION.to_owned(),
        // Paths say where the files were on one machine; the hash says what was in them.
        options: json!({ "files": options, "prompts": task.prompts.len(), "blake3": task.fingerprint().as_str() }),
    };
    Ok(Bound { record, plugin: Box::new(task) })
}

fn paths(loaded: &Loaded, options: &Map<String, Value>, key: &str) -> Result<Vec<PathBuf>, RunError> {
    let wrong = |found: &Value| {
        let key = format!("task.options.{key}");
        RunError::BadValue {
            place: loaded.place(&key),
            key,
            found: found.to_string(),
            expected: "the path of a JSONL file, or a list of them".into(),
        }
    };
    let one = |value: &Value| value.as_str().map(|path| loaded.folder.join(path)).ok_or_else(|| wrong(value));
    match options.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

/// Reads a file line by line; empty lines are passed over.
fn lines<T>(path: &Path, read: impl Fn(&Value) -> Result<T, String>) -> Result<Vec<(usize, T)>, RunError> {
    let input = |place: String, message: String| RunError::Input { place, message };
    let file =
        File::open(path).map_err(|error| input(path.display().to_string(), format!("cannot be opened: {error}")))?;
    let mut items = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{}:{}", path.display(), index + 1);
        let line = line.map_err(|error| input(place(), format!("cannot be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line).map_err(|error| {
            // The error counts lines within the line.
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            input(place(), format!("not a line of JSON: {text} at column {}", error.column()))
        })?;
        items.push((index + 1, read(&value).map_err(|message| input(place(), message))?));
    }
    Ok(items)
}

fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

/// A prompt in any of the known shapes.
fn prompt(value: &Value) -> Result<Prompt, String> {
    let id = ["id", "question_id", "uid"].iter().find_map(|key| match value.get(key)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let id = id.ok_or("has no `id`, `question_id` or `uid`")?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let turn = || match value.get("turns")?.get(0)? {
        Value::String(turn) => Some(turn.clone()),
        turn => turn.get("content")?.as_str().map(str::to_owned),
    };
    let prompt = text("prompt").or_else(turn).ok_or("has neither a text `prompt` nor `turns`")?;
    if prompt.trim().is_empty() {
        return Err("has an empty prompt".into());
    }
    let category = text("cluster").or_else(|| text("category"));
    Ok(Prompt { id: PromptId(id), text: prompt, system: text("system"), category })
}

fn demonstration(value: &Value) -> Result<Demonstration, String> {
    let response = value.get("response").and_then(Value::as_str).ok_or("has no text `response`")?.to_owned();
    let mut with_id = value.clone();
    if let Value::Object(fields) = &mut with_id
        && !["id", "question_id", "uid"].iter().any(|key| fields.contains_key(*key))
    {
        // A demonstration is never looked up by id, so it may do without one.
        fields.insert("id".into(), "demonstration".into());
    }
    Ok(Demonstration { prompt: prompt(&with_id)?, response })
}

/// Prompts and examples held in memory.
#[derive(Default)]
struct FilesTask {
    prompts: Vec<Prompt>,
    demonstrations: Vec<Demonstration>,
    judge_examples: Vec<JudgeExample>,
    meta_examples: Vec<MetaExample>,
}

impl FilesTask {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&json!([self.prompts, self.demonstrations, self.judge_examples, self.meta_examples]))
    }
}

/// The first `n` of a seeded order: a longer list begins with the shorter one.
fn take<T: Clone>(items: &[T], seed: u64, n: u32) -> Vec<T> {
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let order = shuffled(count, seed).into_iter().take(n as usize);
    order.filter_map(|index| items.get(index as usize).cloned()).collect()
}

impl Plugin for FilesTask {
    fn info(&self) -> PluginInfo {
        PluginInfo {
            kind: Kind::Task,
            name: NAME.into(),
            version: "1.0.0".into(),
            summary: "prompts and examples from JSONL files".into(),
        }
    }
}

impl Task for FilesTask {
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError> {
        Ok(take(&self.prompts, seed, n))
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        Ok(take(&self.demonstrations, seed, n))
    }

    fn judge_examples(&self, seed: u64, n: u32) -> Result<Vec<JudgeExample>, PluginError> {
        Ok(take(&self.judge_examples, seed, n))
    }

    fn meta_examples(&self, seed: u64, n: u32) -> Result<Vec<MetaExample>, PluginError> {
        Ok(take(&self.meta_examples, seed, n))
    }

    fn oracle(&self, _items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        Ok(None)
    }
}
