//! `metareward eval`: figures of public benchmarks and of judges, from files, from runs, and from judges that are asked.

mod alpaca;
mod bias;
mod judge;
mod live;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use metareward_eval::{
    EvalError,
    arena::{self, Answers, Judgments},
    ask::{AskToCompare, AskToRate},
    bracketed::Several,
    live::{Filled, Sheet},
    mt_bench::{self, Categories},
    pairwise::{self, Pairs},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    args::{ArenaArgs, EvalArgs, EvalCommand, LiveArgs, MtBenchArgs, PairwiseArgs},
    failure::{Code, Failure},
};
use live::Asked;

/// Reports, and what became of the questions to a judge, where one was asked.
type Judged<R> = (Vec<R>, Option<Asked>);

/// Prints the report, or reports; with `--json` one object on a line each.
///
/// # Errors
/// A file that cannot be read or has another form, with the record; a figure that the records do not give; a judge that
/// answers nothing.
pub fn run(args: &EvalArgs, json: bool) -> Result<(), Failure> {
    match &args.command {
        EvalCommand::Alpaca(args) => print(&alpaca::reports(args)?, json),
        EvalCommand::Arena(args) => print(&arena(args)?, json),
        EvalCommand::MtBench(args) => print(&mt_bench(args)?, json),
        EvalCommand::Pairwise(args) => print(&pairwise(args)?, json),
        EvalCommand::Judge(args) => print(&judge::reports(args)?, json),
        EvalCommand::Bias(args) => print(&bias::reports(args)?, json),
    }
}

fn arena(args: &ArenaArgs) -> Result<Judged<arena::ArenaReport>, Failure> {
    let mut asked = None;
    let judgments = match &args.questions {
        Some(questions) => {
            let (file, text) = source(questions)?;
            let answers = args.answers.iter().map(|path| source(path)).collect::<Result<Vec<_>, _>>()?;
            let answers: Vec<(&str, &str)> =
                answers.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
            let ask = AskToCompare::five_labels().map_err(failure)?;
            let sheet = Sheet::arena((&file, &text), &answers, &args.anchor, &ask).map_err(failure)?;
            let (filled, of_judge) = live::judge(sheet, &args.live)?;
            asked = Some(of_judge);
            Judgments::from_json(&file, &filled.lines(), Several::Agreeing)
        }
        None => Judgments::read(&paths(&args.judgments), Several::Agreeing),
    };
    let mut report = arena::score(&judgments.map_err(failure)?, &args.options()).map_err(failure)?;
    if !args.answers.is_empty() {
        report.add_lengths(&Answers::read(&paths(&args.answers)).map_err(failure)?);
    }
    Ok((vec![report], asked))
}

fn mt_bench(args: &MtBenchArgs) -> Result<Judged<mt_bench::MtBenchReport>, Failure> {
    let mut asked = None;
    let ratings = match (&args.ratings, &args.questions) {
        (Some(ratings), _) => mt_bench::read_ratings_file(ratings, Several::First),
        (None, Some(questions)) => {
            let (file, text) = source(questions)?;
            let answers = args.answers.iter().map(|path| source(path)).collect::<Result<Vec<_>, _>>()?;
            let answers: Vec<(&str, &str)> =
                answers.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
            let ask = AskToRate::new().map_err(failure)?;
            let sheet = Sheet::mt_bench((&file, &text), &answers, &ask).map_err(failure)?;
            let (filled, of_judge) = live::judge(sheet, &args.live)?;
            asked = Some(of_judge);
            mt_bench::read_ratings(&file, &filled.lines(), Several::Last)
        }
        (None, None) => return Err(Failure::new(Code::Input, "give --ratings, or --questions and --answers")),
    };
    let categories = args.questions.as_deref().map(Categories::read).transpose().map_err(failure)?.unwrap_or_default();
    let report = mt_bench::rate(&ratings.map_err(failure)?, &categories, None, &args.draws.bootstrap());
    Ok((vec![report.map_err(failure)?], asked))
}

fn pairwise(args: &PairwiseArgs) -> Result<Judged<pairwise::PairwiseReport>, Failure> {
    let mut asked = None;
    let sheet = |file: &str, text: &str| Sheet::pairwise(file, text, &AskToCompare::three_labels()?);
    let (file, text) = own_file(&args.pairs, &args.live, sheet, &mut asked, Filled::lines)?;
    let judge = name(&args.live, asked.as_ref());
    let pairs = Pairs::from_json(&file, &text, &args.model, &args.baseline, &judge).map_err(failure)?;
    let report = pairwise::compare(&pairs, args.fit, &args.draws.bootstrap()).map_err(failure)?;
    Ok((vec![report], asked))
}

/// The judge's name in tables.
fn name(live: &LiveArgs, asked: Option<&Asked>) -> String {
    asked.map_or_else(|| live.name(), |asked| asked.judge().to_owned())
}

/// A file's name and its text, completed by a judge where one is to be asked.
fn own_file(
    path: &Path,
    live: &LiveArgs,
    sheet: impl Fn(&str, &str) -> Result<Sheet, EvalError>,
    asked: &mut Option<Asked>,
    lines: impl Fn(&Filled) -> String,
) -> Result<(String, String), Failure> {
    let (file, text) = source(path)?;
    if !live.is_asked() {
        return Ok((file, text));
    }
    let (filled, of_judge) = live::judge(sheet(&file, &text).map_err(failure)?, live)?;
    *asked = Some(of_judge);
    Ok((file, lines(&filled)))
}

/// A file's name for messages and its text.
fn source(path: &Path) -> Result<(String, String), Failure> {
    let file = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(failure(EvalError::File { file, source })),
    }
}

fn paths(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

/// One report after the other, with an empty line between, and what became of the questions to a judge after them; in JSON
/// it stands in every report under `asked`.
fn print<R: Serialize + fmt::Display>((reports, asked): &Judged<R>, json: bool) -> Result<(), Failure> {
    let bug = |error: serde_json::Error| Failure::new(Code::Bug, error);
    for (place, report) in reports.iter().enumerate() {
        if json {
            let mut report = serde_json::to_value(report).map_err(bug)?;
            if let (Value::Object(fields), Some(asked)) = (&mut report, asked) {
                fields.insert("asked".to_owned(), serde_json::to_value(asked).map_err(bug)?);
            }
            println!("{report}");
        } else {
            let between = if place > 0 { "\n" } else { "" };
            print!("{between}{report}");
        }
    }
    if let Some(asked) = asked.as_ref().filter(|_| !json) {
        print!("{asked}");
    }
    Ok(())
}

/// Whatever goes wrong here lies in the files or options that were given.
fn failure(error: EvalError) -> Failure {
    Failure::new(Code::Input, error)
}
