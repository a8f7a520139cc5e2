//! `metareward eval judge`.

use metareward_eval::{
    LengthUnit,
    judge::{ChosenBy, JudgeReport, read_pairs, read_scores},
    measure,
};
use metareward_runtime::RunReader;

use super::failure;
use crate::{
    args::JudgeArgs,
    commands::table::full_points,
    experiment,
    failure::{Code, Failure},
};

/// A report; of a run one per model that was evaluated as a judge.
///
/// # Errors
/// When a file has another form, or a run has no judge's scores beside an oracle's.
pub fn reports(args: &JudgeArgs) -> Result<Vec<JudgeReport>, Failure> {
    let bootstrap = args.draws.bootstrap();
    let (judge, reference) = (args.judge.as_str(), args.reference.as_str());
    if let Some(path) = &args.scores {
        let scores = read_scores(path).map_err(failure)?;
        return Ok(vec![JudgeReport::from_scores(judge, reference, &scores, &bootstrap)]);
    }
    if let Some(path) = &args.pairs {
        let pairs = read_pairs(path).map_err(failure)?;
        let views = match args.chosen_by {
            Some(who) => vec![who.into()],
            None => vec![ChosenBy::Reference, ChosenBy::Judge],
        };
        let sets: Vec<_> = views.into_iter().map(|who| (who, pairs.clone())).collect();
        return Ok(vec![JudgeReport::from_pairs(judge, reference, &sets, &bootstrap)]);
    }
    let Some(folder) = &args.run else { return Err(Failure::new(Code::Input, "give --scores, --pairs or --run")) };
    let reader = RunReader::open(folder).map_err(experiment::failure)?;
    let measured = measure(&reader, LengthUnit::Characters, full_points(&reader)?).map_err(experiment::failure)?;
    let judges = measured.models.iter().filter(|model| !model.judged.is_empty());
    let reports: Vec<JudgeReport> =
        judges.map(|model| JudgeReport::from_scores(&model.name, "oracle", &model.judged, &bootstrap)).collect();
    if reports.is_empty() {
        let message = format!("{}: no model's judgments of answers with an oracle's points", folder.display());
        return Err(Failure::new(Code::Input, message).hint(
            "a run has them once a model is evaluated, if its task has an oracle and evaluation.judge_prompts is not 0",
        ));
    }
    Ok(reports)
}
