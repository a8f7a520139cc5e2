//! `metareward report`: a run, or several, as one HTML page.

use metareward_eval::LengthUnit;
use metareward_report::{Options, ReportError};
use metareward_runtime::RunReader;
use serde_json::json;

use crate::{
    args::ReportArgs,
    experiment,
    failure::{Code, Failure},
};

/// Writes the page and says where it is.
///
/// # Errors
/// When a folder is not a run folder, its records cannot be read, or the page cannot be written.
pub fn run(args: &ReportArgs, json: bool) -> Result<(), Failure> {
    let readers = args
        .runs
        .iter()
        .map(|folder| RunReader::open(folder).map_err(experiment::failure))
        .collect::<Result<Vec<_>, _>>()?;
    let beside = || args.runs.first().map(|run| run.join("report.html"));
    let to = args.output.clone().or_else(beside).unwrap_or_default();
    let written = metareward_report::report(&readers, &to, &options()).map_err(failure)?;
    if json {
        println!("{}", json!({ "report": written.path, "bytes": written.bytes, "prompts": written.prompts }));
    } else {
        let size = written.bytes as f64 / 1e6;
        println!("{} ({size:.1} MB, the texts of {} prompts)", written.path.display(), written.prompts);
    }
    Ok(())
}

/// The length unit is that of `metareward table`, so that both show one figure.
pub(crate) fn options() -> Options {
    Options { length_unit: LengthUnit::Words, ..Options::default() }
}

/// A report's error as a person sees it.
pub(crate) fn failure(error: ReportError) -> Failure {
    match error {
        ReportError::Run(error) => experiment::failure(error),
        ReportError::NoRuns | ReportError::NoIteration { .. } | ReportError::NothingToExport { .. } => {
            Failure::new(Code::Input, error)
        }
        ReportError::Write { .. } => Failure::new(Code::Machine, error),
        ReportError::Encode { .. } => Failure::new(Code::Bug, error),
    }
}
