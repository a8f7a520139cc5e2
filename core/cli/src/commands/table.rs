//! `metareward table`: what the evaluation of a run's models measured.

use metareward_eval::{Bootstrap, LengthUnit, Table, in_words, main_table, measure};
use metareward_host::Settings;
use metareward_runtime::RunReader;
use serde_json::json;

use crate::{
    args::TableArgs,
    experiment,
    failure::{Code, Failure},
    plugins,
};

/// Prints a table per run and what it shows in words.
///
/// # Errors
/// When a folder is not a run folder or its records cannot be read.
pub fn run(args: &TableArgs, json: bool) -> Result<(), Failure> {
    let readers = args
        .runs
        .iter()
        .map(|folder| RunReader::open(folder).map_err(experiment::failure))
        .collect::<Result<Vec<_>, _>>()?;
    show(&readers, json)
}

/// Prints the tables; with `--json` one object per run.
///
/// # Errors
/// When records cannot be read.
pub fn show(readers: &[RunReader], json: bool) -> Result<(), Failure> {
    for reader in readers {
        let table = table(reader)?;
        if json {
            // One line per object, like every event.
            println!("{}", json!({ "event": "table", "run": reader.folder(), "table": table }));
        } else {
            println!("\n{}\n\n{}", table.to_text(), in_words(&table));
        }
    }
    Ok(())
}

fn table(reader: &RunReader) -> Result<Table, Failure> {
    let measurements = measure(reader, LengthUnit::Words, full_points(reader)?).map_err(experiment::failure)?;
    Ok(main_table(&measurements, &Bootstrap::default()))
}

/// The top of the scale of the rubric that the run began with. Records from before it was written down know it by name.
///
/// # Errors
/// When neither run.json nor its rubric says it.
pub fn full_points(reader: &RunReader) -> Result<f64, Failure> {
    let record = reader.record();
    if let Some(scale) = record.rubric_scale {
        return Ok(scale.max);
    }
    let missing = || Failure::new(Code::Input, "run.json names no rubric");
    let rubric = record.plugins.iter().find(|used| used.section == "rubric").and_then(|used| used.iterations.first());
    let rubric = rubric.ok_or_else(missing)?;
    let registry = plugins::registry(Settings::default())?;
    let plugin = registry.rubric(&(&rubric.info.name).into(), &rubric.options).map_err(plugins::failure)?;
    Ok(plugin.scale().map_err(|error| Failure::new(Code::Plugin, error.message))?.max)
}
