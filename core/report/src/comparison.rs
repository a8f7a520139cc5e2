//! Several runs beside each other: their last models on the same held-out prompts, and the settings in which they differ.

use std::collections::{BTreeMap, BTreeSet};

use metareward_api::PromptId;
use metareward_eval::{Measurements, ModelMeasurements, Table, in_words, main_table};
use metareward_runtime::{Place, RunReader};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Options, ReportError, pack::encode};

/// How runs differ. The first run is the one that the others are compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Names of the runs, each different.
    pub names: Vec<String>,
    /// The last model of each run that measured one, with differences from the first run's.
    pub table: Table,
    /// Each other run against the first.
    pub against: Vec<Against>,
    /// Settings that are not the same everywhere, by key.
    pub settings: Vec<Setting>,
}

/// A run against the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// The run's name.
    pub name: String,
    /// Held-out prompts that both measured.
    pub shared_prompts: usize,
    /// What their figures say, a sentence each.
    pub words: Vec<String>,
}

/// A setting with its value in every run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The key, with dots; of a plugin `section: option`.
    pub key: String,
    /// Its value in each run; `None` where there is no such setting.
    pub values: Vec<Option<Value>>,
}

/// Compares runs. `None` of fewer than two.
pub(crate) fn compare(
    runs: &[RunReader],
    measured: &[Measurements],
    options: &Options,
) -> Result<Option<Comparison>, ReportError> {
    if runs.len() < 2 {
        return Ok(None);
    }
    Ok(Some(compare_as(names(runs), runs, measured, options)?))
}

/// Compares runs by these names.
pub(crate) fn compare_as(
    names: Vec<String>,
    runs: &[RunReader],
    measured: &[Measurements],
    options: &Options,
) -> Result<Comparison, ReportError> {
    let mut texts = Vec::new();
    for run in runs {
        texts.push(held_out(run)?);
    }
    let Some((first, others)) = texts.split_first() else { return Err(ReportError::NoRuns) };
    // One name for two questions would pair what does not belong together.
    let clash =
        |other: &BTreeMap<PromptId, String>| first.iter().any(|(id, text)| other.get(id).is_some_and(|o| o != text));
    let clashes: Vec<bool> = others.iter().map(clash).collect();
    let last: Vec<Option<ModelMeasurements>> = names
        .iter()
        .zip(measured)
        .map(|(name, measurements)| {
            let mut model = measurements.models.last()?.clone();
            model.name = format!("{name}: {}", model.name);
            Some(model)
        })
        .collect();
    let full_points = measured.first().map_or(options.full_points, |of| of.full_points);
    let together = |models: Vec<ModelMeasurements>| {
        let length_unit = options.length_unit.name().into();
        main_table(&Measurements { models, base: 0, full_points, length_unit }, &options.bootstrap)
    };
    let mut table = together(last.iter().flatten().cloned().collect());
    table.title = "The last model of each run".into();
    table.notes.retain(|note| !note.starts_with("Judge: "));
    table.notes.push("Judge: each run's models score the answers of that run's own base model.".into());
    let mut against = Vec::new();
    for ((name, other), (model, clash)) in names.iter().skip(1).zip(others).zip(last.iter().skip(1).zip(clashes)) {
        let shared_prompts = first.iter().filter(|(id, text)| other.get(id) == Some(text)).count();
        let words = match (last.first().and_then(Option::as_ref), model) {
            (Some(base), Some(model)) if !clash && shared_prompts > 0 => {
                in_words(&together(vec![base.clone(), model.clone()])).lines().map(str::to_owned).collect()
            }
            (Some(_), Some(_)) if clash => {
                let row = table.rows.iter_mut().find(|row| row.name.starts_with(&format!("{name}: ")));
                if let Some(row) = row {
                    row.changes.fill(None);
                    // The win rate is a difference too: against the first run's answers.
                    let rate = table.columns.iter().position(|column| column.key == "win_rate");
                    if let Some(cell) = rate.and_then(|rate| row.cells.get_mut(rate)) {
                        *cell = None;
                    }
                }
                vec![format!("{name} uses names of held-out prompts for other questions, so no differences are taken.")]
            }
            (Some(_), Some(_)) => vec![format!(
                "{name} was measured on other prompts, so there are no differences on the same ones. Its figures below have \
                 intervals of their own."
            )],
            _ => vec!["One of the two has measured no model yet.".into()],
        };
        against.push(Against { name: name.clone(), shared_prompts, words });
    }
    Ok(Comparison { names, table, against, settings: settings(runs)? })
}

/// Names of experiments where they differ, else of folders; last with a number.
fn names(runs: &[RunReader]) -> Vec<String> {
    let experiment = |run: &RunReader| run.record().name.clone();
    let folder = |run: &RunReader| run.folder().file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = |run: &RunReader| folder(run).unwrap_or_else(|| experiment(run));
    let different = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let experiments: Vec<String> = runs.iter().map(experiment).collect();
    if different(&experiments) {
        return experiments;
    }
    let folders: Vec<String> = runs.iter().map(folder).collect();
    if different(&folders) {
        return folders;
    }
    folders.iter().enumerate().map(|(place, name)| format!("{name} {}", place + 1)).collect()
}

fn held_out(run: &RunReader) -> Result<BTreeMap<PromptId, String>, ReportError> {
    let mut texts = BTreeMap::new();
    for prompt in run.prompts(&Place::Evaluation("held-out".into()))? {
        let prompt = prompt?;
        texts.insert(prompt.id, prompt.text);
    }
    Ok(texts)
}

/// What is set differently: the config as resolved, and the plugins as used.
fn settings(runs: &[RunReader]) -> Result<Vec<Setting>, ReportError> {
    let mut all: Vec<BTreeMap<String, Value>> = Vec::new();
    for run in runs {
        let record = run.record();
        let config = serde_json::to_value(&record.config).map_err(|error| encode("the config", &error))?;
        let mut flat = BTreeMap::new();
        flatten(String::new(), config, &mut flat);
        // Options as used, with defaults, say more than options as written.
        flat.retain(|key, _| record.plugins.is_empty() || !key.contains(".options"));
        for used in &record.plugins {
            let mut options: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for plugin in &used.iterations {
                let mut of = BTreeMap::new();
                flatten(format!("{}: ", used.section), plugin.options.clone(), &mut of);
                of.insert(
                    format!("{}: plugin", used.section),
                    Value::String(format!("{} {}", plugin.info.name, plugin.info.version)),
                );
                of.extend(plugin.sha256.clone().map(|hash| (format!("{}: sha256", used.section), Value::String(hash))));
                for (key, value) in of {
                    options.entry(key).or_default().push(value);
                }
            }
            for (key, mut values) in options {
                let same = values.windows(2).all(|two| two[0] == two[1]);
                let value = if same { values.swap_remove(0) } else { Value::Array(values) };
                flat.insert(key, value);
            }
        }
        flat.insert("seed model".into(), Value::String(record.model.fingerprint.to_string()));
        flat.insert("version of metareward".into(), Value::String(record.version.clone()));
        all.push(flat);
    }
    let keys: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let setting = |key: &String| Setting {
        key: key.clone(),
        values: all.iter().map(|settings| settings.get(key).cloned()).collect(),
    };
    let differs = |setting: &Setting| setting.values.windows(2).any(|two| two[0] != two[1]);
    Ok(keys.into_iter().map(setting).filter(differs).collect())
}

/// Nested tables as keys with dots. Lists are values.
fn flatten(prefix: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let dot = if prefix.is_empty() || prefix.ends_with(' ') { "" } else { "." };
                flatten(format!("{prefix}{dot}{key}"), value, into);
            }
        }
        value => {
            into.insert(prefix, value);
        }
    }
}
