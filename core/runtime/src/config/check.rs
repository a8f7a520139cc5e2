//! Ranges of values and lengths of schedules.

use serde_json::json;

use super::{AskingSection, Config, Keep, Loaded, PluginSection, Reference, Schedule, TrainSection};
use crate::RunError;

/// Checks every value that the types alone leave open.
pub(super) fn check(loaded: &Loaded) -> Result<(), RunError> {
    let config = &loaded.config;
    let check = Check { loaded };
    let name_is_a_folder =
        !config.name.is_empty() && !config.name.contains(['/', '\\']) && !config.name.starts_with('.');
    check.that(name_is_a_folder, "name", &config.name, "a name that can be a folder's, without slashes")?;
    check.that((1..=1000).contains(&config.iterations), "iterations", config.iterations, "from 1 to 1000")?;
    check.that(config.prompts.shard_size > 0, "prompts.shard_size", config.prompts.shard_size, "at least 1")?;
    check.each("prompts.per_iteration", &config.prompts.per_iteration, |n| *n > 0, "at least 1")?;
    check.each("actor.responses", &config.actor.responses, |k| *k > 0, "at least 1; the paper has 7")?;
    check.each("actor.pairs", &config.actor.pairs, |_| true, "")?;
    check.each("judge.judgments", &config.judge.judgments, |n| *n > 0, "at least 1; the paper has 11")?;
    check.each("meta_judge.pairs", &config.meta_judge.pairs, |_| true, "")?;
    check.each("pairs.reference", &config.pairs.reference, |_| true, "")?;
    check.each("pairs.carry_over", &config.pairs.carry_over, |_| true, "")?;
    let share = "over 0 and at most 1; 0.15 lets 15 % of a batch be judge pairs";
    check.each("pairs.judge_share", &config.pairs.judge_share, |share| *share > 0.0 && *share <= 1.0, share)?;
    check.train("train", &config.train, config.iterations)?;
    check.train("sft.train", &config.sft.train, 1)?;
    let evaluation = &config.evaluation;
    check.that(evaluation.responses > 0, "evaluation.responses", evaluation.responses, "at least 1")?;
    check.that(evaluation.judgments > 0, "evaluation.judgments", evaluation.judgments, "at least 1")?;
    check.that(
        evaluation.judge_prompts <= evaluation.prompts,
        "evaluation.judge_prompts",
        evaluation.judge_prompts,
        &format!("at most evaluation.prompts, which is {}", evaluation.prompts),
    )?;
    for iteration in 1..=config.iterations {
        let actor = config.actor.pairs.at(iteration).copied().unwrap_or_default();
        let judge = config.meta_judge.pairs.at(iteration).copied().unwrap_or_default();
        let what = format!("false in iteration {iteration}, and so is meta_judge.pairs");
        check.that(actor || judge, "actor.pairs", what, "true where meta_judge.pairs is false")?;
    }
    check.model(config)?;
    check.roles(config)?;
    check.servers(config)?;
    check.plugins(&config.plugins)?;
    for (key, section) in plugin_sections(config) {
        check.plugin(key, &section)?;
    }
    let device = &config.engine.device;
    let known = matches!(device.as_str(), "auto" | "cpu" | "cuda")
        || device.strip_prefix("cuda:").is_some_and(|number| number.parse::<u32>().is_ok());
    check.that(known, "engine.device", format!("{device:?}"), "\"auto\", \"cpu\", \"cuda\" or \"cuda:0\"")?;
    let dtype = &config.engine.dtype;
    let known = matches!(dtype.as_str(), "auto" | "f32" | "bf16");
    check.that(known, "engine.dtype", format!("{dtype:?}"), "\"auto\", \"f32\" or \"bf16\"")
}

/// Every section that names a plugin, with its key.
fn plugin_sections(config: &Config) -> [(&'static str, PluginSection); 11] {
    let (sampler, selector) = (config.sampler.clone(), config.selector.clone());
    [
        ("task", config.task.clone()),
        ("sampler.actor", sampler.actor),
        ("sampler.judge", sampler.judge),
        ("sampler.meta_judge", sampler.meta_judge),
        ("sampler.evaluation", sampler.evaluation),
        ("rubric", config.rubric.clone()),
        ("meta_judge", config.meta_judge.section()),
        ("ranker", config.ranker.clone()),
        ("selector.actor", selector.actor),
        ("selector.judge", selector.judge),
        ("optimizer", config.optimizer.clone()),
    ]
}

/// Says what is wrong with a value, and where it was written.
pub(super) struct Check<'a> {
    loaded: &'a Loaded,
}

impl Check<'_> {
    pub(super) fn that(&self, holds: bool, key: &str, found: impl ToString, expected: &str) -> Result<(), RunError> {
        if holds {
            return Ok(());
        }
        Err(RunError::BadValue {
            place: self.loaded.place(key),
            key: key.into(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// Length of a schedule, then every value of it.
    fn each<T: serde::Serialize>(
        &self,
        key: &str,
        schedule: &Schedule<T>,
        holds: impl Fn(&T) -> bool,
        expected: &str,
    ) -> Result<(), RunError> {
        self.list(key, schedule, self.loaded.config.iterations)?;
        for value in schedule.values() {
            let text = serde_json::to_string(value).unwrap_or_default();
            self.that(holds(value), key, text, expected)?;
        }
        Ok(())
    }

    fn list<T>(&self, key: &str, schedule: &Schedule<T>, iterations: u32) -> Result<(), RunError> {
        match schedule.length() {
            Some(length) if u32::try_from(length) != Ok(iterations) => {
                let place = self.loaded.place(key);
                Err(RunError::ScheduleLength { place, key: key.into(), length, iterations })
            }
            _ => Ok(()),
        }
    }

    fn train(&self, section: &str, train: &TrainSection, runs: u32) -> Result<(), RunError> {
        let key = |name: &str| format!("{section}.{name}");
        self.list(&key("epochs"), &train.epochs, runs)?;
        self.list(&key("keep"), &train.keep, runs)?;
        self.list(&key("batch_size"), &train.batch_size, runs)?;
        self.list(&key("learning_rate"), &train.learning_rate, runs)?;
        for run in 1..=runs {
            let epochs = train.epochs.at(run).copied().unwrap_or_default();
            self.that(epochs > 0, &key("epochs"), epochs, "at least 1; the paper has 10")?;
            match train.keep.at(run) {
                Some(Keep::Epoch(epoch)) => {
                    let expected = format!("an epoch from 1 to {section}.epochs, which is {epochs}");
                    self.that((1..=epochs).contains(epoch), &key("keep"), epoch, &expected)?;
                }
                Some(Keep::Best) => self.that(
                    train.validation_share > 0.0,
                    &key("keep"),
                    "\"best\"",
                    &format!("\"last\" or an epoch, unless {section}.validation_share is over 0"),
                )?,
                _ => {}
            }
            let batch = train.batch_size.at(run).copied().unwrap_or_default();
            self.that(batch > 0, &key("batch_size"), batch, "at least 1; the paper has 32")?;
            let rate = train.learning_rate.at(run).copied().unwrap_or_default();
            self.that(rate.is_finite() && rate >= 0.0, &key("learning_rate"), rate, "0 or more; the paper has 5e-6")?;
        }
        let unit = |value: f64| (0.0..1.0).contains(&value);
        self.that(unit(train.warmup_ratio), &key("warmup_ratio"), train.warmup_ratio, "at least 0 and under 1")?;
        self.that(unit(train.adam_beta1), &key("adam_beta1"), train.adam_beta1, "at least 0 and under 1")?;
        self.that(unit(train.adam_beta2), &key("adam_beta2"), train.adam_beta2, "at least 0 and under 1")?;
        self.that(
            unit(train.validation_share),
            &key("validation_share"),
            train.validation_share,
            "at least 0 and under 1",
        )?;
        self.that(train.adam_epsilon > 0.0, &key("adam_epsilon"), train.adam_epsilon, "over 0")?;
        self.that(train.weight_decay >= 0.0, &key("weight_decay"), train.weight_decay, "0 or more")?;
        self.that(
            train.max_grad_norm >= 0.0,
            &key("max_grad_norm"),
            train.max_grad_norm,
            "0 or more; 0 does not clip",
        )?;
        self.that(train.max_length > 1, &key("max_length"), train.max_length, "at least 2 tokens")?;
        self.that(train.micro_batch_tokens > 0, &key("micro_batch_tokens"), train.micro_batch_tokens, "at least 1")?;
        let default = TrainSection::default();
        let single = match (self.loaded.config.engine.dtype.as_str(), &train.lora) {
            (_, Some(_)) => Some("adapters are f32"),
            ("f32", None) => Some("engine.dtype is \"f32\""),
            _ => None,
        };
        if let Some(why) = single {
            let expected = format!("\"masters\", as {why}");
            self.that(train.weights == default.weights, &key("weights"), json!(train.weights), &expected)?;
            let expected = format!("\"f32\", as {why}");
            self.that(train.gradients == default.gradients, &key("gradients"), json!(train.gradients), &expected)?;
        }
        let hours = train.command_hours;
        self.that(hours > 0.0 && hours < 1e6, &key("command_hours"), hours, "a number of hours over 0")?;
        if let Some(command) = &train.command {
            for word in ["{model}", "{data}", "{output}"] {
                let expected = "a command with {model}, {data} and {output}";
                self.that(command.contains(word), &key("command"), format!("without {word}"), expected)?;
            }
            let share = train.validation_share;
            self.that(
                share == 0.0,
                &key("validation_share"),
                share,
                "0 beside a command, which tells of no validation",
            )?;
            let beside = "left out beside a command, which does as it likes";
            self.that(train.lora.is_none(), &key("lora"), "given", beside)?;
        }
        if let Some(lora) = &train.lora {
            self.that(lora.rank > 0, &key("lora.rank"), lora.rank, "at least 1")?;
            self.that(
                !lora.targets.is_empty(),
                &key("lora.targets"),
                "empty",
                "names of layers, such as [\"q_proj\"]",
            )?;
        }
        Ok(())
    }

    fn roles(&self, config: &Config) -> Result<(), RunError> {
        let roles = &config.roles;
        self.list("pairs.reference", &config.pairs.reference, config.iterations)?;
        for (key, role) in
            [("roles.actor", &roles.actor), ("roles.judge", &roles.judge), ("roles.meta_judge", &roles.meta_judge)]
        {
            self.list(key, role, config.iterations)?;
        }
        let served = |reference: &Reference| matches!(reference, Reference::Servers(_));
        self.that(
            !config.pairs.reference.values().iter().any(served),
            "pairs.reference",
            "a server",
            "\"data-model\", \"initial\" or a model folder: its log-probabilities are computed here",
        )?;
        self.asking("roles.asking", &roles.asking)
    }

    fn asking(&self, section: &str, asking: &AskingSection) -> Result<(), RunError> {
        let key = |name: &str| format!("{section}.{name}");
        self.that(asking.in_flight > 0, &key("in_flight"), asking.in_flight, "at least 1")?;
        for (name, seconds) in
            [("timeout_seconds", asking.timeout_seconds), ("patience_seconds", asking.patience_seconds)]
        {
            self.that(seconds > 0.0 && seconds < 1e9, &key(name), seconds, "a number of seconds over 0")?;
        }
        Ok(())
    }

    /// `[engine]` as far as it is about servers; what their addresses say is the command line's to read.
    fn servers(&self, config: &Config) -> Result<(), RunError> {
        let (engine, servers) = (&config.engine, &config.engine.servers);
        let generator = &engine.generator;
        let known = matches!(generator.as_str(), "torch" | "servers");
        self.that(known, "engine.generator", format!("{generator:?}"), "\"torch\" or \"servers\"")?;
        self.asking("engine.asking", &engine.asking)?;
        let one_of = |key: &str, found: &str, words: &[&str]| {
            let expected: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            self.that(words.contains(&found), key, format!("{found:?}"), &expected.join(" or "))
        };
        one_of("engine.servers.proof", &servers.proof, &["engine", "servers", "off"])?;
        one_of("engine.servers.while_training", &servers.while_training, &["keep", "stop"])?;
        let seconds = servers.ready_seconds;
        let expected = "a number of seconds over 0";
        self.that(seconds > 0.0 && seconds < 1e9, "engine.servers.ready_seconds", seconds, expected)?;
        let tolerance = servers.tolerance;
        self.that(tolerance > 0.0, "engine.servers.tolerance", tolerance, "over 0; 0.05 allows for bf16")?;
        if generator != "servers" {
            return Ok(());
        }
        let count = servers.addresses.len();
        let example = "at least one address, as in [\"vllm:http://localhost:8000\"]";
        self.that(count > 0, "engine.servers.addresses", "empty", example)?;
        if let Some(length) = servers.restart.as_ref().and_then(Schedule::length) {
            let expected = format!("one command for all servers, or a list of {count}");
            self.that(length == count, "engine.servers.restart", format!("a list of {length}"), &expected)?;
        }
        let both = servers.restart.is_some() && !servers.reload.is_empty();
        self.that(
            !both,
            "engine.servers.reload",
            "given beside restart",
            "left out: servers are restarted or reloaded",
        )?;
        let by_name = servers.model.as_ref().is_some_and(|name| name.contains("{model}"));
        let changes = servers.restart.is_some() || !servers.reload.is_empty() || by_name;
        let one_model = config.iterations == 1 && !config.sft.enabled && config.evaluation.prompts == 0;
        self.that(
            changes || one_model,
            "engine.servers.restart",
            "missing",
            "a command that starts a server with {model}, or write engine.servers.reload, so that servers get the model \
             after training",
        )?;
        let names_it = |text: &String| text.contains("{model}");
        if let Some(commands) = &servers.restart {
            let all = commands.values().iter().all(names_it);
            self.that(
                all,
                "engine.servers.restart",
                "without {model}",
                "a command with {model}, the folder to be served",
            )?;
        }
        Ok(())
    }

    fn model(&self, config: &Config) -> Result<(), RunError> {
        let model = &config.model;
        self.that(
            model.path.is_none() || model.id.is_none(),
            "model.id",
            "given beside model.path",
            "left out: a model is a folder or an id",
        )?;
        self.that(
            model.path.is_some() || model.id.is_some() || model.shape.is_some(),
            "model.path",
            "missing",
            "a model folder, or write model.id",
        )
    }
}
