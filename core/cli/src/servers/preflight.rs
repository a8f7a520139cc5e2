//! What can be known of servers before a run begins.

use std::collections::BTreeMap;

use metareward_remote::{FaultKind, Pool};
use metareward_runtime::{Experiment, Schedule};

use crate::failure::{Code, Failure};

/// Asks every server for its models, and refuses what would fail later: a server that is away, a key that it does not take,
/// a model that it does not have. A short context is warned of.
pub fn check(pool: &Pool, key: &str, model: Option<&str>, by_name: bool, context: Option<u32>) -> Result<(), Failure> {
    for (place, endpoint) in pool.endpoints().enumerate() {
        let url = endpoint.address.url();
        let models = match pool.models(place) {
            Ok(models) => models,
            // Not every hosted server lists its models.
            Err(fault) if fault.kind() == FaultKind::NotFound && model.is_some() => continue,
            Err(fault) => {
                let hint = match fault.kind() {
                    FaultKind::Key => "give the server's key by a variable or a file: key_variable, key_file",
                    FaultKind::Connect => {
                        "start it, or see its address; `curl` of the address with /models must answer"
                    }
                    _ => "the address must be the one that /chat/completions is appended to, mostly ending in /v1",
                };
                return Err(Failure::new(Code::Run, format!("{url}: {fault}")).hint(hint));
            }
        };
        let Some(model) = model else {
            if models.len() != 1 && !by_name {
                let names: Vec<&str> = models.iter().take(10).map(|model| model.name.as_str()).collect();
                let message = format!("{url} has {} models: {}", models.len(), names.join(", "));
                return Err(Failure::new(Code::Input, message).hint(format!("name one of them: {key}")));
            }
            warn_of_context(url, models.first().and_then(|model| model.context), context);
            continue;
        };
        match models.iter().find(|found| found.name == model) {
            Some(found) => warn_of_context(url, found.context, context),
            // A list may leave out what a server loads when it is asked for it.
            None if models.is_empty() => {}
            None => {
                let like = models.iter().find(|found| {
                    let (found, model) = (found.name.to_lowercase(), model.to_lowercase());
                    found.contains(&model) || model.contains(&found)
                });
                let names: Vec<&str> = models.iter().take(10).map(|model| model.name.as_str()).collect();
                let hint = match like {
                    Some(like) => format!("did you mean {}?", like.name),
                    None => format!("it has {}", names.join(", ")),
                };
                return Err(Failure::new(Code::Input, format!("{key}: {url} has no model {model}")).hint(hint));
            }
        }
    }
    Ok(())
}

fn warn_of_context(url: &str, of_server: Option<u64>, of_model: Option<u32>) {
    if let (Some(server), Some(model)) = (of_server, of_model.map(u64::from))
        && server < model
    {
        tracing::warn!(
            "{url} takes sequences of {server} tokens, the model of {model}: what is longer is cut there; a server's option is \
             like --max-model-len {model}"
        );
    }
}

/// Writes down what servers say of themselves.
pub fn record(pool: &Pool, name: &str, machine: &mut BTreeMap<String, String>) {
    for place in 0..pool.endpoints().count() {
        let server = pool.describe(place);
        let version = server.version.map(|version| format!(", {version}")).unwrap_or_default();
        let models: Vec<String> = server
            .models
            .iter()
            .take(3)
            .map(|(name, context)| match context {
                Some(context) => format!("{name} (context {context})"),
                None => name.clone(),
            })
            .collect();
        let models = if models.is_empty() { String::new() } else { format!(", serving {}", models.join(", ")) };
        machine.insert(format!("{name} {place}"), format!("{} {}{version}{models}", server.dialect, server.url));
    }
}

/// Warns where a shard has too few requests to keep all servers busy: shards are generated one after the other.
pub fn advise_shards(experiment: &Experiment, servers: usize) {
    let config = experiment.config();
    let fewest = |schedule: &Schedule<u32>| schedule.values().iter().copied().min().unwrap_or(1);
    let places = servers as u64 * u64::from(config.engine.asking.in_flight);
    let requests = u64::from(config.prompts.shard_size) * u64::from(fewest(&config.actor.responses));
    if requests < 2 * places && fewest(&config.prompts.per_iteration) > config.prompts.shard_size {
        tracing::warn!(
            "a shard of {} prompts is {requests} requests for {places} places at servers, which will be idle at the end of \
             each; prompts.shard_size = {} keeps them busy",
            config.prompts.shard_size,
            (4 * places).div_ceil(u64::from(fewest(&config.actor.responses)).max(1))
        );
    }
}
