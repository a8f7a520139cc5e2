//! `metareward plan`: what a run will cost.

use std::{fs, path::Path};

use metareward_api::Generator;
use metareward_runtime::{
    Experiment, Plan, PlanRequest, Stage,
    plan::{Deployment, EngineFigures, FIGURES_FORMAT, Form, Room, cards, model_shape, predict},
};

use crate::{
    args::{EngineOfPlanArgs, PlanArgs},
    engine, experiment,
    failure::{Code, Failure},
};

/// Prints calls, tokens and disk per stage, and memory; for an engine of a given size also time and price. Works without
/// weights where the config gives a shape.
///
/// # Errors
/// Whatever is wrong with the config; a model of which neither folder nor shape is known; figures that cannot be read.
pub fn run(args: &PlanArgs, json: bool) -> Result<(), Failure> {
    let experiment = experiment::open(&args.experiment)?;
    let deployment = deployment(&args.engine)?;
    let config = experiment.config();
    let settings = engine::Settings::of_section(&config.engine)?;
    let folder = experiment.model_folder().filter(|folder| folder.is_dir() && args.engine.model.is_none());
    let mut request = PlanRequest {
        model: args
            .engine
            .model
            .as_deref()
            .or(folder.as_deref())
            .map(model_shape)
            .transpose()
            .map_err(experiment::failure)?,
        answers: deployment
            .as_ref()
            .and_then(|planned| planned.figures.as_ref())
            .map(|figures| figures.lengths)
            .unwrap_or_default(),
        room: room(&settings, deployment.as_ref(), &config.engine.device),
        generator: None,
    };
    // Without weights or tokenizer, config.json alone still gives a plan, in characters instead of tokens.
    let mut generator = folder.as_ref().map(|folder| settings.generator(folder)).transpose()?;
    if let (Some(folder), Some(generator)) = (&folder, &mut generator)
        && generator.load(folder).is_ok()
    {
        request.generator = Some(generator);
    }
    let mut plan = experiment.plan_for(request).map_err(experiment::failure)?;
    if let Some(folder) = &folder {
        add_activations(&mut plan, &experiment, folder)?;
    }
    let time = deployment
        .map(|deployment| predict(&plan, &deployment))
        .transpose()
        .map_err(|message| Failure::new(Code::Input, message))?;
    if json {
        let mut value = serde_json::json!(plan);
        if let (Some(time), Some(fields)) = (&time, value.as_object_mut()) {
            fields.insert("time".to_owned(), serde_json::json!(time));
        }
        println!("{value}");
    } else {
        print!("{plan}");
        if let Some(time) = &time {
            print!("\n{time}");
        }
    }
    Ok(())
}

/// What time is predicted for; nothing where neither figures nor a card are named.
fn deployment(args: &EngineOfPlanArgs) -> Result<Option<Deployment>, Failure> {
    let figures = args.engine.as_deref().map(figures).transpose()?;
    let card = match &args.card {
        None => None,
        Some(name) => Some(cards::card(name).ok_or_else(|| {
            let names = cards::CARDS.iter().map(|card| card.name).collect::<Vec<_>>().join(", ");
            Failure::new(Code::Input, format!("no card is called {name:?}")).hint(format!("known are {names}"))
        })?),
    };
    if figures.is_none() && card.is_none() {
        if args.gpus > 1 || args.form.is_some() || args.gpu_hour.is_some() {
            return Err(Failure::new(Code::Input, "the time of a run depends on its engine, and none was named")
                .hint("give --engine FILE, which `metareward bench engine -o FILE` writes, or --card h100"));
        }
        return Ok(None);
    }
    let form = match args.form.as_deref() {
        None if args.gpus > 1 => Form::Torchrun,
        None | Some("in-process") => Form::InProcess,
        Some("servers") => Form::Servers,
        Some("torchrun") => Form::Torchrun,
        Some(other) => {
            return Err(Failure::new(Code::Input, format!("no form is called {other:?}"))
                .hint("give in-process, servers or torchrun"));
        }
    };
    Ok(Some(Deployment { form, gpus: args.gpus.max(1), figures, card, gpu_hour: args.gpu_hour }))
}

fn figures(path: &Path) -> Result<EngineFigures, Failure> {
    let wrong = |message: String| {
        Failure::new(Code::Input, format!("{}: {message}", path.display()))
            .hint("`metareward bench engine EXPERIMENT -o FILE` writes such a file")
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let figures: EngineFigures = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match figures.format {
        FIGURES_FORMAT => Ok(figures),
        other => Err(wrong(format!("its form is number {other}, and this version reads number {FIGURES_FORMAT}"))),
    }
}

/// Where generation computes: the card that was named, else what the config's device is on this machine.
fn room(settings: &engine::Settings, deployment: Option<&Deployment>, device: &str) -> Room {
    if let Some(card) = deployment.and_then(|deployment| deployment.card) {
        return Room::Gpu(card.memory);
    }
    match settings.device.resolve() {
        Ok(tch::Device::Cpu) if device == "cpu" => Room::Cpu,
        Ok(found @ tch::Device::Cuda(_)) => {
            metareward_torch::library::device_memory(found).map_or(Room::Unknown, |memory| Room::Gpu(memory.total))
        }
        // A machine without a GPU plans for one that has it, unless the config says otherwise.
        _ => Room::Unknown,
    }
}

/// Puts what a training step keeps of its forward passes on top of weights, gradient and moments.
fn add_activations(plan: &mut Plan, experiment: &Experiment, folder: &Path) -> Result<(), Failure> {
    let config = experiment.config();
    let section = &config.train;
    if section.lora.is_some() {
        return Ok(());
    }
    let trainings = plan.stages.iter().filter(|cost| cost.stage == Stage::Training && cost.calls > 0);
    let Some(longest) = trainings.map(|cost| cost.tokens_read.div_ceil(cost.calls)).max() else { return Ok(()) };
    let pairs = section.batch_size.values().iter().copied().max().unwrap_or(1);
    let settings = engine::Settings::of_section(&config.engine)?;
    // config.json may be of a model that this engine does not know: the plan says the rest all the same.
    let Ok(memory) = settings.training_memory(folder, section, u64::from(pairs) * 2 * longest) else { return Ok(()) };
    plan.training_bytes = memory.total();
    plan.activation_bytes = memory.activations;
    plan.assumptions.push(format!(
        "training's memory is {:.2} GB of state and {:.2} GB of activations, both sides of {pairs} pairs of {longest} tokens a \
         step counted in full; the process itself takes some 0.2 GB, on a GPU 0.5 GB",
        memory.state as f64 / 1e9,
        memory.activations as f64 / 1e9
    ));
    Ok(())
}
