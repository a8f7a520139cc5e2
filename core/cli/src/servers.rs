//! Servers that a config names: checked before a run begins, and made into generators.

mod measure;
mod preflight;
mod sharing;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
    time::Duration,
};

use metareward_api::{EngineError, Generator};
use metareward_remote::{
    Address, Backoff, Change, Endpoint, Key, Pool, PoolOptions, Proof, Reload, RemoteError, RemoteGenerator,
    ScheduleOptions, ServedRecord, Servers, ServersOptions, TRAINER_WORDS, Timeouts, TrainCommand, TrainCommands,
    misspelt,
};
use metareward_runtime::{
    AskingSection, Experiment, Fingerprint, Schedule, ServersSection, TrainSection, model_fingerprint,
};

use crate::{
    engine,
    failure::{Code, Failure},
};
use measure::{EngineMeasure, FolderReader};
pub use sharing::{BesideServers, Shared};

/// Words that commands and requests to servers may hold.
const WORDS: [&str; 4] = ["model", "host", "port", "number"];

/// What a run asks of servers.
pub struct Asked {
    /// The generator of the run, where servers are it.
    pub generator: Option<Shared>,
    /// Generators of roles, by the names that the config gives their servers.
    pub roles: BTreeMap<String, Box<dyn Generator>>,
    /// What servers said of themselves, for the record.
    pub machine: BTreeMap<String, String>,
}

/// Makes what a config asks of servers, after all that can be checked beforehand was. `run` is the run folder, `model` the
/// seed model's.
///
/// # Errors
/// An address, key, model name or command that cannot be used; a server that should answer now and does not.
pub fn asked(experiment: &Experiment, settings: &engine::Settings, run: &Path, model: &Path) -> Result<Asked, Failure> {
    let mut asked = Asked { generator: None, roles: BTreeMap::new(), machine: BTreeMap::new() };
    let section = &experiment.config().engine;
    let folder = run.join("servers");
    if section.generator == "servers" {
        asked.generator = Some(generator(experiment, settings, &folder, model, &mut asked.machine)?);
    }
    for name in experiment.served_roles() {
        let generator = role(experiment, &name, &folder, &mut asked.machine)?;
        asked.roles.insert(name, Box::new(generator));
    }
    Ok(asked)
}

/// The generator over `[engine.servers]`.
fn generator(
    experiment: &Experiment,
    settings: &engine::Settings,
    folder: &Path,
    model: &Path,
    machine: &mut BTreeMap<String, String>,
) -> Result<Shared, Failure> {
    let config = experiment.config();
    let section = &config.engine.servers;
    let wrong = |key: &str, message: String| wrong(experiment, &format!("engine.servers.{key}"), &message);
    check_words(experiment, section)?;
    let addresses: Vec<Address> = section
        .addresses
        .iter()
        .map(|text| text.parse().map_err(|error: RemoteError| wrong("addresses", error.to_string())))
        .collect::<Result<_, _>>()?;
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = addresses.iter().find(|address| !seen.insert(address.url())) {
        return Err(wrong("addresses", format!("{} is there twice", twice.url())));
    }
    let key = key(experiment, "engine.asking", &config.engine.asking)?;
    let asked_for = section.model.clone().unwrap_or_default();
    let endpoint = |address: Address| Endpoint {
        address,
        model: asked_for.clone(),
        answers_as: section.answers_as.clone(),
        key: key.clone(),
    };
    let options = pool_options(&config.engine.asking, config.seed);
    let pool = Pool::new(addresses.into_iter().map(endpoint).collect(), options)?;
    let change = change(section, pool.endpoints().count());
    machine.insert("generator".to_owned(), "servers".to_owned());
    let context = metareward_remote::read_card(model).map_err(engine::failure)?.context;
    if !matches!(change, Change::Restart(_)) {
        let name = section.model.as_deref().filter(|name| !name.contains("{model}"));
        let by_name = section.model.is_some() && name.is_none();
        preflight::check(&pool, "engine.servers.model", name, by_name, Some(context))?;
        preflight::record(&pool, "server", machine);
    } else {
        for (place, endpoint) in pool.endpoints().enumerate() {
            machine.insert(format!("server {place}"), format!("{}, started by the run", endpoint.address.url()));
        }
    }
    preflight::advise_shards(experiment, pool.endpoints().count());
    let options = ServersOptions {
        model: section.model.clone(),
        change,
        ready: Duration::from_secs_f64(section.ready_seconds),
        proof: match section.proof.as_str() {
            "off" => Proof::Off,
            "servers" => Proof::Servers,
            _ => Proof::Engine,
        },
        tolerance: section.tolerance,
        folder: folder.to_owned(),
    };
    let identify = |folder: &Path| match model_fingerprint(folder) {
        Ok(fingerprint) => Ok(fingerprint.as_str().to_owned()),
        Err(error) => Err(EngineError::Model { folder: folder.to_owned(), message: error.to_string() }),
    };
    let measure = EngineMeasure::new(settings.clone());
    let servers = Servers::new(&pool, options, Box::new(identify), Some(Box::new(measure)))?;
    let kept = folder.join("served.jsonl");
    let mut told = 0;
    let tell = move |servers: &Servers| {
        let new = servers.records().get(told..).unwrap_or_default();
        told = servers.records().len();
        note(&kept, new)
    };
    let generator = RemoteGenerator::new(pool, Some(Box::new(FolderReader::default())));
    Ok(Shared::new(generator.keeping(folder).serving(servers, tell)))
}

/// Adds what servers took up to the file that remembers it.
fn note(path: &Path, records: &[ServedRecord]) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| EngineError::Io { path: path.to_owned(), message: error.to_string() };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = File::options().append(true).create(true).open(path).map_err(failed)?;
    for record in records {
        let mut line = serde_json::to_vec(record).map_err(std::io::Error::other).map_err(failed)?;
        line.push(b'\n');
        file.write_all(&line).map_err(failed)?;
        let proof = match (&record.by, record.distance) {
            (Some(by), Some(distance)) => format!("; by {by} of {} tokens {distance:.1e} apart", record.tokens),
            _ => String::new(),
        };
        tracing::info!("{} serves {}{proof}", record.server.url, record.folder.display());
    }
    Ok(())
}

/// A generator over the servers of a role, as in `openai:https://host/v1#model`.
fn role(
    experiment: &Experiment,
    name: &str,
    folder: &Path,
    machine: &mut BTreeMap<String, String>,
) -> Result<RemoteGenerator, Failure> {
    let config = experiment.config();
    let wrong = |message: String| Failure::new(Code::Input, format!("roles: {message}"));
    let asking = &config.roles.asking;
    let key = key(experiment, "roles.asking", asking)?;
    let mut endpoints = Vec::new();
    let mut model: Option<String> = None;
    for one in name.split(',').map(str::trim) {
        let (address, named) = one.split_once('#').map_or((one, None), |(address, model)| (address, Some(model)));
        let address: Address = address.parse().map_err(|error: RemoteError| wrong(error.to_string()))?;
        let timeouts = Timeouts::default();
        let found = match named {
            Some(named) if !named.is_empty() => named.to_owned(),
            _ => metareward_remote::only_model(&address, key.as_ref(), timeouts)
                .map_err(|error| Failure::from(error).hint(format!("name the model after a #, as in {one}#model")))?,
        };
        if let Some(other) = model.as_ref().filter(|model| **model != found) {
            return Err(wrong(format!("{name}: servers of one role have one model, not {other} and {found}")));
        }
        model = Some(found.clone());
        endpoints.push(Endpoint { address, model: found, answers_as: None, key: key.clone() });
    }
    let pool = Pool::new(endpoints, pool_options(asking, config.seed))?;
    preflight::check(&pool, "roles", model.as_deref(), false, None)?;
    preflight::record(&pool, &format!("role {}", pool.model()), machine);
    let hash = Fingerprint::of_bytes(name.as_bytes());
    Ok(RemoteGenerator::new(pool, None).keeping(&folder.join(format!("role-{}", hash.short()))))
}

/// The commands that train, as far as there are any.
///
/// # Errors
/// A word in braces that looks like a slip of the pen.
pub fn train_commands(experiment: &Experiment) -> Result<TrainCommands, Failure> {
    let config = experiment.config();
    for (key, section) in [("sft.train", &config.sft.train), ("train", &config.train)] {
        if let Some((word, meant)) = section.command.as_ref().and_then(|text| misspelt(text, &TRAINER_WORDS)) {
            let message = format!("{{{word}}} is no word that is filled in; did you mean {{{meant}}}?");
            return Err(wrong(experiment, &format!("{key}.command"), &message));
        }
    }
    let command = |section: &TrainSection| {
        let longest = Duration::from_secs_f64(section.command_hours * 3600.0);
        section.command.clone().map(|command| TrainCommand { command, longest })
    };
    Ok(TrainCommands { sft: command(&config.sft.train), preference: command(&config.train) })
}

fn change(section: &ServersSection, servers: usize) -> Change {
    match &section.restart {
        Some(Schedule::Same(command)) => Change::Restart(vec![command.clone(); servers]),
        Some(Schedule::Each(commands)) => Change::Restart(commands.clone()),
        None if section.reload.is_empty() => Change::Nothing,
        None => Change::Reload(section.reload.iter().map(|text| Reload::read(text)).collect()),
    }
}

/// Refuses words in braces that look like slips of the pen.
fn check_words(experiment: &Experiment, section: &ServersSection) -> Result<(), Failure> {
    let commands = section.restart.iter().flat_map(Schedule::values).map(|text| ("restart", text));
    let requests = section.reload.iter().map(|text| ("reload", text));
    let names = section.model.iter().map(|text| ("model", text));
    for (key, text) in commands.chain(requests).chain(names) {
        if let Some((word, meant)) = misspelt(text, &WORDS) {
            let message = format!("{{{word}}} is no word that is filled in; did you mean {{{meant}}}?");
            return Err(wrong(experiment, &format!("engine.servers.{key}"), &message));
        }
    }
    for request in &section.reload {
        let Reload { path, body } = Reload::read(request);
        let filled = body.replace("{model}", "model").replace("{host}", "host");
        let filled = filled.replace("{port}", "0").replace("{number}", "0");
        if !path.starts_with('/') || serde_json::from_str::<serde_json::Value>(&filled).is_err() {
            let message =
                format!("{request:?} is not a path and a JSON text, as in '/update {{\"model_path\": \"{{model}}\"}}'");
            return Err(wrong(experiment, "engine.servers.reload", &message));
        }
    }
    Ok(())
}

/// The key that servers are asked with, if any.
fn key(experiment: &Experiment, section: &str, asking: &AskingSection) -> Result<Option<Key>, Failure> {
    if let Some(file) = &asking.key_file {
        return Key::from_file(&experiment.folder().join(file)).map(Some).map_err(Failure::from);
    }
    let key = Key::from_variable(&asking.key_variable)?;
    let by_default = AskingSection::default().key_variable == asking.key_variable
        || metareward_runtime::RolesSection::default().asking.key_variable == asking.key_variable;
    if key.is_none() && !by_default {
        let message = format!("the variable {} is not set", asking.key_variable);
        return Err(wrong(experiment, &format!("{section}.key_variable"), &message)
            .hint("set it to the servers' key, or name a file with key_file"));
    }
    Ok(key)
}

fn pool_options(asking: &AskingSection, seed: u64) -> PoolOptions {
    let limit = |number: u32| (number > 0).then_some(number);
    PoolOptions {
        schedule: ScheduleOptions {
            in_flight: asking.in_flight,
            requests_per_minute: limit(asking.requests_per_minute),
            tokens_per_minute: limit(asking.tokens_per_minute),
            retries: asking.retries,
            backoff: Backoff { seed, ..Backoff::default() },
            patience: Duration::from_secs_f64(asking.patience_seconds),
        },
        timeouts: Timeouts { total: Duration::from_secs_f64(asking.timeout_seconds), ..Timeouts::default() },
    }
}

/// A value that cannot be used, with the place it came from.
fn wrong(experiment: &Experiment, key: &str, message: &str) -> Failure {
    Failure::new(Code::Input, format!("{}: `{key}`: {message}", experiment.place(key)))
}
