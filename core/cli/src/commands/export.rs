//! `metareward export`: a run's records for other tools.

use metareward_report::export::{Format, export};
use metareward_runtime::RunReader;
use serde_json::json;

use crate::{
    args::{ExportArgs, ExportFormat},
    commands::report::failure,
    experiment,
    failure::Failure,
};

/// Writes the files and says what they are.
///
/// # Errors
/// When the folder is not a run folder, has no such iteration or nothing to export, or a file cannot be written.
pub fn run(args: &ExportArgs, json: bool) -> Result<(), Failure> {
    let reader = RunReader::open(&args.run).map_err(experiment::failure)?;
    let (format, name) = match args.format {
        ExportFormat::Trl => (Format::Trl, "trl"),
        ExportFormat::AlpacaEval => (Format::AlpacaEval, "alpaca-eval"),
        ExportFormat::Parquet => (Format::Parquet, "parquet"),
        ExportFormat::Csv => (Format::Csv, "csv"),
    };
    let to = args.output.clone().unwrap_or_else(|| args.run.join(format!("export-{name}")));
    let exported = export(&reader, format, &to, args.iteration).map_err(failure)?;
    if json {
        let files: Vec<_> =
            exported.files.iter().map(|(path, records)| json!({ "file": path, "records": records })).collect();
        println!("{}", json!({ "format": name, "files": files, "remarks": exported.remarks }));
        return Ok(());
    }
    for (path, records) in &exported.files {
        println!("{} ({records} records)", path.display());
    }
    for remark in &exported.remarks {
        println!("- {remark}");
    }
    Ok(())
}
