//! `metareward plan`: what a run will cost.

use std::path::Path;

use metareward_api::Generator;
use metareward_runtime::{Experiment, Plan, Stage};

use crate::{args::PlanArgs, engine, experiment, failure::Failure};

/// Prints calls, tokens and disk per stage, and memory. Works without weights where the config gives a shape.
///
/// # Errors
/// Whatever is wrong with the config; a model of which neither folder nor shape is known.
pub fn run(args: &PlanArgs, json: bool) -> Result<(), Failure> {
    let experiment = experiment::open(&args.experiment)?;
    let folder = experiment.model_folder().filter(|folder| folder.is_dir());
    let plan = match &folder {
        Some(folder) => {
            let mut generator = engine::Settings::of_section(&experiment.config().engine)?.generator(folder)?;
            // Without weights or tokenizer, config.json alone still gives a plan, in characters instead of tokens.
            match generator.load(folder) {
                Ok(_) => experiment.plan(Some(folder), Some(&mut generator)),
                Err(_) => experiment.plan(Some(folder), None),
            }
        }
        None => experiment.plan(None, None),
    };
    let mut plan = plan.map_err(experiment::failure)?;
    if let Some(folder) = &folder {
        add_activations(&mut plan, &experiment, folder)?;
    }
    if json {
        println!("{}", serde_json::json!(plan));
    } else {
        print!("{plan}");
    }
    Ok(())
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
    plan.assumptions.push(format!(
        "training's memory is {:.2} GB of state and {:.2} GB of activations, both sides of {pairs} pairs of {longest} tokens a \
         step counted in full; the process itself takes some 0.2 GB, on a GPU 0.5 GB",
        memory.state as f64 / 1e9,
        memory.activations as f64 / 1e9
    ));
    Ok(())
}
