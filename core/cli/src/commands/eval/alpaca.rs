//! `metareward eval alpaca`.

use metareward_eval::{
    EvalError,
    alpaca::{
        Allow, AlpacaReport, Anchors, Annotations, Difficulties, FitOptions, Leaderboard, WeightTable, fit_annotations,
        predict,
    },
    ask::AskToCompare,
    live::Sheet,
};

use super::{Judged, failure, live, source};
use crate::{
    args::AlpacaArgs,
    failure::{Code, Failure},
};

/// The tables that are used beside the annotations, each where it was given.
struct Tables {
    weights: Option<WeightTable>,
    difficulties: Option<Difficulties>,
    anchors: Option<Anchors>,
    leaderboard: Option<Leaderboard>,
}

/// A report per file of annotations.
///
/// # Errors
/// When a file has another form, files do not belong together, or a table does not know a model.
pub fn reports(args: &AlpacaArgs) -> Result<Judged<AlpacaReport>, Failure> {
    let (files, names) = (args.annotations.len().max(1), args.name.len());
    if names > 0 && names != files {
        let wrong = Failure::new(Code::Input, format!("--name was given {names} times for {files} files"));
        return Err(wrong.hint("give one name for each file, in their order, or none"));
    }
    let allow = Allow { missing_preferences: args.allow_missing, empty_outputs: args.allow_empty };
    let read = |path: &std::path::PathBuf| Annotations::read(path, allow).map_err(refused);
    let tables = tables(args).map_err(failure)?;
    let mut asked = None;
    let annotations: Vec<Annotations> = match (&args.outputs, &args.baseline_outputs) {
        (Some(outputs), Some(baseline)) => {
            let (outputs, baseline) = (source(outputs)?, source(baseline)?);
            let ask = AskToCompare::three_labels().map_err(failure)?;
            let (model, against) =
                ((outputs.0.as_str(), outputs.1.as_str()), (baseline.0.as_str(), baseline.1.as_str()));
            let sheet = Sheet::alpaca(model, against, args.allow_empty, &ask).map_err(refused)?;
            let (filled, of_judge) = live::judge(sheet, &args.live)?;
            asked = Some(of_judge);
            // What the judge did not say is counted, and no reason to refuse the rest.
            let allow = Allow { missing_preferences: true, ..allow };
            vec![Annotations::from_json(&outputs.0, &filled.lines(), allow).map_err(refused)?]
        }
        _ => args.annotations.iter().map(read).collect::<Result<_, _>>()?,
    };
    for others in annotations.iter().skip(1) {
        others.check_order(&annotations[0]).map_err(failure)?;
    }
    let names = args.name.iter().map(|name| Some(name.as_str())).chain(std::iter::repeat(None));
    let reports = annotations.iter().zip(names).map(|(file, name)| report(file, name, &tables, args).map_err(refused));
    Ok((reports.collect::<Result<_, _>>()?, asked))
}

fn tables(args: &AlpacaArgs) -> Result<Tables, EvalError> {
    Ok(Tables {
        weights: args.weights.as_deref().map(WeightTable::read).transpose()?,
        difficulties: args.difficulties.as_deref().map(Difficulties::read).transpose()?,
        anchors: args.anchors.as_deref().map(Anchors::read).transpose()?,
        leaderboard: args.leaderboard.as_deref().map(Leaderboard::read).transpose()?,
    })
}

fn report(
    annotations: &Annotations,
    name: Option<&str>,
    tables: &Tables,
    args: &AlpacaArgs,
) -> Result<AlpacaReport, EvalError> {
    let bootstrap = args.draws.bootstrap();
    let mut report = AlpacaReport::new(annotations, name, &bootstrap)?;
    if let (Some(weights), Some(difficulties)) = (&tables.weights, &tables.difficulties) {
        let (own, baseline) = (weights.of(&report.model)?, weights.of(&report.baseline)?);
        report.length_controlled.push(predict(&own, &baseline, difficulties, &bootstrap)?);
    }
    for regularization in &args.fit {
        let options = FitOptions {
            difficulties: tables.difficulties.as_ref(),
            anchors: tables.anchors.as_ref(),
            regularization: *regularization,
        };
        report.length_controlled.push(fit_annotations(annotations, options, &bootstrap)?);
    }
    if let Some(leaderboard) = &tables.leaderboard {
        report.published = Some(leaderboard.of(&report.model)?.clone());
    }
    Ok(report)
}

/// An error with the option that gets round it.
fn refused(error: EvalError) -> Failure {
    let hint = match &error {
        EvalError::NoPreference { .. } => Some("--allow-missing leaves such records out"),
        EvalError::EmptyOutput { .. } => Some("--allow-empty counts such records as they were judged"),
        EvalError::Unknown { .. } => Some("--name says what the tables call the model"),
        _ => None,
    };
    match hint {
        Some(hint) => failure(error).hint(hint),
        None => failure(error),
    }
}
