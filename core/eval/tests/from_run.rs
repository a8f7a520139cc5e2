//! Measurements read from a run folder that is written here as the runtime writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use metareward_api::{Finish, Judgment, ModelCard, PromptId, Response, Unreadable};
use metareward_eval::{Bootstrap, LengthUnit, in_words, main_table, measure};
use metareward_runtime::{
    Config, Fingerprint, Model, Place, Points, RunReader, RunRecord, ShardRecord, Stage, StageRecord, Statistics,
};
use serde::Serialize;

fn write_stage<T: Serialize>(run: &Path, place: Place, stage: Stage, records: &[T]) {
    let folder = run.join(place.folder()).join(stage.name());
    fs::create_dir_all(&folder).unwrap();
    let mut shards = Vec::new();
    // Two shards, as in a run with more prompts than one shard holds.
    for (number, part) in records.chunks(records.len().div_ceil(2).max(1)).enumerate() {
        let text: String = part.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        let file = format!("{number:05}.jsonl");
        fs::write(folder.join(&file), &text).unwrap();
        let blake3 = Fingerprint::of_bytes(text.as_bytes());
        shards.push(ShardRecord { file, fingerprint: blake3.clone(), blake3, records: part.len() as u64 });
    }
    let fingerprint = Fingerprint::of_bytes(b"stage");
    let records = records.len() as u64;
    let record = StageRecord { format: 1, place, stage, fingerprint, shards, records, statistics: Statistics::Records };
    fs::write(folder.join("stage.json"), serde_json::to_string(&record).unwrap()).unwrap();
}

/// A run with SFT and two of three iterations evaluated. `gain` is added to each model's points per iteration.
fn write_run(run: &Path, gain: f64) {
    let model = Model { name: "seed".into(), folder: "model".into(), fingerprint: Fingerprint::of_bytes(b"model") };
    let card = ModelCard {
        architecture: "LlamaForCausalLM".into(),
        parameters: 1,
        context: 64,
        vocabulary: 8,
        cache_bytes_per_token: 1,
        layers: 1,
        hidden: 1,
    };
    let record = RunRecord {
        format: 1,
        version: "0.1.0".into(),
        name: "trial".into(),
        seed: 0,
        config: Config { iterations: 3, ..Config::default() },
        plugins: Vec::new(),
        rubric_scale: None,
        plugin_changes: Vec::new(),
        model,
        card,
        base_model: "sft".into(),
        machine: BTreeMap::new(),
    };
    fs::write(run.join("run.json"), serde_json::to_string(&record).unwrap()).unwrap();
    for (age, name) in ["sft", "seed", "M1", "M2"].iter().enumerate() {
        let (mut responses, mut points, mut judgments) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in 0..20_u32 {
            let id = PromptId(format!("p{prompt:02}"));
            for draw in 0..3_u32 {
                let oracle = f64::from((prompt + draw) % 4) + if age >= 2 { gain * (age as f64 - 1.0) } else { 0.0 };
                responses.push(Response {
                    prompt: id.clone(),
                    draw,
                    model: (*name).into(),
                    text: "zwölf wörter".into(),
                    tokens: 5,
                    finish: Finish::EndOfTurn,
                    duplicate_of: None,
                });
                points.push(Points { prompt: id.clone(), response: draw, points: oracle });
                for number in 0..3_u32 {
                    // The last judgment of each answer is unreadable; the others lie around the points of sft's answer.
                    let score = (number < 2).then(|| f64::from((prompt + draw) % 4) + f64::from(number));
                    judgments.push(Judgment {
                        prompt: id.clone(),
                        response: draw,
                        draw: number,
                        opponent: None,
                        shown: None,
                        model: (*name).into(),
                        text: String::new(),
                        tokens: 1,
                        finish: Finish::EndOfTurn,
                        score,
                        unreadable: score.is_none().then_some(Unreadable::Missing),
                    });
                }
            }
        }
        let place = || Place::Evaluation((*name).to_string());
        write_stage(run, place(), Stage::Responses, &responses);
        write_stage(run, place(), Stage::Points, &points);
        write_stage(run, place(), Stage::Judgments, &judgments);
    }
}

#[test]
fn a_run_gives_its_table() {
    let run = tempfile::tempdir().unwrap();
    write_run(run.path(), 0.5);
    let reader = RunReader::open(run.path()).unwrap();
    let measurements = measure(&reader, LengthUnit::Characters, 5.0).unwrap();
    let names: Vec<&str> = measurements.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["seed", "sft", "M1", "M2"], "M3 is not evaluated yet");
    assert_eq!(measurements.base, 1);
    for model in &measurements.models {
        assert_eq!((model.points.len(), model.lengths.len(), model.points.prompts()), (60, 60, 20));
        assert_eq!((model.scores.len(), model.judged.len(), model.unreadable), (120, 60, 60));
        assert!(model.lengths.values().all(|length| *length == 12.0), "letters, not bytes");
        assert!(model.judged.values().all(|(judge, oracle)| *judge == oracle + 0.5), "points of sft's answers");
    }
    let table = main_table(&measurements, &Bootstrap::default());
    let points = table.column("points").unwrap();
    assert_eq!(table.rows[3].changes[points].unwrap().value, 1.0);
    assert_eq!(table.rows[0].changes[points].unwrap().value, 0.0);
    assert!(in_words(&table).contains("Oracle points: 1.50 for sft, 2.50 for M2. Higher"), "{}", in_words(&table));
}

#[test]
fn lengths_in_other_units() {
    let run = tempfile::tempdir().unwrap();
    write_run(run.path(), 0.0);
    let reader = RunReader::open(run.path()).unwrap();
    for (unit, length) in [(LengthUnit::Words, 2.0), (LengthUnit::Tokens, 5.0)] {
        let measurements = measure(&reader, unit, 5.0).unwrap();
        assert!(measurements.models.iter().all(|model| model.lengths.values().all(|value| *value == length)));
        let table = main_table(&measurements, &Bootstrap { draws: 100, ..Bootstrap::default() });
        assert!(table.to_text().contains(unit.name()));
        // Nothing changed, and nothing is claimed.
        assert!(!in_words(&table).contains("leaves zero out"), "{}", in_words(&table));
    }
}

#[test]
fn a_run_without_evaluation_has_no_models() {
    let run = tempfile::tempdir().unwrap();
    write_run(run.path(), 0.0);
    fs::remove_dir_all(run.path().join("evaluation")).unwrap();
    let measurements = measure(&RunReader::open(run.path()).unwrap(), LengthUnit::Characters, 5.0).unwrap();
    assert!(measurements.models.is_empty());
    assert!(in_words(&main_table(&measurements, &Bootstrap::default())).contains("nothing to compare"));
}

#[test]
fn a_broken_shard_is_an_error_that_names_the_file() {
    let run = tempfile::tempdir().unwrap();
    write_run(run.path(), 0.0);
    fs::write(run.path().join("evaluation/M1/points/00001.jsonl"), "{\n").unwrap();
    let error = measure(&RunReader::open(run.path()).unwrap(), LengthUnit::Characters, 5.0).unwrap_err();
    assert!(error.to_string().contains("M1/points/00001.jsonl"), "{error}");
}
