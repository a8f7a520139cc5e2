//! What a run will cost, before it starts: calls, tokens, disk and memory, each with what is assumed.

use std::{fmt, fs, path::Path};

use metareward_api::{EngineError, Generator, Message, ModelCard, Prompt, RubricItem, Sampler, SamplerItem};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Loaded, ModelShape, Place, RunError, Stage,
    config::{Checkpoints, Keep, TrainSection},
    error::Bytes,
    plugins::{Bound, Plugins},
    stages::prompts::Pool,
};

/// The shape of the model that a plan is for.
pub(crate) struct PlanModel {
    shape: ModelShape,
}

impl PlanModel {
    /// As stated in the config.
    pub fn of_shape(shape: ModelShape) -> Self {
        Self { shape }
    }

    /// Of a loaded model.
    pub fn of_card(card: &ModelCard) -> Self {
        let ModelCard { parameters, context, vocabulary, cache_bytes_per_token, layers, hidden, .. } = *card;
        Self { shape: ModelShape { parameters, layers, hidden, cache_bytes_per_token, context, vocabulary } }
    }

    /// From `config.json` alone: Llama, Mistral and Qwen count their parameters alike.
    pub fn of_folder(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join("config.json");
        let broken = |message: String| RunError::Engine(EngineError::Model { folder: folder.to_owned(), message });
        let text = fs::read_to_string(&path).map_err(|error| broken(format!("config.json: {error}")))?;
        let config: Value = serde_json::from_str(&text).map_err(|error| broken(format!("config.json: {error}")))?;
        let number = |key: &str| config.get(key).and_then(Value::as_u64);
        let need = |key: &str| number(key).ok_or_else(|| broken(format!("config.json has no whole number `{key}`")));
        let (hidden, layers) = (need("hidden_size")?, need("num_hidden_layers")?);
        let (inner, vocabulary) = (need("intermediate_size")?, need("vocab_size")?);
        let (heads, context) = (need("num_attention_heads")?.max(1), need("max_position_embeddings")?);
        let key_heads = number("num_key_value_heads").unwrap_or(heads);
        let head = number("head_dim").unwrap_or(hidden / heads);
        let attention = 2 * hidden * heads * head + 2 * hidden * key_heads * head;
        let tied = config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false);
        let embeddings = if tied { 1 } else { 2 } * vocabulary * hidden;
        let parameters = embeddings + layers * (attention + 3 * hidden * inner + 2 * hidden) + hidden;
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Self {
            shape: ModelShape {
                parameters,
                layers: small(layers),
                hidden: small(hidden),
                cache_bytes_per_token: 2 * layers * key_heads * head * 2,
                context: small(context),
                vocabulary: small(vocabulary),
            },
        })
    }
}

/// The cost of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// Part of the run.
    pub place: Place,
    /// The stage.
    pub stage: Stage,
    /// Answers generated, or sequences trained on.
    pub calls: u64,
    /// Tokens read: prompts, each shared one counted once, and training sequences in every epoch.
    pub tokens_read: u64,
    /// Tokens generated.
    pub tokens_written: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// The cost of a run. Figures are estimates: `assumptions` says from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Every stage that costs something, in order.
    pub stages: Vec<StageCost>,
    /// Answers in all.
    pub calls: u64,
    /// Tokens in all, read and written.
    pub tokens: u64,
    /// Bytes on disk at most: all stages, and what training takes while it goes on.
    pub disk_bytes: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// Memory for generating: weights, and keys and values.
    pub generation_bytes: u64,
    /// Memory for training: weights, gradients and optimizer state; activations come on top.
    pub training_bytes: u64,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row =
            |f: &mut fmt::Formatter<'_>, place: &str, stage: &str, calls: u64, read: u64, written: u64, disk: u64| {
                let disk = Bytes(disk).to_string();
                writeln!(f, "{place:<24}{stage:<12}{calls:>12}{:>16}{:>16}{disk:>12}", tokens(read), tokens(written))
            };
        writeln!(
            f,
            "{:<24}{:<12}{:>12}{:>16}{:>16}{:>12}",
            "", "stage", "calls", "tokens read", "tokens written", "disk"
        )?;
        for cost in &self.stages {
            let (place, stage) = (cost.place.to_string(), cost.stage.to_string());
            row(f, &place, &stage, cost.calls, cost.tokens_read, cost.tokens_written, cost.disk_bytes)?;
        }
        let read = self.stages.iter().map(|cost| cost.tokens_read).sum();
        let written = self.stages.iter().map(|cost| cost.tokens_written).sum();
        row(f, "all", "", self.calls, read, written, self.disk_bytes)?;
        writeln!(f, "\nmodel: {} parameters", tokens(self.parameters))?;
        writeln!(f, "memory: generating {}, training {}", Bytes(self.generation_bytes), Bytes(self.training_bytes))?;
        self.assumptions.iter().try_for_each(|assumption| writeln!(f, "- {assumption}"))
    }
}

/// A large number as people read it.
fn tokens(number: u64) -> String {
    let value = number as f64;
    match number {
        0..100_000 => number.to_string(),
        100_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}

/// Mean length in tokens of conversations.
type Measure<'a> = Box<dyn FnMut(&[Vec<Message>]) -> Result<f64, RunError> + 'a>;

/// Mean lengths, in tokens, of what the stages read.
struct Lengths {
    prompt: f64,
    judge: f64,
    meta: f64,
    response: f64,
    judgment: f64,
    verdict: f64,
    evaluated: f64,
}

/// Estimates the cost of a run.
pub(crate) fn plan(
    loaded: &Loaded,
    plugins: &Plugins,
    model: &PlanModel,
    generator: Option<&mut dyn Generator>,
) -> Result<Plan, RunError> {
    let config = &loaded.config;
    let mut assumptions = Vec::new();
    let lengths = lengths(loaded, plugins, generator, &mut assumptions)?;
    let mut stages = Vec::new();
    let mut add = |place: &Place, stage: Stage, calls: f64, read: f64, written: f64, disk: f64| {
        stages.push(StageCost {
            place: place.clone(),
            stage,
            calls: calls as u64,
            tokens_read: read as u64,
            tokens_written: written as u64,
            disk_bytes: disk as u64,
        });
    };
    // A record's text at four bytes a token, and its other fields.
    let text = |answers: f64, length: f64| answers * (length * 4.0 + 200.0);
    let weights = weight_bytes(loaded, model) as f64;
    // Each epoch's checkpoint, and the state to go on from: weights, and two moments in 32 bits.
    let while_training = |section: &TrainSection, run: u32| {
        f64::from(epochs(section, run)) * weights + weights + 8.0 * model.shape.parameters as f64
    };
    let mut passing = 0.0_f64;
    let mut checkpoints = |section: &TrainSection, run: u32| match config.store.checkpoints {
        Checkpoints::All => while_training(section, run),
        Checkpoints::Kept => {
            passing = passing.max(while_training(section, run) - weights);
            weights
        }
    };
    if config.sft.enabled {
        let sft = &config.sft;
        let of = [
            (sft.demonstrations, lengths.prompt + lengths.response),
            (sft.judge_examples, lengths.judge + lengths.response + lengths.judgment),
            (sft.meta_examples, lengths.meta + lengths.verdict),
        ];
        let examples: f64 = of.iter().map(|(count, _)| f64::from(*count)).sum();
        let read: f64 = of.iter().map(|(count, length)| f64::from(*count) * length).sum();
        let epochs = f64::from(epochs(&sft.train, 1));
        add(&Place::Sft, Stage::Training, examples * epochs, read * epochs, 0.0, checkpoints(&sft.train, 1));
    }
    for t in 1..=config.iterations {
        let place = Place::Iteration(t);
        let prompts = f64::from(*config.at(&config.prompts.per_iteration, t)?);
        let k = f64::from(*config.at(&config.actor.responses, t)?);
        let n = f64::from(*config.at(&config.judge.judgments, t)?);
        let responses = prompts * k;
        add(
            &place,
            Stage::Responses,
            responses,
            prompts * lengths.prompt,
            responses * lengths.response,
            text(responses, lengths.response),
        );
        let (judgments, read) = judging(plugins.at(t)?.compares, prompts, k, n, &lengths, lengths.response);
        let written = judgments * lengths.judgment;
        add(&place, Stage::Judgments, judgments, read, written, text(judgments, lengths.judgment));
        let mut pairs = 0.0;
        let mut read = 0.0;
        if *config.at(&config.actor.pairs, t)? {
            pairs += prompts;
            read += prompts * 2.0 * (lengths.prompt + lengths.response);
        }
        if *config.at(&config.meta_judge.pairs, t)? {
            let players = *config.at(&config.judge.judgments, t)?;
            let meta = &plugins.at(t)?.meta_judge;
            let schedule = meta.ask(|meta| meta.schedule(&[players]), |_| String::new())?;
            let matches = prompts * schedule.first().map_or(0, Vec::len) as f64;
            let question = lengths.meta + lengths.response + 2.0 * lengths.judgment;
            add(
                &place,
                Stage::Verdicts,
                matches,
                matches * question,
                matches * lengths.verdict,
                text(matches, lengths.verdict),
            );
            pairs += prompts;
            read += prompts * 2.0 * (lengths.judge + lengths.response + lengths.judgment);
        }
        add(&place, Stage::Pairs, pairs, 0.0, 0.0, read * 4.0);
        add(&place, Stage::Reference, 2.0 * pairs, read, 0.0, pairs * 120.0);
        let epochs = f64::from(epochs(&config.train, t));
        add(&place, Stage::Training, 2.0 * pairs * epochs, read * epochs, 0.0, checkpoints(&config.train, t));
    }
    let evaluation = &config.evaluation;
    if evaluation.prompts > 0 {
        let models = config.iterations + 1 + u32::from(config.sft.enabled);
        let place = Place::Evaluation(format!("{models} models"));
        let models = f64::from(models);
        let responses = models * f64::from(evaluation.prompts) * f64::from(evaluation.responses);
        let read = models * f64::from(evaluation.prompts) * lengths.prompt;
        let written = responses * lengths.evaluated;
        add(&place, Stage::Responses, responses, read, written, text(responses, lengths.evaluated));
        let judged = models * f64::from(evaluation.judge_prompts);
        let (k, n) = (f64::from(evaluation.responses), f64::from(evaluation.judgments));
        let (judgments, read) = judging(plugins.at(0)?.compares, judged, k, n, &lengths, lengths.evaluated);
        let written = judgments * lengths.judgment;
        add(&place, Stage::Judgments, judgments, read, written, text(judgments, lengths.judgment));
    }
    if passing > 0.0 {
        let most = Bytes(passing as u64);
        assumptions.push(format!("while a model is trained, its other checkpoints and its state take {most} more"));
    }
    assumptions.push("every prompt gives a pair of each kind that its iteration makes: an upper bound".into());
    assumptions.push("training reads both sides of a pair, prompt included, in every epoch that is run".into());
    let rows = if config.engine.batch_rows > 0 { config.engine.batch_rows } else { 64 };
    let longest =
        f64::from(model.shape.context).min(lengths.meta + lengths.response + 2.0 * lengths.judgment + lengths.verdict);
    let cache = match config.engine.cache_bytes {
        0 => (f64::from(rows) * longest * model.shape.cache_bytes_per_token as f64) as u64,
        stated => stated,
    };
    assumptions
        .push(format!("keys and values of {rows} rows of {longest:.0} tokens, where engine.cache_bytes is not set"));
    let parameters = model.shape.parameters;
    let training_bytes = if config.train.lora.is_some() {
        assumptions.push("adapters and their optimizer state are small beside the weights".into());
        weight_bytes(loaded, model)
    } else {
        // In bf16 the pass works on a copy of two bytes beside the 32-bit weights.
        let bytes = if config.engine.dtype == "f32" { 16 } else { 18 };
        assumptions.push(format!(
            "training holds weights, gradients and AdamW's two moments in 32 bits, and in bf16 a copy to compute with: {bytes} \
             bytes a parameter"
        ));
        bytes * parameters
    };
    Ok(Plan {
        calls: stages.iter().filter(|cost| cost.tokens_written > 0).map(|cost| cost.calls).sum(),
        tokens: stages.iter().map(|cost| cost.tokens_read + cost.tokens_written).sum(),
        disk_bytes: stages.iter().map(|cost| cost.disk_bytes).sum::<u64>() + passing as u64,
        stages,
        parameters,
        generation_bytes: weight_bytes(loaded, model) + cache,
        training_bytes,
        assumptions,
    })
}

/// Judgments of `k` responses to each prompt, `n` of each response, and the tokens read for them.
fn judging(compares: bool, prompts: f64, k: f64, n: f64, lengths: &Lengths, response: f64) -> (f64, f64) {
    if !compares {
        return (prompts * k * n, prompts * k * (lengths.judge + response));
    }
    // Alone, a response has nothing to be compared with. Every opponent is met in two places, a conversation each.
    let met = n.min(2.0 * (k - 1.0));
    let judgments = if k > 1.0 { prompts * k * n } else { 0.0 };
    (judgments, prompts * k * met * (lengths.judge + 2.0 * response))
}

/// Epochs that are really run.
fn epochs(section: &TrainSection, run: u32) -> u32 {
    let epochs = section.epochs.at(run).copied().unwrap_or_default();
    match section.keep.at(run) {
        Some(Keep::Epoch(epoch)) => *epoch,
        _ => epochs,
    }
}

fn weight_bytes(loaded: &Loaded, model: &PlanModel) -> u64 {
    let width = if loaded.config.engine.dtype == "f32" { 4 } else { 2 };
    width * model.shape.parameters
}

fn lengths(
    loaded: &Loaded,
    plugins: &Plugins,
    generator: Option<&mut dyn Generator>,
    assumptions: &mut Vec<String>,
) -> Result<Lengths, RunError> {
    let set = plugins.at(1)?;
    let prompts: Vec<Prompt> = match &plugins.task {
        Ok(task) => Pool::draw(&loaded.config, task)?.used(&loaded.config)?.into_iter().take(256).collect(),
        Err(error) => {
            assumptions.push(format!("a prompt has 400 characters, as the prompts are not at hand ({error})"));
            let id = metareward_api::PromptId("assumed".into());
            vec![Prompt { id, text: "word ".repeat(80), system: None, category: None }]
        }
    };
    let name = |item: usize| prompts.get(item).map_or_else(String::new, |prompt| format!("prompt {}", prompt.id));
    let asked: Vec<Vec<Message>> = prompts.iter().map(Prompt::messages).collect();
    let opponent = set.compares.then_some("");
    let items: Vec<RubricItem<'_>> =
        prompts.iter().map(|prompt| RubricItem { prompt: &prompt.text, response: "", opponent }).collect();
    let judged =
        set.rubric.ask_each(items.len(), |rubric, range| rubric.render(items.get(range).unwrap_or_default()), name)?;
    let criteria = set.rubric.ask(|rubric| rubric.criteria(), |_| String::new())?;
    let items: Vec<metareward_api::MetaJudgeItem<'_>> = prompts
        .iter()
        .map(|prompt| metareward_api::MetaJudgeItem {
            prompt: &prompt.text,
            response: "",
            criteria: &criteria,
            first: "",
            second: "",
        })
        .collect();
    let compared =
        set.meta_judge.ask_each(items.len(), |meta, range| meta.render(items.get(range).unwrap_or_default()), name)?;
    let mut measure: Measure<'_> = match generator {
        Some(generator) => {
            assumptions
                .push("prompts and templates are counted in the model's own tokens, over up to 256 prompts".into());
            Box::new(move |conversations| {
                let counts = generator.count_tokens(conversations)?;
                Ok(counts.iter().map(|count| f64::from(*count)).sum::<f64>() / conversations.len().max(1) as f64)
            })
        }
        None => {
            assumptions.push("four characters make a token, as no tokenizer is loaded".into());
            Box::new(|conversations| {
                let characters: usize =
                    conversations.iter().flatten().map(|message| message.content.chars().count()).sum();
                Ok(characters as f64 / 4.0 / conversations.len().max(1) as f64)
            })
        }
    };
    let lengths = Lengths {
        prompt: measure(&asked)?,
        judge: measure(&judged)?,
        meta: measure(&compared)?,
        response: answer(&set.actor_sampler)?,
        judgment: answer(&set.judge_sampler)?,
        verdict: answer(&set.meta_sampler)?,
        evaluated: answer(&set.evaluation_sampler)?,
    };
    assumptions.push(format!(
        "answers are half as long as they may be: {:.0} tokens a response, {:.0} a judgment, {:.0} a verdict",
        lengths.response, lengths.judgment, lengths.verdict
    ));
    Ok(lengths)
}

/// Half of the longest answer that a sampler allows.
fn answer(sampler: &Bound<dyn Sampler>) -> Result<f64, RunError> {
    let item = SamplerItem { characters: 400, draws: 1 };
    let plans = sampler.ask(|sampler| sampler.plan(std::slice::from_ref(&item)), |_| "a sample".into())?;
    let longest = plans.first().and_then(|plans| plans.first()).map_or(0, |plan| plan.sampling.max_tokens);
    Ok(f64::from(longest) / 2.0)
}
