//! `metareward seed-model`: makes the small model that an experiment starts from.
//!
//! The recipe is `seed-model.toml` beside the experiment: a shape, and stages of fresh examples of the task, rendered with
//! the experiment's own rubric and meta-judge. The tokenizer is trained on the same texts.

use std::{fs, path::Path};

use metareward_api::{
    EngineError, Example, GradientSum, LearningRateSchedule, OptimizerState, SftData, TrainData, TrainJob,
    TrainSettings, Trainer, WeightUpdates,
};
use metareward_runtime::{ExampleCounts, shuffled};
use metareward_torch::create::{ModelShape, create_model};
use serde::Deserialize;

use crate::{
    args::{ExperimentArgs, SeedModelArgs},
    engine, experiment,
    failure::{Code, Failure},
    logging::Logs,
    progress::Training,
};

/// `seed-model.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    /// Seed of weights, examples and their order.
    seed: u64,
    /// The model.
    shape: ModelShape,
    /// How it is trained.
    train: Train,
    /// Changes to the experiment for all stages, as after `--set`: where the model is to learn more than the experiment asks.
    #[serde(default)]
    set: Vec<String>,
    /// Stages, one after the other, each with fresh examples in random order.
    stages: Vec<Stage>,
}

/// `[[stages]]` of the recipe.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    /// How many examples.
    examples: ExampleCounts,
    /// Further changes for this stage: easier examples first, for instance.
    #[serde(default)]
    set: Vec<String>,
}

/// `[train]` of the recipe. One schedule runs over all stages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    /// Examples per optimizer step.
    batch_size: u32,
    /// Peak learning rate; it falls along half a cosine.
    learning_rate: f64,
    /// Steps of linear warm-up.
    warmup_steps: u32,
    /// AdamW's beta 2.
    adam_beta2: f64,
    /// AdamW's weight decay.
    weight_decay: f64,
    /// Largest gradient norm.
    max_grad_norm: f64,
    /// Tokens per forward pass.
    micro_batch_tokens: u32,
}

/// Makes the model folder.
///
/// # Errors
/// When the recipe is missing or wrong, or the folder is there already.
pub fn run(args: &SeedModelArgs, json: bool, logs: &Logs) -> Result<(), Failure> {
    let experiment = experiment::open(&args.experiment)?;
    let file = experiment::file(&args.experiment.experiment)?;
    let home = file.parent().unwrap_or(Path::new("."));
    let recipe = read(&home.join("seed-model.toml"))?;
    let out = args.out.clone().unwrap_or_else(|| home.join("seed-model"));
    if out.exists() {
        return Err(Failure::new(Code::Input, format!("{} is there already", out.display()))
            .hint("remove it, or choose another folder with --out"));
    }
    let (examples, epochs) = stages(&args.experiment, &recipe)?;
    let work = out.with_extension("partial");
    if work.exists() {
        fs::remove_dir_all(&work).map_err(|error| io(&work, &error))?;
    }
    let start = work.join("random");
    let texts = examples.iter().flat_map(|example| {
        example.messages.iter().map(|message| message.content.as_str()).chain([example.completion.as_str()])
    });
    create_model(&start, &recipe.shape, texts, recipe.seed).map_err(engine::torch_failure)?;

    let steps: usize = epochs.iter().map(Vec::len).sum();
    let last = epochs.len();
    let job = TrainJob {
        model: start.clone(),
        folder: work.join("training"),
        fingerprint: format!("seed-model {}", recipe.seed),
        iteration: 0,
        data: TrainData::Sft(&Examples(&examples)),
        epochs,
        validation: Vec::new(),
        settings: recipe.train.settings(&recipe.shape, steps),
    };
    let mut trainer = engine::Settings::of_section(&experiment.config().engine)?.trainer(&start)?;
    let show = Training::new(logs, json, "seed model", steps as u64);
    let report = trainer.train(&job, &show).map_err(engine::failure)?;
    drop(show);
    let made = work.join("training").join(format!("epoch-{last}"));
    fs::rename(&made, &out).map_err(|error| io(&out, &error))?;
    fs::remove_dir_all(&work).map_err(|error| io(&work, &error))?;
    let loss = report.epochs.last().map_or(f64::NAN, |epoch| epoch.train_loss);
    if json {
        println!("{}", serde_json::json!({ "folder": out, "steps": report.steps, "loss": loss }));
    } else {
        println!("{}: {} steps, loss of the last stage {loss:.4}", out.display(), report.steps);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Recipe, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        io(path, &error)
            .hint("a recipe has [shape], [train] and [[stages]]; see experiments/quickstart/seed-model.toml")
    })?;
    toml::from_str(&text).map_err(|error| Failure::new(Code::Input, format!("{}: {error}", path.display())))
}

fn io(path: &Path, error: &std::io::Error) -> Failure {
    let code = if error.kind() == std::io::ErrorKind::NotFound { Code::Input } else { Code::Machine };
    Failure::new(code, format!("{}: {error}", path.display()))
}

/// Stages of steps of example indices.
type Steps = Vec<Vec<Vec<u32>>>;

/// All examples, and per stage the steps that go through its own ones once.
fn stages(named: &ExperimentArgs, recipe: &Recipe) -> Result<(Vec<Example>, Steps), Failure> {
    let mut examples = Vec::new();
    let mut epochs = Vec::new();
    for (number, stage) in (0u64..).zip(&recipe.stages) {
        let seed = recipe.seed.wrapping_mul(1_000).wrapping_add(number);
        let set = [&recipe.set[..], &stage.set, &named.set].concat();
        let experiment =
            experiment::open(&ExperimentArgs { experiment: named.experiment.clone(), with: named.with.clone(), set })?;
        let drawn = experiment.examples(stage.examples, seed).map_err(experiment::failure)?;
        let (first, count) = (examples.len() as u32, drawn.len() as u32);
        let order: Vec<u32> = shuffled(count, seed).into_iter().map(|index| first + index).collect();
        epochs.push(order.chunks(recipe.train.batch_size.max(1) as usize).map(<[u32]>::to_vec).collect());
        examples.extend(drawn);
    }
    if examples.is_empty() {
        return Err(Failure::new(Code::Input, "the recipe's stages ask for no examples, or the task has none"));
    }
    Ok((examples, epochs))
}

impl Train {
    fn settings(&self, shape: &ModelShape, steps: usize) -> TrainSettings {
        TrainSettings {
            learning_rate: self.learning_rate,
            lr_schedule: LearningRateSchedule::Cosine,
            warmup_steps: self.warmup_steps,
            schedule_steps: steps as u32,
            weight_decay: self.weight_decay,
            adam_beta1: 0.9,
            adam_beta2: self.adam_beta2,
            adam_epsilon: 1e-8,
            max_grad_norm: self.max_grad_norm,
            max_length: shape.max_position_embeddings as u32,
            micro_batch_tokens: self.micro_batch_tokens,
            activation_checkpointing: false,
            lora: None,
            save_steps: 0,
            weights: WeightUpdates::default(),
            optimizer_state: OptimizerState::default(),
            gradients: GradientSum::default(),
        }
    }
}

struct Examples<'a>(&'a [Example]);

impl SftData for Examples<'_> {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn example(&self, index: u32) -> Result<Example, EngineError> {
        self.0
            .get(index as usize)
            .cloned()
            .ok_or_else(|| EngineError::Input { record: format!("example {index}"), message: "is not there".into() })
    }
}
