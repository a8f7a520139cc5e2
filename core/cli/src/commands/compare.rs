//! `metareward compare`: runs against the first one, in the terminal.

use metareward_runtime::RunReader;

use crate::{
    args::TableArgs,
    commands::report::{failure, options},
    experiment,
    failure::{Code, Failure},
};

/// Prints the table, what each run's figures say against the first run's, and the settings that differ.
///
/// # Errors
/// When there are fewer than two runs, a folder is not a run folder, or its records cannot be read.
pub fn run(args: &TableArgs, json: bool) -> Result<(), Failure> {
    let readers = args
        .runs
        .iter()
        .map(|folder| RunReader::open(folder).map_err(experiment::failure))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(comparison) = metareward_report::compare(&readers, &options()).map_err(failure)? else {
        return Err(Failure::new(Code::Input, "there is nothing to compare with one run; name two or more"));
    };
    if json {
        let line = serde_json::to_string(&comparison).map_err(|error| Failure::new(Code::Bug, error))?;
        println!("{line}");
        return Ok(());
    }
    println!("{}", comparison.table.to_text());
    let first = comparison.names.first().map_or("", String::as_str);
    for against in &comparison.against {
        println!("\n{} against {first}, on {} held-out prompts that both have:", against.name, against.shared_prompts);
        for words in &against.words {
            println!("  {words}");
        }
    }
    println!("\nsettings that differ: {}", comparison.settings.len());
    for setting in &comparison.settings {
        let values = comparison.names.iter().zip(&setting.values).map(|(name, value)| match value {
            Some(value) => format!("{name}: {value}"),
            None => format!("{name}: not set"),
        });
        println!("  {}  {}", setting.key, values.collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}
