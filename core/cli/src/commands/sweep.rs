//! `metareward sweep`: a grid of settings, each with several seeds, and one comparison at the end.

use std::{cell::OnceCell, fs, path::PathBuf};

use metareward_report::{ReportError, SweepCell, SweepComparison};
use metareward_runtime::{Ended, Grid, Place, RunReader, Stage, Sweep, SweepFolder, SweepPlan};
use serde_json::{Value, json};

use crate::{
    args::SweepArgs,
    commands::{report, run},
    experiment,
    failure::{Code, Failure},
    logging::Logs,
    ranks::Ranks,
};

/// Prints the plan, runs what is missing, and compares what is there.
///
/// # Errors
/// A grid or a cell that cannot be, before anything is computed; at the end when a run failed, whose message was
/// printed when it did; a stop.
pub fn run(args: &SweepArgs, json: bool, logs: &Logs) -> Result<(), Failure> {
    let sweep = OnceCell::new();
    run::in_group(|ranks| lead(args, json, logs, ranks), &|index| {
        // Made once, when rank 0 has found nothing wrong with it.
        let sweep: &Result<Sweep, Failure> = sweep.get_or_init(|| open(args));
        let sweep = sweep.as_ref().map_err(|failure| Failure::new(failure.code, &failure.sentence))?;
        let run = sweep.runs.get(index).ok_or_else(|| Failure::new(Code::Bug, "there is no such run"))?;
        sweep.experiment(run, metareward_builtin::registry).map_err(experiment::failure)
    })
}

fn open(args: &SweepArgs) -> Result<Sweep, Failure> {
    let grid = Grid::parse(&args.grid).map_err(experiment::failure)?;
    let layers = experiment::layers(&args.experiment)?;
    Sweep::open(&layers, &grid, args.seeds, metareward_builtin::registry).map_err(experiment::failure)
}

fn lead(args: &SweepArgs, json: bool, logs: &Logs, ranks: Option<&Ranks>) -> Result<(), Failure> {
    let registry = metareward_builtin::registry;
    let sweep = open(args)?;
    let path = args.folder.clone().unwrap_or_else(|| args.runs.join(format!("{}-sweep", sweep.name)));
    let plan = sweep.plan(&path, registry).map_err(experiment::failure)?;
    show_plan(&plan, &path, json);
    if args.dry_run {
        return Ok(());
    }
    let folder = SweepFolder::open(&path, &sweep).map_err(experiment::failure)?;
    let say = |value: Value, text: &str| {
        if json { println!("{value}") } else { logs.bars.suspend(|| eprintln!("{text}")) }
    };
    let count = sweep.runs.len();
    let mut tell = |index: usize| {
        let name = sweep.runs.get(index).map_or("", |run| run.folder.as_str());
        let value = json!({ "event": "sweep-run", "run": name, "number": index + 1, "of": count });
        say(value, &format!("\nrun {} of {count}: {name}", index + 1));
    };
    let mut lost = None;
    let ended = sweep
        .run(&folder, registry, &mut tell, &mut |experiment, run, path, share| {
            let index = sweep.runs.iter().position(|other| other == run).unwrap_or_default();
            let ranks = ranks.map(|ranks| (ranks, index));
            let work = run::Work { folder: path.to_owned(), share, accept_changed_plugins: false, ranks };
            match run::work(experiment, work, json, logs) {
                Ok(()) => Ended::Done,
                Err(failure) if ranks.is_some_and(|(ranks, _)| ranks.lost()) => {
                    // No other run can begin either.
                    lost = Some(failure);
                    Ended::Stopped
                }
                Err(failure) if failure.code == Code::Interrupted => Ended::Stopped,
                Err(failure) => {
                    let value = json!({ "event": "sweep-run-failed", "run": run.folder, "error": failure.sentence });
                    say(value, &format!("{}: {failure}", run.folder));
                    Ended::Failed(failure.sentence)
                }
            }
        })
        .map_err(experiment::failure)?;
    if let Some(failure) = lost {
        return Err(failure);
    }
    if ended.contains(&Ended::Stopped) {
        let done = ended.iter().filter(|ended| matches!(ended, Ended::Done | Ended::Kept)).count();
        return Err(Failure::new(Code::Interrupted, format!("stopped; {done} of {count} runs are finished"))
            .hint("start the same command again to go on"));
    }
    compare(&sweep, &folder, &ended, json)?;
    let failed: Vec<&str> = sweep
        .runs
        .iter()
        .zip(&ended)
        .filter(|(_, ended)| matches!(ended, Ended::Failed(_)))
        .map(|(run, _)| run.folder.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Run, format!("{} of {count} runs failed: {}", failed.len(), failed.join(", ")))
        .hint("their messages are above and in each run's events.jsonl; the same command tries them again"))
}

fn show_plan(plan: &SweepPlan, folder: &std::path::Path, json: bool) {
    if json {
        println!("{}", json!({ "event": "sweep-plan", "folder": folder, "plan": plan }));
        return;
    }
    println!("{}: {} runs in {}\n\n{plan}", plan.name, plan.runs.len(), folder.display());
    let shared: Vec<String> = first_of(plan);
    if !shared.is_empty() {
        println!("{}", shared.join("\n"));
    }
}

/// What the first run computes that each other run of its seed takes over, in words.
fn first_of(plan: &SweepPlan) -> Vec<String> {
    let everywhere = |stage: &(Place, Stage)| !plan.runs.iter().skip(1).any(|run| run.own.contains(stage));
    let Some(first) = plan.runs.first().filter(|_| plan.runs.len() > 1) else { return Vec::new() };
    let mut places: Vec<(String, Vec<String>)> = Vec::new();
    for (place, stage) in first.own.iter().filter(|stage| everywhere(stage)) {
        let place = place.to_string();
        match places.last_mut() {
            Some((last, stages)) if *last == place => stages.push(stage.to_string()),
            _ => places.push((place, vec![stage.to_string()])),
        }
    }
    let line =
        |(place, stages): (String, Vec<String>)| format!("computed once for all runs: {place}: {}", stages.join(", "));
    places.into_iter().map(line).collect()
}

/// Writes `comparison.json` and `compare.html`, and prints the comparison.
fn compare(sweep: &Sweep, folder: &SweepFolder, ended: &[Ended], json: bool) -> Result<(), Failure> {
    let (mut cells, mut all) = (Vec::new(), Vec::new());
    for (cell, of) in sweep.cells.iter().enumerate() {
        let mut runs = Vec::new();
        for (run, ended) in sweep.runs.iter().zip(ended) {
            if run.cell == cell && matches!(ended, Ended::Done | Ended::Kept) {
                runs.push(RunReader::open(&folder.run(run)).map_err(experiment::failure)?);
            }
        }
        all.extend(runs.clone());
        cells.push(SweepCell { name: of.name.clone(), runs });
    }
    if all.is_empty() {
        return Ok(());
    }
    let options = report::options();
    let comparison = metareward_report::sweep(&cells, &options).map_err(report::failure)?;
    let page = folder.path().join("compare.html");
    let written = metareward_report::report(&all, &page, &options).map_err(report::failure)?;
    let Some(comparison) = comparison else {
        println!("no model was measured, so there is nothing to compare; evaluation.prompts = 0 measures none");
        return Ok(());
    };
    let path = folder.path().join("comparison.json");
    write_json(&path, &comparison)?;
    if json {
        println!("{}", json!({ "event": "sweep", "comparison": comparison, "file": path, "report": written.path }));
    } else {
        show(&comparison);
        println!("\n{}\n{}", path.display(), written.path.display());
    }
    Ok(())
}

fn write_json(path: &PathBuf, comparison: &SweepComparison) -> Result<(), Failure> {
    let failed = |message: String| report::failure(ReportError::Write { path: path.clone(), message });
    let mut text = serde_json::to_string_pretty(comparison).map_err(|error| Failure::new(Code::Bug, error))?;
    text.push('\n');
    let partial = path.with_extension("json.partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(|error| failed(error.to_string()))
}

fn show(comparison: &SweepComparison) {
    for cell in &comparison.cells {
        let seeds: Vec<String> = cell.seeds.iter().map(u64::to_string).collect();
        println!("\n{}, seeds {}\n{}", cell.name, seeds.join(", "), cell.table.to_text());
    }
    println!("\n{}", comparison.last.to_text());
    let base = comparison.last.rows.get(comparison.last.base).map_or("", |row| row.name.as_str());
    let changes = comparison.last.changes_to_text(&format!("Differences from {base}"));
    if !changes.is_empty() {
        println!("{changes}");
    }
    for against in &comparison.against {
        println!("{} against {base}:", against.name);
        for words in &against.words {
            println!("  {words}");
        }
    }
}
