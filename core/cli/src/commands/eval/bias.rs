//! `metareward eval bias`.

use std::collections::BTreeMap;

use metareward_api::{Judgment, PromptId, Unreadable, Winner};
use metareward_eval::{
    Bootstrap, Choice, Groups,
    ask::{AskToCompare, AskToRate},
    bias::{BiasReport, Scored, Shown, parse_failures, saturation, scored_from_json, shown_from_json},
    live::Sheet,
};
use metareward_runtime::{Place, RunError, RunReader};

use super::{Judged, failure, live::Asked, name, own_file};
use crate::{
    args::BiasArgs,
    commands::table::full_points,
    experiment,
    failure::{Code, Failure},
};

/// What a judge was seen to do.
#[derive(Default)]
struct Seen {
    /// Comparisons.
    shown: Groups<Shown>,
    /// Readable scores.
    scores: Groups<f64>,
    /// Each of them whose answer's length is known, with that length.
    lengths: Groups<(f64, f64)>,
    /// Of every judgment why it could not be read; `None` where it could.
    outcomes: Groups<Option<String>>,
}

impl Seen {
    fn compare(&mut self, prompt: &PromptId, shown: Shown, unread: &str) {
        self.outcomes.push(prompt, shown.choice.is_none().then(|| unread.to_owned()));
        self.shown.push(prompt, shown);
    }

    fn score(&mut self, prompt: &PromptId, score: Option<f64>, length: Option<f64>, unread: &str) {
        self.outcomes.push(prompt, score.is_none().then(|| unread.to_owned()));
        let Some(score) = score else { return };
        self.scores.push(prompt, score);
        if let Some(length) = length {
            self.lengths.push(prompt, (score, length));
        }
    }

    fn report(&self, judge: &str, full_points: f64, unit: &str, bootstrap: &Bootstrap) -> BiasReport {
        BiasReport {
            saturation: saturation(&self.scores, full_points, &self.lengths, bootstrap),
            failures: parse_failures(&self.outcomes, bootstrap),
            ..BiasReport::from_shown(judge, &self.shown, unit, bootstrap)
        }
    }
}

/// A report; of a run one per iteration, whose judge and meta-judge are the model that it starts from.
///
/// # Errors
/// When a file has another form, or no iteration of a run has been judged.
pub fn reports(args: &BiasArgs) -> Result<Judged<BiasReport>, Failure> {
    let bootstrap = args.draws.bootstrap();
    if let Some(folder) = &args.run {
        let reader = RunReader::open(folder).map_err(experiment::failure)?;
        let full_points = full_points(&reader)?;
        let mut reports = Vec::new();
        for iteration in 1..=reader.record().config.iterations {
            let seen = of_iteration(&reader, iteration).map_err(experiment::failure)?;
            if !seen.outcomes.is_empty() {
                let judge =
                    if iteration == 1 { reader.record().base_model.clone() } else { format!("M{}", iteration - 1) };
                reports.push(seen.report(&judge, full_points, "characters", &bootstrap));
            }
        }
        if reports.is_empty() {
            return Err(Failure::new(Code::Input, format!("{}: no iteration has been judged yet", folder.display())));
        }
        return Ok((reports, None));
    }
    let full_points = args.full_points.unwrap_or(if args.live.is_asked() { 10.0 } else { 5.0 });
    if !full_points.is_finite() {
        return Err(Failure::new(Code::Input, "--full-points must be a finite number"));
    }
    let mut seen = Seen::default();
    if args.live.is_asked() && args.verdicts.is_some() && args.scores.is_some() {
        let message = "a judge is asked about --verdicts or about --scores, not about both at once";
        return Err(Failure::new(Code::Input, message));
    }
    let mut asked: Option<Asked> = None;
    if let Some(path) = &args.verdicts {
        let sheet = |file: &str, text: &str| Sheet::verdicts(file, text, &AskToCompare::three_labels()?);
        let (file, text) = own_file(path, &args.live, sheet, &mut asked, |filled| filled.lines())?;
        for (prompt, group) in shown_from_json(&file, &text).map_err(failure)?.iter() {
            group.iter().for_each(|shown| seen.compare(prompt, *shown, "no choice could be read"));
        }
    }
    if let Some(path) = &args.scores {
        let sheet = |file: &str, text: &str| Sheet::scores(file, text, &AskToRate::new()?);
        let (file, text) = own_file(path, &args.live, sheet, &mut asked, |filled| filled.lines())?;
        for Scored { prompt, score, length } in scored_from_json(&file, &text).map_err(failure)? {
            seen.score(&prompt, score, length, "no score could be read");
        }
    }
    let judge = name(&args.live, asked.as_ref());
    Ok((vec![seen.report(&judge, full_points, &args.length_unit, &bootstrap)], asked))
}

/// Judgments of answers with the answers' lengths, and verdicts on judgments with the scores that these give and their
/// lengths, all in characters.
fn of_iteration(reader: &RunReader, iteration: u32) -> Result<Seen, RunError> {
    let place = Place::Iteration(iteration);
    let characters = |text: &str| text.chars().count() as f64;
    let mut answers = BTreeMap::new();
    for response in reader.responses(&place)? {
        let response = response?;
        answers.insert((response.prompt, response.draw), characters(&response.text));
    }
    let mut seen = Seen::default();
    // Score and length of each judgment.
    let mut judgments: BTreeMap<(PromptId, u32, u32), (Option<f64>, f64)> = BTreeMap::new();
    for judgment in reader.judgments(&place)? {
        let Judgment { prompt, response, draw, text, score, unreadable, .. } = judgment?;
        let answer = (prompt, response);
        seen.score(&answer.0, score, answers.get(&answer).copied(), &format!("judgment: {}", why(unreadable)));
        judgments.insert((answer.0, response, draw), (score, characters(&text)));
    }
    for verdict in reader.verdicts(iteration)? {
        let verdict = verdict?;
        let of = |draw: u32| judgments.get(&(verdict.prompt.clone(), verdict.response, draw)).copied();
        let both = of(verdict.first).zip(of(verdict.second));
        let shown = Shown {
            choice: verdict.winner.map(choice),
            scores: both.and_then(|((first, _), (second, _))| first.zip(second)),
            lengths: both.map(|((_, first), (_, second))| (first, second)),
            ..Shown::default()
        };
        seen.compare(&verdict.prompt, shown, &format!("verdict: {}", why(verdict.unreadable)));
    }
    Ok(seen)
}

fn why(unreadable: Option<Unreadable>) -> String {
    unreadable.map_or_else(|| "unreadable".to_owned(), |why| why.to_string())
}

fn choice(winner: Winner) -> Choice {
    match winner {
        Winner::First => Choice::First,
        Winner::Second => Choice::Second,
        Winner::Tie => Choice::Tie,
    }
}
