//! `metareward plan`: what a run will cost.

use metareward_api::Generator;

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
    let plan = plan.map_err(experiment::failure)?;
    if json {
        println!("{}", serde_json::json!(plan));
    } else {
        print!("{plan}");
    }
    Ok(())
}
