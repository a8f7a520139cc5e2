//! The figures of a run: one block of JSON in the page.

use std::collections::BTreeMap;

use metareward_api::{ModelCard, PromptId};
use metareward_eval::{Figure, Groups, Measurements, Table, in_words, main_table, mean, measure, wins};
use metareward_runtime::{Place, PluginUse, RunReader, Stage, Statistics};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Comparison, Entry, IterationFigures, Options, ReportError, TrainingFigures,
    iteration::Tally,
    pack::{Packer, encode},
    records, training,
};

/// All figures of a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Version of metareward that made the page.
    pub version: String,
    /// The runs.
    pub runs: Vec<RunFigures>,
    /// How they differ; `None` of a single run.
    pub comparison: Option<Comparison>,
}

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    /// Name of the experiment.
    pub name: String,
    /// Name of the run folder.
    pub folder: String,
    /// The run's seed, as digits: a script's numbers are not exact beyond 2⁵³.
    pub seed: String,
    /// Version of metareward that made the run.
    pub version: String,
    /// What is known of the seed model.
    pub card: ModelCard,
    /// Fingerprint of the seed model.
    pub fingerprint: String,
    /// Name of the model that the first iteration starts from.
    pub base_model: String,
    /// What computed.
    pub machine: BTreeMap<String, String>,
    /// The config as resolved.
    pub config: Value,
    /// The plugins as used, with their options.
    pub plugins: Vec<PluginUse>,
    /// Iterations that the config asks for.
    pub planned: u32,
    /// The table per model.
    pub table: Table,
    /// What it says.
    pub words: Vec<String>,
    /// Win rates by category of prompts; `None` without categories or without an oracle.
    pub categories: Option<Categories>,
    /// What the evaluation of each model showed.
    pub evaluations: Vec<EvaluationFigures>,
    /// Finished stages of SFT.
    pub sft: Vec<StageFigures>,
    /// The iterations that have begun.
    pub iterations: Vec<IterationFigures>,
    /// Learning curves.
    pub trainings: Vec<TrainingFigures>,
    /// Warnings of the run, and what a reader of this page should know.
    pub remarks: Vec<String>,
    /// Whose records are in the page.
    pub places: Vec<PlaceIndex>,
}

/// A finished stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageFigures {
    /// The stage.
    pub stage: Stage,
    /// Number of records.
    pub records: u64,
    /// What they show.
    pub statistics: Statistics,
    /// Seconds that it took, where the log says so.
    pub seconds: Option<f64>,
    /// Tokens computed, where the log says so.
    pub tokens: Option<u64>,
}

/// Evaluation of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationFigures {
    /// The model.
    pub name: String,
    /// Finished stages of its evaluation.
    pub stages: Vec<StageFigures>,
}

/// Win rates by category of prompts (the paper's figure 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Categories {
    /// The model that the others are compared with.
    pub opponent: String,
    /// The others.
    pub models: Vec<String>,
    /// The categories, by name.
    pub rows: Vec<CategoryRow>,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategoryRow {
    /// Its name.
    pub category: String,
    /// Win rate of each model on its prompts, a tie as half a win.
    pub cells: Vec<Option<Figure>>,
}

/// A place whose records are in the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceIndex {
    /// Blocks of the page that belong to it: `KEY` for the list of prompts, `KEY-0`, `KEY-1` … for the packs.
    pub key: String,
    /// The iteration; `None` for the held-out prompts.
    pub iteration: Option<u32>,
    /// Prompts of the place.
    pub prompts: usize,
    /// Those whose records are in the page.
    pub shown: usize,
    /// Number of packs.
    pub packs: usize,
}

/// One block of compressed records: its id in the page, and its content.
pub(crate) struct Block {
    pub id: String,
    pub content: String,
}

/// Figures and records of a run. `number` is its place among the runs of the page, `budget` the bytes that its records
/// may take.
pub(crate) fn of_run(
    reader: &RunReader,
    number: usize,
    budget: u64,
    options: &Options,
    measurements: &Measurements,
) -> Result<(RunFigures, Vec<Block>), ReportError> {
    let record = reader.record();
    let budget = budget / (u64::from(record.config.iterations) + 1);
    let log = training::log(reader);
    let mut remarks = log.warnings.clone();
    let mut places = Vec::new();
    let mut blocks = Vec::new();
    let stages = |place: &Place| -> Result<Vec<StageFigures>, ReportError> {
        let mut found = Vec::new();
        for stage in STAGES {
            if let Some(record) = reader.stage(place, stage)? {
                let effort = log.effort.get(&(place.clone(), stage));
                found.push(StageFigures {
                    stage,
                    records: record.records,
                    statistics: record.statistics,
                    seconds: effort.map(|(seconds, _)| *seconds),
                    tokens: effort.map(|(_, tokens)| *tokens),
                });
            }
        }
        Ok(found)
    };

    let mut iterations = Vec::new();
    for iteration in 1..=record.config.iterations {
        let of_stages = stages(&Place::Iteration(iteration))?;
        if of_stages.is_empty() {
            continue;
        }
        let mut tally = Tally::default();
        let mut packer = Packer::new(options.prompts, budget);
        let (mut prompts, mut failed) = (0, None);
        let left = records::of_iteration(reader, iteration, |records| {
            prompts += 1;
            tally.add(&records);
            failed = failed.take().or(packer.add(Entry::of_iteration(&records), &records).err());
        })?;
        failed.map_or(Ok(()), Err)?;
        remarks.extend(strangers(left, &Place::Iteration(iteration)));
        let key = format!("run-{number}-iteration-{iteration}");
        places.push(pack(packer, key, Some(iteration), prompts, &mut blocks)?);
        let before = if iteration == 1 { record.base_model.clone() } else { format!("M{}", iteration - 1) };
        iterations.push(tally.finish(iteration, before, of_stages, &options.bootstrap));
    }

    let names: Vec<String> = measurements.models.iter().map(|model| model.name.clone()).collect();
    let mut evaluations = Vec::new();
    for name in &names {
        evaluations.push(EvaluationFigures { name: name.clone(), stages: stages(&Place::Evaluation(name.clone()))? });
    }
    let mut by_category: BTreeMap<String, Vec<PromptId>> = BTreeMap::new();
    let mut packer = Packer::new(options.prompts, budget);
    let (mut prompts, mut failed) = (0, None);
    let left = records::of_evaluation(reader, &names, |records| {
        prompts += 1;
        if let Some(category) = &records.prompt.category {
            by_category.entry(category.clone()).or_default().push(records.prompt.id.clone());
        }
        failed = failed.take().or(packer.add(Entry::of_evaluation(&records), &records).err());
    })?;
    failed.map_or(Ok(()), Err)?;
    remarks.extend(strangers(left, &Place::Evaluation("held-out".into())));
    if prompts > 0 {
        places.push(pack(packer, format!("run-{number}-held-out"), None, prompts, &mut blocks)?);
    }

    let table = main_table(measurements, &options.bootstrap);
    let words = in_words(&table).lines().map(str::to_owned).collect();
    if record.rubric_scale.is_none() {
        remarks.push(format!(
            "run.json does not hold the rubric's scale; a perfect answer is taken to have {} points",
            options.full_points
        ));
    }
    let config = serde_json::to_value(&record.config).map_err(|error| encode("the config", &error))?;
    let figures = RunFigures {
        name: record.name.clone(),
        folder: reader.folder().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        seed: record.seed.to_string(),
        version: record.version.clone(),
        card: record.card.clone(),
        fingerprint: record.model.fingerprint.to_string(),
        base_model: record.base_model.clone(),
        machine: record.machine.clone(),
        config,
        plugins: record.plugins.clone(),
        planned: record.config.iterations,
        table,
        words,
        categories: categories(measurements, &by_category, options),
        evaluations,
        sft: stages(&Place::Sft)?,
        iterations,
        trainings: log.trainings,
        remarks,
        places,
    };
    Ok((figures, blocks))
}

/// What a run measured, by the options of the report.
pub(crate) fn measurements(reader: &RunReader, options: &Options) -> Result<Measurements, ReportError> {
    let full = reader.record().rubric_scale.map_or(options.full_points, |scale| scale.max);
    Ok(measure(reader, options.length_unit, full)?)
}

/// The stages that are counted, in the order in which they are computed.
const STAGES: [Stage; 10] = [
    Stage::Prompts,
    Stage::Responses,
    Stage::Points,
    Stage::Judgments,
    Stage::Verdicts,
    Stage::Ratings,
    Stage::Pairs,
    Stage::Unpaired,
    Stage::Reference,
    Stage::Training,
];

fn pack(
    packer: Packer,
    key: String,
    iteration: Option<u32>,
    prompts: usize,
    blocks: &mut Vec<Block>,
) -> Result<PlaceIndex, ReportError> {
    let (shown, list, packs) = packer.finish()?;
    let index = PlaceIndex { key: key.clone(), iteration, prompts, shown, packs: packs.len() };
    blocks.push(Block { id: key.clone(), content: list });
    blocks.extend(
        packs.into_iter().enumerate().map(|(number, content)| Block { id: format!("{key}-{number}"), content }),
    );
    Ok(index)
}

fn strangers(left: u64, place: &Place) -> Option<String> {
    (left > 0).then(|| {
        format!(
            "{place}: {left} records belong to none of its prompts and are left out of the figures per prompt; a later stage \
             was made with other settings, and going on with the run makes it anew"
        )
    })
}

fn categories(
    measurements: &Measurements,
    by_category: &BTreeMap<String, Vec<PromptId>>,
    options: &Options,
) -> Option<Categories> {
    let (opponent, others) = measurements.models.split_first()?;
    let row = |(category, prompts): (&String, &Vec<PromptId>)| {
        let only = |points: &Groups<f64>| -> Groups<f64> {
            let values =
                prompts.iter().flat_map(|prompt| points.of(prompt).iter().map(|value| (prompt.clone(), *value)));
            values.collect()
        };
        let theirs = only(&opponent.points);
        let cells = others.iter().map(|model| mean(&wins(&only(&model.points), &theirs), &options.bootstrap));
        CategoryRow { category: category.clone(), cells: cells.collect() }
    };
    let rows: Vec<CategoryRow> = by_category.iter().map(row).collect();
    let measured = rows.iter().flat_map(|row| &row.cells).any(Option::is_some);
    measured.then(|| Categories {
        opponent: opponent.name.clone(),
        models: others.iter().map(|model| model.name.clone()).collect(),
        rows,
    })
}
