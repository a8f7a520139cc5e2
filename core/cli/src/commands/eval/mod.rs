//! `metareward eval`: figures of public benchmarks and of judges, from files and from runs.

mod alpaca;
mod bias;
mod judge;

use std::{fmt, path::PathBuf};

use metareward_eval::{
    EvalError,
    arena::{self, Answers, Judgments},
    bracketed::Several,
    mt_bench::{self, Categories},
    pairwise::{self, Pairs},
};
use serde::Serialize;

use crate::{
    args::{ArenaArgs, EvalArgs, EvalCommand, MtBenchArgs, PairwiseArgs},
    failure::{Code, Failure},
};

/// Prints the report, or reports; with `--json` one object on a line each.
///
/// # Errors
/// A file that cannot be read or has another form, with the record; a figure that the records do not give.
pub fn run(args: &EvalArgs, json: bool) -> Result<(), Failure> {
    match &args.command {
        EvalCommand::Alpaca(args) => print(&alpaca::reports(args)?, json),
        EvalCommand::Arena(args) => print(&[arena(args).map_err(failure)?], json),
        EvalCommand::MtBench(args) => print(&[mt_bench(args).map_err(failure)?], json),
        EvalCommand::Pairwise(args) => print(&[pairwise(args).map_err(failure)?], json),
        EvalCommand::Judge(args) => print(&judge::reports(args)?, json),
        EvalCommand::Bias(args) => print(&bias::reports(args)?, json),
    }
}

fn arena(args: &ArenaArgs) -> Result<arena::ArenaReport, EvalError> {
    let judgments = Judgments::read(&paths(&args.judgments), Several::Agreeing)?;
    let mut report = arena::score(&judgments, &args.options())?;
    if !args.answers.is_empty() {
        report.add_lengths(&Answers::read(&paths(&args.answers))?);
    }
    Ok(report)
}

fn mt_bench(args: &MtBenchArgs) -> Result<mt_bench::MtBenchReport, EvalError> {
    let ratings = mt_bench::read_ratings_file(&args.ratings, Several::First)?;
    let categories = args.questions.as_deref().map(Categories::read).transpose()?.unwrap_or_default();
    mt_bench::rate(&ratings, &categories, None, &args.draws.bootstrap())
}

fn pairwise(args: &PairwiseArgs) -> Result<pairwise::PairwiseReport, EvalError> {
    let pairs = Pairs::read(&args.pairs, &args.model, &args.baseline, &args.judge)?;
    pairwise::compare(&pairs, args.fit, &args.draws.bootstrap())
}

fn paths(files: &[PathBuf]) -> Vec<&std::path::Path> {
    files.iter().map(PathBuf::as_path).collect()
}

/// One report after the other, with an empty line between.
fn print<R: Serialize + fmt::Display>(reports: &[R], json: bool) -> Result<(), Failure> {
    for (place, report) in reports.iter().enumerate() {
        if json {
            println!("{}", serde_json::to_string(report).map_err(|error| Failure::new(Code::Bug, error))?);
        } else {
            let between = if place > 0 { "\n" } else { "" };
            print!("{between}{report}");
        }
    }
    Ok(())
}

/// Whatever goes wrong here lies in the files or options that were given.
fn failure(error: EvalError) -> Failure {
    Failure::new(Code::Input, error)
}
