//! `metareward run`: an experiment from its seed model to its last one.

use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};

use metareward_runtime::{Config, Disk, Engines, Experiment, RunReader, RunRequest};
use metareward_torch::libtorch_info;
use serde_json::json;

use crate::{
    args::RunArgs,
    commands::{report, table},
    engine, experiment,
    failure::Failure,
    logging::Logs,
    progress::Show,
};

/// Runs the experiment, or goes on with it, then prints its table and writes its report.
///
/// # Errors
/// Whatever ends the run early; what was computed is kept.
pub fn run(args: &RunArgs, json: bool, logs: &Logs) -> Result<(), Failure> {
    let experiment = experiment::open(&args.experiment)?;
    let config = experiment.config();
    let folder = args.run.clone().unwrap_or_else(|| default_folder(args, config));
    let work_in =
        Work { folder: folder.clone(), share: Vec::new(), accept_changed_plugins: args.accept_changed_plugins };
    work(&experiment, work_in, json, logs)?;
    let reader = RunReader::open(&folder).map_err(experiment::failure)?;
    if config.evaluation.prompts > 0 {
        table::show(std::slice::from_ref(&reader), json)?;
    }
    if !args.no_report {
        write_report(reader, json);
    }
    Ok(())
}

/// Writes the run's page. A run whose page cannot be written is done all the same.
fn write_report(reader: RunReader, json: bool) {
    let folder = reader.folder().to_owned();
    match metareward_report::report(&[reader], &folder.join("report.html"), &report::options()) {
        Ok(written) if json => {
            println!("{}", json!({ "event": "report", "report": written.path, "bytes": written.bytes }))
        }
        // Beside the table and not in it: standard output is the same wherever the run folder lies.
        Ok(written) => eprintln!("report: {}", written.path.display()),
        Err(error) => tracing::warn!(
            "the run is done, and its report could not be written: {error}; `metareward report {}` tries again",
            folder.display()
        ),
    }
}

/// Where a run's work is done, and with whom it is shared.
pub(crate) struct Work {
    /// The run folder.
    pub folder: PathBuf,
    /// Folders of runs whose finished work is taken over where it is the same.
    pub share: Vec<PathBuf>,
    /// Goes on with other plugins than the folder was made with.
    pub accept_changed_plugins: bool,
}

/// Runs an experiment with this machine's engines, showing what happens.
///
/// # Errors
/// Whatever ends the run early; what was computed is kept.
pub(crate) fn work(experiment: &Experiment, work: Work, json: bool, logs: &Logs) -> Result<(), Failure> {
    let located = experiment::model(experiment)?;
    let settings = engine::Settings::of_section(&experiment.config().engine)?;
    let mut generator = settings.generator(&located.folder)?;
    let mut trainer = settings.trainer(&located.folder)?;
    let mut machine = machine(&settings, &located.folder)?;
    machine.extend(located.revision.map(|revision| ("model revision".to_owned(), revision)));
    let show = Show::new(logs, json);
    let request = RunRequest {
        folder: work.folder,
        model: located.folder,
        observer: &show,
        clock: SystemTime::now,
        disk: Disk::default(),
        machine,
        accept_changed_plugins: work.accept_changed_plugins,
        share: work.share,
    };
    let engines = Engines { generator: &mut generator, trainer: &mut trainer };
    experiment.run(&request, engines).map_err(experiment::failure)?;
    Ok(())
}

/// `<runs>/<name>-<seed>`: a changed option goes on in the same folder and keeps what does not depend on it.
fn default_folder(args: &RunArgs, config: &Config) -> PathBuf {
    args.runs.join(format!("{}-{}", config.name, config.seed))
}

/// What computes, for the record.
fn machine(settings: &engine::Settings, model: &std::path::Path) -> Result<BTreeMap<String, String>, Failure> {
    let torch = libtorch_info();
    let device = settings.device.resolve().map_err(engine::torch_failure)?;
    Ok([
        ("libtorch", torch.version.to_owned()),
        ("cuda", torch.cuda.to_string()),
        ("device", format!("{device:?}")),
        ("precision", settings.precision(model)?.config_name().to_owned()),
        ("cores", std::thread::available_parallelism().map_or(1, usize::from).to_string()),
        ("system", metareward_setup::system()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect())
}
