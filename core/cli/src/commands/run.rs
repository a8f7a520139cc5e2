//! `metareward run`: an experiment from its seed model to its last one.

use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};

use metareward_api::{Generator, Trainer};
use metareward_ranks::Leader;
use metareward_remote::CommandTrainer;
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
    ranks::{self, Prepared, Ranks},
    servers::{self, BesideServers},
};

/// Runs the experiment, or goes on with it, then prints its table and writes its report.
///
/// # Errors
/// Whatever ends the run early; what was computed is kept.
pub fn run(args: &RunArgs, json: bool, logs: &Logs) -> Result<(), Failure> {
    in_group(|ranks| lead(args, json, logs, ranks), &|_| experiment::open(&args.experiment))
}

/// Does `lead` alone or on rank 0. The other ranks make the experiments that rank 0 works on, by number, and end as it does.
///
/// # Errors
/// As `lead`; when the group does not meet.
pub(crate) fn in_group(
    lead: impl FnOnce(Option<&Ranks>) -> Result<(), Failure>,
    make: &dyn Fn(usize) -> Result<Experiment, Failure>,
) -> Result<(), Failure> {
    let Some(ranks) = Ranks::meet()? else { return lead(None) };
    if ranks.leads() {
        let outcome = lead(Some(&ranks));
        ranks.end(&outcome);
        return outcome;
    }
    let code = ranks.follow(make)?;
    drop(ranks);
    // Rank 0 has said why.
    std::process::exit(code.into());
}

fn lead(args: &RunArgs, json: bool, logs: &Logs, ranks: Option<&Ranks>) -> Result<(), Failure> {
    let experiment = experiment::open(&args.experiment)?;
    let config = experiment.config();
    let folder = args.run.clone().unwrap_or_else(|| default_folder(args, config));
    let work_in = Work {
        folder: folder.clone(),
        share: Vec::new(),
        accept_changed_plugins: args.accept_changed_plugins,
        ranks: ranks.map(|ranks| (ranks, 0)),
    };
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
pub(crate) struct Work<'a> {
    /// The run folder.
    pub folder: PathBuf,
    /// Folders of runs whose finished work is taken over where it is the same.
    pub share: Vec<PathBuf>,
    /// Goes on with other plugins than the folder was made with.
    pub accept_changed_plugins: bool,
    /// The group and the experiment's number in it, where this process is one of several.
    pub ranks: Option<(&'a Ranks, usize)>,
}

/// Runs an experiment with this machine's engines, or with the group's, showing what happens.
///
/// # Errors
/// Whatever ends the run early; what was computed is kept.
pub(crate) fn work(experiment: &Experiment, work: Work<'_>, json: bool, logs: &Logs) -> Result<(), Failure> {
    let mut prepared = ranks::prepare(experiment, work.ranks.map(|(ranks, _)| ranks))?;
    let Prepared { located, settings } = &mut prepared;
    let mut machine = machine(settings, &located.folder)?;
    machine.extend(work.ranks.map(|(ranks, _)| ("processes".to_owned(), ranks.size().to_string())));
    machine.extend(located.revision.clone().map(|revision| ("model revision".to_owned(), revision)));
    let commands = servers::train_commands(experiment)?;
    let asked = servers::asked(experiment, settings, &work.folder, &located.folder)?;
    machine.extend(asked.machine);
    let fresh = !work.folder.join("run.json").exists();
    let show = Show::new(logs, json);
    let request = RunRequest {
        folder: work.folder,
        model: located.folder.clone(),
        observer: &show,
        clock: SystemTime::now,
        disk: Disk::default(),
        machine,
        accept_changed_plugins: work.accept_changed_plugins,
        share: work.share,
    };
    let go = |generator: &mut dyn Generator, trainer: &mut dyn Trainer| {
        let mut trainer = CommandTrainer::new(trainer, commands);
        let trainer: &mut dyn Trainer = &mut trainer;
        let done = |engines| experiment.run(&request, engines).map(|_| ()).map_err(experiment::failure);
        let Some(mut servers) = asked.generator else {
            return done(Engines { generator, trainer, served: asked.roles });
        };
        let mut trainer = BesideServers {
            trainer,
            servers: servers.clone(),
            try_first: fresh && experiment.config().sft.enabled,
            rest: experiment.config().engine.servers.while_training == "stop",
        };
        done(Engines { generator: &mut servers, trainer: &mut trainer, served: asked.roles })
    };
    if let Some((ranks, index)) = work.ranks {
        // Last of all that can fail here: from now on the others wait for a leader.
        ranks.begin(index, experiment, &mut prepared)?;
    }
    let mut generator = prepared.settings.generator(&prepared.located.folder)?;
    let Some((ranks, _)) = work.ranks else {
        return go(&mut generator, &mut prepared.settings.trainer(&prepared.located.folder)?);
    };
    let (mut trainer, training) = ranks.trainer(&prepared)?;
    let leader = Leader::new(ranks.exchange());
    let mut trainer = leader.trainer(&mut trainer, training);
    let outcome = go(&mut leader.generator(&mut generator), &mut trainer);
    // Where one is gone, the run has failed of it.
    let ended = leader.end(0).map_err(ranks::failure);
    outcome.and(ended)
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
