//! Preference pairs as TRL's DPOTrainer takes them, and a script that trains on them with the run's settings.

use std::{io::Write, path::Path};

use metareward_api::{LearningRateSchedule, Message, Pair, PairKind};
use metareward_host::PluginRecord;
use metareward_runtime::{Place, RunReader, Stage};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Exported,
    file::{Draft, failed},
};
use crate::ReportError;

const SCRIPT: &str = include_str!("train_trl.py");

/// A line of TRL's conversational preference format, and what the pair comes from.
#[derive(Serialize)]
struct Line<'a> {
    prompt: &'a [Message],
    chosen: [Message; 1],
    rejected: [Message; 1],
    score_chosen: f64,
    score_rejected: f64,
    kind: PairKind,
    iteration: u32,
    prompt_id: &'a str,
    response: Option<u32>,
    draw_chosen: u32,
    draw_rejected: u32,
    weight: f64,
    model: &'a str,
}

/// A file of pairs per iteration, and a script beside it where TRL has the run's loss.
pub(super) fn export(run: &RunReader, to: &Path, iterations: &[u32]) -> Result<Exported, ReportError> {
    let mut exported = Exported::default();
    for iteration in iterations {
        if run.stage(&Place::Iteration(*iteration), Stage::Pairs)?.is_none() {
            exported.remarks.push(format!("iteration {iteration} has made no pairs yet"));
            continue;
        }
        let name = format!("pairs-{iteration}.jsonl");
        let path = to.join(&name);
        let mut file = Draft::create(&path)?;
        let (mut count, mut weighted) = (0, false);
        for pair in run.pairs(*iteration)? {
            let pair = pair?;
            weighted |= pair.weight != 1.0;
            serde_json::to_writer(&mut file, &line(&pair, *iteration)).map_err(|error| failed(&path, error))?;
            file.write_all(b"\n").map_err(|error| failed(&path, error))?;
            count += 1;
        }
        file.finish()?;
        exported.files.push((path, count));
        if weighted {
            exported.remarks.push(format!("iteration {iteration}: TRL weighs every pair alike; the run does not"));
        }
        let script = format!("train_trl-{iteration}.py");
        match self::script(run, *iteration, &name, &script)? {
            Ok(text) => {
                let path = to.join(&script);
                let mut file = Draft::create(&path)?;
                file.write_all(text.as_bytes()).map_err(|error| failed(&path, error))?;
                file.finish()?;
                exported.files.push((path.clone(), 1));
                let parent = parent(run, *iteration);
                exported.remarks.push(format!(
                    "train as iteration {iteration} does: accelerate launch {} --model {} --output OUT",
                    path.display(),
                    parent.1.display()
                ));
            }
            Err(why) => exported.remarks.push(format!("iteration {iteration}: no script for TRL: {why}")),
        }
    }
    Ok(exported)
}

fn line(pair: &Pair, iteration: u32) -> Line<'_> {
    Line {
        prompt: &pair.messages,
        chosen: [Message::assistant(&pair.chosen.text)],
        rejected: [Message::assistant(&pair.rejected.text)],
        score_chosen: pair.chosen.score,
        score_rejected: pair.rejected.score,
        kind: pair.kind,
        iteration,
        prompt_id: &pair.prompt.0,
        response: pair.response,
        draw_chosen: pair.chosen.draw,
        draw_rejected: pair.rejected.draw,
        weight: pair.weight,
        model: &pair.model,
    }
}

/// Name and folder of the model that made an iteration's pairs.
fn parent(run: &RunReader, iteration: u32) -> (String, std::path::PathBuf) {
    match iteration {
        1 if run.record().base_model == "sft" => ("sft".into(), run.folder().join("sft/model")),
        1 => ("seed".into(), run.record().model.folder.clone()),
        later => (format!("M{}", later - 1), run.folder().join(format!("iteration-{}/model", later - 1))),
    }
}

/// The loss in TRL's words: type, beta, label smoothing. Or why there is none.
fn loss(optimizer: &PluginRecord) -> Result<(&'static str, f64, f64), String> {
    let number = |key: &str, default: f64| optimizer.options.get(key).and_then(Value::as_f64).unwrap_or(default);
    let beta = number("beta", 0.1);
    match optimizer.info.name.as_str() {
        "dpo" => Ok(("sigmoid", beta, number("label_smoothing", 0.0))),
        "cdpo" => Ok(("sigmoid", beta, number("label_smoothing", 0.0))),
        "ipo" => Ok(("ipo", beta, 0.0)),
        "sppo" => Ok(("sppo_hard", beta, 0.0)),
        other => Err(format!("its DPOTrainer has no loss like `{other}`")),
    }
}

/// The script of an iteration; or why there is none.
fn script(run: &RunReader, iteration: u32, data: &str, file: &str) -> Result<Result<String, String>, ReportError> {
    let record = run.record();
    let (config, train) = (&record.config, &record.config.train);
    let used = record.plugins.iter().find(|used| used.section == "optimizer");
    let optimizer = used.and_then(|used| used.iterations.get(iteration as usize - 1));
    let Some(optimizer) = optimizer else { return Ok(Err("run.json names no optimizer".into())) };
    let (loss_type, beta, label_smoothing) = match loss(optimizer) {
        Ok(loss) => loss,
        Err(why) => return Ok(Err(why)),
    };
    if train.lora.is_some() {
        return Ok(Err("the run trains adapters, which need a peft config of one's own".into()));
    }
    let missing = || ReportError::NoIteration { wanted: iteration, iterations: config.iterations };
    let batch_size = *train.batch_size.at(iteration).ok_or_else(missing)?;
    let schedule = match train.lr_schedule {
        LearningRateSchedule::Cosine => "cosine",
        LearningRateSchedule::Linear => "linear",
        LearningRateSchedule::Constant => "constant_with_warmup",
    };
    // A JSON text or number is one in Python too.
    let values: [(&str, Value); 22] = [
        ("LOSS_TYPE", json!(loss_type)),
        ("BETA", json!(beta)),
        ("LABEL_SMOOTHING", json!(label_smoothing)),
        ("LEARNING_RATE", json!(train.learning_rate.at(iteration).ok_or_else(missing)?)),
        ("LR_SCHEDULE", json!(schedule)),
        ("WARMUP_RATIO", json!(train.warmup_ratio)),
        ("EPOCHS", json!(train.epochs.at(iteration).ok_or_else(missing)?)),
        ("BATCH_SIZE", json!(batch_size)),
        ("MICRO_BATCH", json!(batch_size.min(4))),
        ("MAX_GRAD_NORM", json!(train.max_grad_norm)),
        ("WEIGHT_DECAY", json!(train.weight_decay)),
        ("ADAM_BETA1", json!(train.adam_beta1)),
        ("ADAM_BETA2", json!(train.adam_beta2)),
        ("ADAM_EPSILON", json!(train.adam_epsilon)),
        ("MAX_LENGTH", json!(train.max_length.min(record.card.context))),
        ("SEED", json!(record.seed)),
        ("DATA", json!(data)),
        ("ITERATION", json!(iteration)),
        ("KEEP", json!(train.keep.at(iteration).ok_or_else(missing)?)),
        ("CHECKPOINTING", json!(train.activation_checkpointing)),
        ("PARENT", json!(parent(run, iteration).0)),
        ("RUN", json!(record.name)),
    ];
    let mut text = SCRIPT.replace("@FILE@", file);
    for (name, value) in values {
        let shown = match (&value, name) {
            (Value::Bool(true), _) => "True".into(),
            (Value::Bool(false), _) => "False".into(),
            // These stand in comments and docstrings: a name must not end one.
            (Value::String(plain), "PARENT" | "RUN") => {
                plain.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect()
            }
            (other, _) => other.to_string(),
        };
        text = text.replace(&format!("@{name}@"), &shown);
    }
    Ok(Ok(text))
}
