//! Several runs beside each other: their last models on the same held-out prompts, and the settings in which they differ.

use std::collections::BTreeMap;

use metareward_api::PromptId;
use metareward_eval::{Measurements, Table, in_words, main_table};
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
    /// What the table says.
    pub words: Vec<String>,
    /// Held-out prompts that all runs measured.
    pub shared_prompts: usize,
    /// Settings that are not the same everywhere, by key.
    pub settings: Vec<Setting>,
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
    let names = names(runs);
    let mut texts = Vec::new();
    for run in runs {
        texts.push(held_out(run)?);
    }
    let shared = texts.first().map_or(0, |first| {
        let everywhere = |(id, text): &(&PromptId, &String)| texts.iter().all(|other| other.get(id) == Some(text));
        first.iter().filter(everywhere).count()
    });
    // One name for two questions would pair what does not belong together.
    let clash = texts.iter().enumerate().any(|(place, one)| {
        texts.iter().skip(place + 1).any(|other| one.iter().any(|(id, text)| other.get(id).is_some_and(|o| o != text)))
    });
    let last = names.iter().zip(measured).filter_map(|(name, measurements)| {
        let mut model = measurements.models.last()?.clone();
        model.name = format!("{name}: {}", model.name);
        Some(model)
    });
    let models: Vec<_> = last.collect();
    let first = measured.first();
    let together = Measurements {
        models,
        base: 0,
        full_points: first.map_or(options.full_points, |of| of.full_points),
        length_unit: options.length_unit.name().into(),
    };
    let mut table = main_table(&together, &options.bootstrap);
    table.title = "The last model of each run".into();
    let own = |note: &String| !note.starts_with("Judge: ");
    table.notes.retain(own);
    table.notes.push("Judge: each run's models score the answers of that run's own base model.".into());
    if clash {
        for row in &mut table.rows {
            row.changes.fill(None);
        }
        let rate = table.column("win_rate");
        for row in &mut table.rows {
            if let Some(cell) = rate.and_then(|rate| row.cells.get_mut(rate)) {
                *cell = None;
            }
        }
        table.notes.push("The runs use one name for different held-out prompts, so no differences are taken.".into());
    } else {
        table.notes.push(format!("Differences are taken on the {shared} held-out prompts that all runs measured."));
    }
    let words = in_words(&table).lines().map(str::to_owned).collect();
    Ok(Some(Comparison { names, table, words, shared_prompts: shared, settings: settings(runs)? }))
}

/// Names of experiments where they differ; else with folder and seed, and last with a number.
fn names(runs: &[RunReader]) -> Vec<String> {
    let folder = |run: &RunReader| run.folder().file_name().map(|name| name.to_string_lossy().into_owned());
    let ways: [&dyn Fn(usize, &RunReader) -> String; 3] = [
        &|_, run| run.record().name.clone(),
        &|_, run| folder(run).unwrap_or_else(|| run.record().name.clone()),
        &|place, run| format!("{} {}", folder(run).unwrap_or_else(|| run.record().name.clone()), place + 1),
    ];
    let mut names = Vec::new();
    for way in ways {
        names = runs.iter().enumerate().map(|(place, run)| way(place, run)).collect();
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        if different.len() == names.len() {
            break;
        }
    }
    names
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
                of.extend(
                    plugin.sha256.clone().map(|hash| (format!("{}: sha256", used.section), Value::String(hash))),
                );
                for (key, value) in of {
                    options.entry(key).or_default().push(value);
                }
            }
            for (key, mut values) in options {
                values.dedup();
                let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
                flat.insert(key, value);
            }
        }
        flat.insert("seed model".into(), Value::String(record.model.fingerprint.to_string()));
        flat.insert("version of metareward".into(), Value::String(record.version.clone()));
        all.push(flat);
    }
    let keys: std::collections::BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
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
