//! `metareward plugin check`: the laws of a kind, held against one plugin.

use metareward_api::{Kind, OptionError, PluginError, Selector};
use metareward_host::{HostError, Registry};
use metareward_laws::{Finding, LawOutcome, Plan, check, check_options, check_same, check_selector_family};
use serde_json::{Map, Value, json};

use crate::{
    args::{CheckArgs, TrustArgs},
    failure::Failure,
    plugins::{self, Made, Named},
};

/// Cases per law of options at most: every one of them makes the plugin anew.
const OPTION_CASES: u32 = 32;

/// Prints every law and what was found, then the command that repeats it; with `--json` one object. Returns whether no
/// law is broken.
///
/// # Errors
/// When there is no such plugin, its file cannot be used, or its options are refused.
pub fn run(args: &CheckArgs, json: bool) -> Result<bool, Failure> {
    let settings = plugins::settings(&args.limits);
    let registry = plugins::registry(settings.clone())?;
    let named = plugins::find(&registry, &settings, &args.plugin, args.kind, &args.trust)?;
    let options = plugins::options(args.options.as_deref())?;
    let plugin = Made::make(&registry, &named, &options).map_err(plugins::failure)?;
    let record = registry.record(named.kind, &named.source, &options).map_err(plugins::failure)?;
    let card = registry.card(named.kind, &named.source).map_err(plugins::failure)?;
    let plan = Plan { cases: args.cases, seed: args.seed };

    let mut outcomes = check(plugin.any(), plan);
    if named.kind == Kind::Selector && card.options.pointer("/properties/rho").is_some() {
        outcomes.extend(family(&registry, &named, &options, plan));
    }
    let resolve = |given: &Value| match registry.record(named.kind, &named.source, given) {
        Ok(record) => Ok(record.options),
        Err(HostError::Options { error, .. }) => Err(error),
        Err(other) => Err(OptionError::new(other.to_string())),
    };
    let few = Plan { cases: args.cases.min(OPTION_CASES), ..plan };
    outcomes.extend(check_options(&card.options, &resolve, few));
    if let Some(other) = &args.same_as {
        // A hash vouches for one file alone.
        let trust = TrustArgs { sha256: None, trust: args.trust.trust };
        let other = plugins::find(&registry, &settings, other, Some(named.kind), &trust)?;
        let other = Made::make(&registry, &other, &options).map_err(plugins::failure)?;
        outcomes.push(check_same(plugin.any(), other.any(), plan));
    }

    let broken = outcomes.iter().filter(|outcome| outcome.is_broken()).count();
    let command = command(args);
    if json {
        let value = json!({
            "plugin": record, "cases": plan.cases, "seed": plan.seed, "held": broken == 0, "laws": outcomes,
            "command": command,
        });
        println!("{value}");
        return Ok(broken == 0);
    }
    let info = &record.info;
    println!("{} {} {} ({})\n", info.kind, info.name, info.version, record.form);
    for outcome in &outcomes {
        show(outcome);
    }
    let count = |wanted: fn(&Finding) -> bool| outcomes.iter().filter(|outcome| wanted(&outcome.finding)).count();
    let held = count(|finding| *finding == Finding::Held);
    let not_checked = count(|finding| matches!(finding, Finding::NotChecked(_)));
    println!("\n{held} laws held, {broken} broken, {not_checked} not checked; {} cases each", plan.cases);
    println!("to repeat: {command}");
    Ok(broken == 0)
}

fn show(LawOutcome { law, finding, .. }: &LawOutcome) {
    match finding {
        Finding::Held => println!("held         {law}"),
        Finding::NotChecked(reason) => println!("not checked  {law} ({reason})"),
        Finding::Broken { reason, counterexample } => {
            println!("BROKEN       {law}");
            println!("             {reason}");
            println!("             smallest case: {counterexample}");
        }
    }
}

/// Laws between selectors of different rho, otherwise with the options given.
fn family(registry: &Registry, named: &Named, options: &Value, plan: Plan) -> Vec<LawOutcome> {
    let make = |rho: f64| -> Result<Box<dyn Selector>, PluginError> {
        let mut options = options.as_object().cloned().unwrap_or_else(Map::new);
        options.insert("rho".to_owned(), json!(rho));
        let made = registry.selector(&named.source, &Value::Object(options));
        made.map_err(|error| PluginError::new(error.to_string()))
    };
    check_selector_family(&make, plan)
}

/// What was typed, with the seed and the number of cases.
fn command(args: &CheckArgs) -> String {
    let mut words = vec!["metareward".to_owned(), "plugin".into(), "check".into(), quoted(&args.plugin)];
    let mut pair = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([name.to_owned(), quoted(&value)]);
        }
    };
    pair("--kind", args.kind.map(|kind| kind.to_string()));
    pair("--options", args.options.clone());
    pair("--same-as", args.same_as.clone());
    pair("--sha256", args.trust.sha256.clone());
    pair("--cases", Some(args.cases.to_string()));
    pair("--seed", Some(args.seed.to_string()));
    let limits = metareward_host::Settings::default();
    pair("--fuel", (args.limits.fuel != limits.fuel).then(|| args.limits.fuel.to_string()));
    pair("--memory-mib", (args.limits.memory_mib != limits.memory_mib).then(|| args.limits.memory_mib.to_string()));
    if args.trust.trust {
        words.push("--trust".to_owned());
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        assert_eq!(quoted("target/my-ranker.wasm"), "target/my-ranker.wasm");
        assert_eq!(quoted("{\"rho\": 0.4}"), "'{\"rho\": 0.4}'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
