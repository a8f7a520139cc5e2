//! The models that a run makes: each appears whole or not at all, and one that no longer fits the settings is set aside.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Store, disk};
use crate::{Fingerprint, RunError, fingerprint};

/// A model that a run works with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// `seed`, `sft`, `M1`, `M2` …
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Fingerprint of config, weights, tokenizer and chat template.
    pub fingerprint: Fingerprint,
}

/// `metareward.json` in a model folder: where the model comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelNote {
    /// Fingerprint of the training run and the choice of checkpoint.
    pub training: Fingerprint,
    /// Fingerprint of the model's files.
    pub model: Fingerprint,
    /// The epoch whose checkpoint it is.
    pub epoch: u32,
    /// Sizes of the model's files in bytes, to notice one that was cut.
    pub files: BTreeMap<String, u64>,
    /// What training reported.
    pub report: crate::statistics::TrainingStatistics,
}

const NOTE: &str = "metareward.json";

/// The note in a model folder, where the model is whole.
pub(crate) fn note(folder: &Path) -> Result<Option<ModelNote>, RunError> {
    let Ok(text) = fs::read_to_string(folder.join(NOTE)) else { return Ok(None) };
    let Ok(note) = serde_json::from_str::<ModelNote>(&text) else { return Ok(None) };
    Ok((fingerprint::model_files(folder)? == note.files).then_some(note))
}

/// What job.json in a training folder says: which training the folder is of.
pub(crate) fn owner(training: &Fingerprint) -> Value {
    json!({ "fingerprint": training })
}

/// Whether a training folder is of this training.
pub(crate) fn owns(folder: &Path, training: &Fingerprint) -> bool {
    let text = fs::read_to_string(folder.join("job.json")).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|found| found == owner(training))
}

impl Store {
    /// The published model of this training, if it is there: in its place, or set aside earlier and now put back.
    pub(crate) fn find_model(&self, target: &Path, training: &Fingerprint) -> Result<Option<ModelNote>, RunError> {
        if let Some(note) = note(target)?
            && note.training == *training
        {
            return Ok(Some(note));
        }
        let aside = aside(target, training.short());
        if let Some(note) = note(&aside)?
            && note.training == *training
        {
            self.set_aside(target)?;
            self.disk.rename(&aside, target)?;
            return Ok(Some(note));
        }
        Ok(None)
    }

    /// Publishes the files of `source` at `target`.
    pub(crate) fn publish_model(
        &self,
        source: &Path,
        target: &Path,
        training: &Fingerprint,
        epoch: u32,
        report: crate::statistics::TrainingStatistics,
    ) -> Result<ModelNote, RunError> {
        let model = fingerprint::model_fingerprint(source)?;
        let files = fingerprint::model_files(source)?;
        let note = ModelNote { training: training.clone(), model, epoch, files, report };
        let partial = disk::partial(target);
        if partial.exists() {
            self.disk.remove_folder(&partial)?;
        }
        self.disk.create_folder(&partial)?;
        for path in disk::entries(source)? {
            if let Some(name) = path.file_name()
                && path.is_file()
            {
                self.disk.link(&path, &partial.join(name))?;
            }
        }
        self.write_json(&partial.join(NOTE), &note)?;
        disk::sync_folder(Some(&partial)).map_err(|error| RunError::io(&partial, &error))?;
        self.set_aside(target)?;
        self.disk.rename(&partial, target)?;
        Ok(note)
    }

    /// Moves a model out of the way, to a name with the fingerprint of its training.
    pub(super) fn set_aside(&self, target: &Path) -> Result<(), RunError> {
        if !target.exists() {
            return Ok(());
        }
        let mut to = match note(target)? {
            Some(note) => aside(target, note.training.short()),
            None => aside(target, "damaged"),
        };
        // A name that is taken gets a number: nothing is overwritten.
        let mut number = 1;
        while to.exists() {
            number += 1;
            to =
                aside(target, &format!("{}-{number}", to.file_name().map(|n| n.to_string_lossy()).unwrap_or_default()));
        }
        self.disk.rename(target, &to)
    }
}

fn aside(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!("{name}-{suffix}"))
}
