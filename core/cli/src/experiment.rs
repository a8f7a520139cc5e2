//! An experiment as named on the command line.

use std::path::{Path, PathBuf};

use metareward_runtime::{Experiment, Layers, RunError};

use crate::{
    args::ExperimentArgs,
    failure::{Code, Failure},
    model::{self, Located},
};

/// Reads the config with all its layers and makes the plugins.
///
/// # Errors
/// Whatever is wrong with the config.
pub fn open(args: &ExperimentArgs) -> Result<Experiment, Failure> {
    Experiment::open(&layers(args)?, metareward_builtin::registry).map_err(failure)
}

/// The config's layers: file, environment and `--set`.
///
/// # Errors
/// When there is no such experiment.
pub fn layers(args: &ExperimentArgs) -> Result<Layers, Failure> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("METAREWARD__"))
        .collect();
    let (over, set) = (args.with.clone(), args.set.clone());
    Ok(Layers { file: file(&args.experiment)?, over, variables, set, cell: Vec::new() })
}

/// The experiment's TOML file.
///
/// # Errors
/// When there is none.
pub fn file(path: &Path) -> Result<PathBuf, Failure> {
    let file = if path.is_dir() { path.join("experiment.toml") } else { path.to_path_buf() };
    if file.is_file() {
        return Ok(file);
    }
    Err(Failure::new(Code::Input, format!("no experiment at {}: {} is not there", path.display(), file.display()))
        .hint("give a folder with an experiment.toml, such as experiments/quickstart"))
}

/// The seed model's folder, fetched where the config names an id.
///
/// # Errors
/// When there is none.
pub fn model(experiment: &Experiment) -> Result<Located, Failure> {
    let section = &experiment.config().model;
    if let Some(folder) = experiment.model_folder() {
        if folder.is_dir() {
            return Ok(Located { folder, revision: None });
        }
        let missing = Failure::new(Code::Input, format!("model.path: there is no folder {}", folder.display()));
        return Err(missing.hint("make or fetch it; `metareward seed-model` makes the quickstart's"));
    }
    match &section.id {
        Some(id) => model::locate(id, section.revision.as_deref()),
        None => Err(Failure::new(Code::Input, "the config names no model")
            .hint("write path = \"folder\" or id = \"owner/name\" under [model]")),
    }
}

/// A run's error on its way out.
pub fn failure(error: RunError) -> Failure {
    let code = match error.exit_code() {
        // Only Ctrl-C asks a run of the command line to stop.
        _ if matches!(error, RunError::Stopped) => Code::Interrupted,
        2 => Code::Input,
        3 => Code::Plugin,
        4 => Code::Machine,
        70 => Code::Bug,
        _ => Code::Run,
    };
    Failure::new(code, error)
}
