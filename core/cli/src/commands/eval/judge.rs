//! `metareward eval judge`.

use metareward_eval::{
    LengthUnit,
    ask::{AskToCompare, AskToRate},
    judge::{ChosenBy, JudgeReport, pairs_from_json, scores_from_json},
    live::Sheet,
    measure,
};
use metareward_runtime::RunReader;

use super::{Judged, failure, live::Asked, name, own_file};
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
pub fn reports(args: &JudgeArgs) -> Result<Judged<JudgeReport>, Failure> {
    let bootstrap = args.draws.bootstrap();
    let reference = args.reference.as_str();
    let mut asked: Option<Asked> = None;
    if let Some(path) = &args.scores {
        let sheet = |file: &str, text: &str| Sheet::judge_scores(file, text, &AskToRate::new()?);
        let (file, text) = own_file(path, &args.live, sheet, &mut asked, |filled| filled.judged_lines())?;
        let scores = scores_from_json(&file, &text).map_err(failure)?;
        return Ok((
            vec![JudgeReport::from_scores(&name(&args.live, asked.as_ref()), reference, &scores, &bootstrap)],
            asked,
        ));
    }
    if let Some(path) = &args.pairs {
        let sheet = |file: &str, text: &str| Sheet::judge_pairs(file, text, &AskToCompare::three_labels()?);
        let (file, text) = own_file(path, &args.live, sheet, &mut asked, |filled| filled.judged_lines())?;
        let pairs = pairs_from_json(&file, &text).map_err(failure)?;
        let views = match args.chosen_by {
            Some(who) => vec![who.into()],
            None => vec![ChosenBy::Reference, ChosenBy::Judge],
        };
        let sets: Vec<_> = views.into_iter().map(|who| (who, pairs.clone())).collect();
        return Ok((
            vec![JudgeReport::from_pairs(&name(&args.live, asked.as_ref()), reference, &sets, &bootstrap)],
            asked,
        ));
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
    Ok((reports, None))
}
