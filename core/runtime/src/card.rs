//! The model card beside every model that a run keeps: `README.md` as the Hugging Face hub reads it.
//!
//! It says how the model was made and what was measured of it, and holds neither times nor paths of a machine: the same
//! run writes the same card.

use std::{fmt::Write, fs};

use metareward_host::PluginRecord;
use serde_json::{Value, json};

use crate::{
    Config, PluginUse, RunError,
    config::Reference,
    stages::Context,
    statistics::{Mean, PairSummary, Statistics},
    store::{Model, Place, Stage, StageRecord, models},
};

/// Name of the card in a model folder.
const NAME: &str = "README.md";

/// Writes the card of a model that this run made, unless it is there and says the same. `parent`: what its training
/// started from.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(cx: &Context<'_>, place: &Place, model: &Model, parent: &Model) -> Result<(), RunError> {
    if cx.rehearsal.is_some() {
        return Ok(());
    }
    let path = model.folder.join(NAME);
    let text = card(cx, place, model, parent)?;
    if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    cx.store.disk.write(&path, text.as_bytes())
}

fn card(cx: &Context<'_>, place: &Place, model: &Model, parent: &Model) -> Result<String, RunError> {
    let config = cx.config();
    let note = models::note(&model.folder)?
        .ok_or_else(|| RunError::Bug(format!("{} has no note in its folder", model.folder.display())))?;
    let iteration = match place {
        Place::Iteration(iteration) => Some(*iteration),
        _ => None,
    };
    let optimizer = iteration.and_then(|iteration| at(&cx.plugins.uses, "optimizer", iteration));
    let mut text = front_matter(config, optimizer);
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("\n# {} {}\n", plain(&config.name), model.name));
    line(match iteration {
        None => "Supervised fine-tuning on examples of the task, before the first iteration of Meta-Rewarding.".into(),
        Some(t) => format!(
            "Iteration {t} of Meta-Rewarding (Wu et al. 2024, arXiv:2407.19594): {} answered prompts, judged its answers{} \
             and was trained on the preferences that came out.",
            parent.name,
            if *config.at(&config.meta_judge.pairs, t)? { ", judged its judgments," } else { "" },
        ),
    });
    line("\n## How it was made\n".into());
    line("| | |\n|---|---|".into());
    let mut row = |name: &str, value: String| line(format!("| {name} | {value} |"));
    row("made by", format!("metareward {}", env!("CARGO_PKG_VERSION")));
    row("run", format!("{}, seed {}", plain(&config.name), config.seed));
    row("trained from", format!("{}, `{}`", parent.name, parent.fingerprint));
    row("this model", format!("`{}`", model.fingerprint));
    row("training", format!("`{}`", note.training));
    let report = &note.report;
    match iteration {
        None => row("examples", report.examples.to_string()),
        Some(_) => row("pairs", format!("{} actor, {} judge", report.actor_pairs, report.judge_pairs)),
    }
    row("held out for validation", report.validation.to_string());
    row("optimizer steps", report.steps.to_string());
    let of = |epoch: &crate::EpochStatistics| match epoch.validation_loss {
        Some(validation) => format!("{:.4} (validation {validation:.4})", epoch.train_loss),
        None => format!("{:.4}", epoch.train_loss),
    };
    row("loss per epoch", report.epochs.iter().map(of).collect::<Vec<_>>().join(", "));
    row("epoch kept", note.epoch.to_string());
    if let Some(t) = iteration {
        line("\n## The data of the iteration\n".into());
        for counted in data(cx, t) {
            line(format!("- {counted}"));
        }
    }
    let figures = figures(cx, &model.name);
    if !figures.is_empty() {
        line("\n## Measured on held-out prompts\n".into());
        line("| figure | value | n |\n|---|--:|--:|".into());
        for (name, value, n) in figures {
            line(format!("| {name} | {value} | {n} |"));
        }
        line("\nMeans without intervals; the run's own table has those.".into());
    }
    line("\n## Settings\n".into());
    line(format!("```json\n{}\n```", settings(config, iteration)?));
    line("\n## Plugins\n".into());
    line("| section | plugin | version | form | sha256 |\n|---|---|---|---|---|".into());
    for used in &cx.plugins.uses {
        let Some(plugin) = at(std::slice::from_ref(used), &used.section, iteration.unwrap_or(1)) else { continue };
        let sha256 = plugin.sha256.as_deref().map(|hash| format!("`{hash}`")).unwrap_or_default();
        let info = &plugin.info;
        line(format!(
            "| {} | {} | {} | {} | {sha256} |",
            used.section,
            plain(&info.name),
            plain(&info.version),
            plugin.form
        ));
    }
    Ok(text)
}

/// A section's plugin in an iteration; of a section that has one for all, that one.
fn at<'a>(uses: &'a [PluginUse], section: &str, iteration: u32) -> Option<&'a PluginRecord> {
    let used = uses.iter().find(|used| used.section == section)?;
    used.iterations.get(iteration.saturating_sub(1) as usize).or(used.iterations.first())
}

/// The YAML between dashes. A JSON text is a YAML text, whatever is in it.
fn front_matter(config: &Config, optimizer: Option<&PluginRecord>) -> String {
    let quoted = |text: &str| json!(text).to_string();
    let mut yaml = String::from(
        "---\n# Add the license under which you give this model away: license: …\nlibrary_name: transformers\n",
    );
    yaml.push_str("pipeline_tag: text-generation\n");
    // A folder on a machine is no name that the hub knows.
    if let Some(id) = &config.model.id {
        let _ = writeln!(yaml, "base_model: {}", quoted(id));
    }
    let mut tags = vec!["metareward".to_owned(), "meta-rewarding".to_owned()];
    tags.extend(optimizer.map(|optimizer| optimizer.info.name.clone()));
    tags.push(if optimizer.is_some() { "preference-optimization".into() } else { "sft".into() });
    yaml.push_str("tags:\n");
    for tag in tags {
        let _ = writeln!(yaml, "- {}", quoted(&tag));
    }
    yaml.push_str("---\n");
    yaml
}

/// A name in a table or heading of Markdown.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() || "|`<>[]*_#".contains(letter) { ' ' } else { letter }).collect()
}

fn stage(cx: &Context<'_>, place: &Place, stage: Stage) -> Option<StageRecord> {
    let text = fs::read_to_string(cx.store.stage_folder(place, stage).join("stage.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// What each stage of an iteration came to.
fn data(cx: &Context<'_>, iteration: u32) -> Vec<String> {
    let place = Place::Iteration(iteration);
    let mut stages = vec![Stage::Prompts, Stage::Responses, Stage::Judgments];
    // Stages of earlier settings may lie beside those of this run.
    if cx.config().meta_judge.pairs.at(iteration) == Some(&true) {
        stages.extend([Stage::Verdicts, Stage::Ratings]);
    }
    stages.extend([Stage::Pairs, Stage::Unpaired]);
    let mut lines = Vec::new();
    for record in stages.into_iter().filter_map(|of| stage(cx, &place, of)) {
        let more = match &record.statistics {
            Statistics::Responses(it) => format!(", {} of them repeats", it.duplicates),
            Statistics::Judgments(it) => {
                format!(", {} of them unreadable; mean score {}", it.failure_rate().count, mean(&it.score, 3))
            }
            Statistics::Verdicts(it) => format!(", {} of them unreadable", it.unreadable.values().sum::<u64>()),
            Statistics::Pairs(it) => {
                let of = |kind: &str, pairs: &Option<PairSummary>| {
                    pairs.as_ref().map(|pairs| {
                        let (chosen, rejected) = (mean(&pairs.chosen_length, 1), mean(&pairs.rejected_length, 1));
                        format!(
                            "; {} of the {kind}, chosen {chosen} and rejected {rejected} {} long",
                            pairs.pairs, pairs.unit
                        )
                    })
                };
                [of("actor", &it.actor), of("judge", &it.judge)].into_iter().flatten().collect()
            }
            _ => String::new(),
        };
        lines.push(format!("{}: {}{more}", record.stage, record.records));
    }
    lines
}

fn mean(mean: &Mean, digits: usize) -> String {
    mean.value().map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// What was measured of a model: name, value, number of measurements.
fn figures(cx: &Context<'_>, model: &str) -> Vec<(&'static str, String, u64)> {
    let evaluation = &cx.config().evaluation;
    let place = Place::Evaluation(model.to_owned());
    let mut stages = Vec::new();
    if evaluation.prompts > 0 {
        stages.extend([Stage::Points, Stage::Responses]);
    }
    if evaluation.judge_prompts > 0 {
        stages.push(Stage::Judgments);
    }
    let mut found = Vec::new();
    for record in stages.into_iter().filter_map(|of| stage(cx, &place, of)) {
        let of: Vec<(&'static str, &Mean, usize)> = match &record.statistics {
            Statistics::Points(it) => vec![("oracle points", &it.points, 3)],
            Statistics::Responses(it) => {
                vec![("answer length, characters", &it.characters, 1), ("answer length, tokens", &it.tokens, 1)]
            }
            Statistics::Judgments(it) => vec![("judge's mean score", &it.score, 3)],
            _ => Vec::new(),
        };
        let measured = of.into_iter().filter(|(_, value, _)| value.count > 0);
        found.extend(measured.map(|(name, value, digits)| (name, mean(value, digits), value.count)));
    }
    found
}

/// The settings that made the model, without those that are paths of a machine.
fn settings(config: &Config, iteration: Option<u32>) -> Result<String, RunError> {
    let wrong = |error: serde_json::Error| RunError::Bug(format!("the settings cannot be written: {error}"));
    let value = |value: serde_json::Result<Value>| value.map_err(wrong);
    let settings = match iteration {
        None => json!({
            "examples": [config.sft.demonstrations, config.sft.judge_examples, config.sft.meta_examples],
            "train": value(serde_json::to_value(&config.sft.train))?,
        }),
        Some(t) => json!({
            "prompts": config.at(&config.prompts.per_iteration, t)?,
            "responses": config.at(&config.actor.responses, t)?,
            "judgments": config.at(&config.judge.judgments, t)?,
            "actor_pairs": config.at(&config.actor.pairs, t)?,
            "judge_pairs": config.at(&config.meta_judge.pairs, t)?,
            "reference": match config.at(&config.pairs.reference, t)? {
                Reference::Folder(_) => "a model folder".into(),
                named => value(serde_json::to_value(named))?,
            },
            "judge_share": config.at(&config.pairs.judge_share, t)?,
            "carry_over": config.at(&config.pairs.carry_over, t)?,
            "train": value(serde_json::to_value(&config.train))?,
            "dtype": config.engine.dtype,
        }),
    };
    serde_json::to_string_pretty(&settings).map_err(wrong)
}
