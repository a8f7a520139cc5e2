//! `metareward eval` on files that are written here, on the public AlpacaEval data where they are, and on a run folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use metareward_api::{Finish, Judgment, ModelCard, PromptId, Response, Scale, Unreadable, Verdict, Winner};
use metareward_runtime::{
    Config, Fingerprint, Model, Place, Points, RunRecord, ShardRecord, Stage, StageRecord, Statistics,
};
use metareward_tests::{metareward, shared_data, text};
use serde::Serialize;
use serde_json::{Value, json};

/// The reports that a command prints with `--json`.
fn reports<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Vec<Value> {
    let output = metareward(["--json", "eval"]).args(arguments).output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{out}{messages}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one report that a command prints with `--json`.
fn report<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Value {
    let mut all = reports(arguments);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// What a command prints for people.
fn words<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> String {
    let output = metareward(["eval"]).args(arguments).output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{out}{messages}");
    out
}

/// Ends with 2 and says all of `parts`.
fn refuses<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>, parts: &[&str]) {
    let output = metareward(["eval"]).args(arguments).output().unwrap();
    let (out, messages) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(out.is_empty(), "{out}");
    for part in parts {
        assert!(messages.contains(part), "{part:?} is not in\n{messages}");
    }
}

#[track_caller]
fn assert_near(found: &Value, expected: f64, tolerance: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() < tolerance, "{found} {expected}");
}

/// Writes JSON lines.
fn lines(folder: &Path, name: &str, records: &[Value]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
    path
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Annotations of one model, each a preference and the lengths of both outputs.
fn annotations(folder: &Path, model: &str, records: &[(Value, usize, usize)]) -> PathBuf {
    let record = |(number, (preference, baseline, length)): (usize, &(Value, usize, usize))| {
        json!({
            "instruction": format!("question {number}"), "output_1": "b".repeat(*baseline), "output_2": "m".repeat(*length),
            "generator_1": "base", "generator_2": model, "annotator": "someone", "preference": preference,
        })
    };
    let all: Vec<Value> = records.iter().enumerate().map(record).collect();
    lines(folder, &format!("{model}.jsonl"), &all)
}

#[test]
fn alpaca_counts_and_fits() {
    let scratch = tempfile::tempdir().unwrap();
    // Longer outputs win more often, and both lengths and choices vary: there is a fit.
    let records: Vec<(Value, usize, usize)> = (0..24)
        .map(|number| {
            let longer = number % 3 != 0;
            let wins = if number % 5 == 0 { !longer } else { longer };
            (json!(if wins { 2.0 } else { 1.0 }), 20, if longer { 30 + number } else { 10 + number % 7 })
        })
        .collect();
    let wins = records.iter().filter(|record| record.0 == json!(2.0)).count();
    let file = annotations(scratch.path(), "mine", &records);
    let arguments = ["alpaca", "--annotations", path(&file), "--fit", "none", "--fit", "l2=1", "--rounds", "40"];
    let found = report(arguments);
    assert_eq!(
        (&found["model"], &found["baseline"], &found["annotator"]),
        (&json!("mine"), &json!("base"), &json!("someone"))
    );
    assert_eq!((&found["raw"]["wins"], &found["raw"]["losses"]), (&json!(wins), &json!(24 - wins)));
    assert_near(&found["raw"]["win_rate"]["value"], wins as f64 / 24.0, 1e-12);
    assert!(found["raw"]["win_rate"]["interval"]["low"].as_f64().unwrap() < wins as f64 / 24.0);
    assert_eq!(found["bootstrap"]["draws"], 40);
    let fits = found["length_controlled"].as_array().unwrap();
    assert_eq!(fits.len(), 2);
    let length = |place: usize| fits[place]["weights"]["length"].as_f64().unwrap();
    assert!(length(0) < length(1) && length(1) < 0.0, "longer is better, and a penalty holds that back: {found}");
    assert!(fits[0]["win_rate"]["value"].as_f64().unwrap() < wins as f64 / 24.0, "at equal lengths less is left");
    assert_eq!(found, report(arguments), "the same seed gives the same intervals");
    let said = words(arguments);
    assert!(
        said.contains("mine against base, judged by someone") && said.contains("L2 penalty of strength 1"),
        "{said}"
    );
}

#[test]
fn alpaca_takes_several_files_in_one_order() {
    let scratch = tempfile::tempdir().unwrap();
    let records = [(json!(2), 4, 5), (json!(1), 4, 5), (json!(1.5), 4, 6)];
    let one = annotations(scratch.path(), "one", &records);
    let two = annotations(scratch.path(), "two", &[(json!(1), 4, 5), (json!(1), 4, 5), (json!(1.25), 4, 6)]);
    let short = annotations(scratch.path(), "short", &records[..2]);
    let found = reports(["alpaca", "--rounds", "0", "--annotations", path(&one), path(&two)]);
    assert_eq!(found.len(), 2);
    assert_near(&found[0]["raw"]["win_rate"]["value"], 0.5, 1e-12);
    assert_near(&found[1]["raw"]["win_rate"]["value"], 0.25 / 3.0, 1e-12);
    assert_eq!((&found[1]["model"], &found[1]["raw"]["win_rate"]["interval"]), (&json!("two"), &Value::Null));
    let named = reports(["alpaca", "--annotations", path(&one), path(&two), "--name", "first", "--name", "second"]);
    assert_eq!((&named[0]["model"], &named[1]["model"]), (&json!("first"), &json!("second")));
    refuses(
        ["alpaca", "--annotations", path(&one), path(&short)],
        &["short.jsonl", "2", "3", "do not belong together"],
    );
    refuses(["alpaca", "--annotations", path(&one), path(&two), "--name", "x"], &["--name", "one name for each file"]);
}

#[test]
fn alpaca_lets_through_only_what_is_allowed() {
    let scratch = tempfile::tempdir().unwrap();
    let missing = annotations(scratch.path(), "missing", &[(json!(2), 4, 5), (Value::Null, 4, 5)]);
    refuses(["alpaca", "--annotations", path(&missing)], &["missing.jsonl, record 2", "--allow-missing"]);
    let found = report(["alpaca", "--annotations", path(&missing), "--allow-missing"]);
    assert_eq!((&found["raw"]["win_rate"]["n"], &found["raw"]["without_preference"]), (&json!(1), &json!(1)));
    let empty = annotations(scratch.path(), "empty", &[(json!(2), 4, 5), (json!(1), 4, 0)]);
    refuses(["alpaca", "--annotations", path(&empty)], &["empty.jsonl, record 2", "--allow-empty"]);
    let found = report(["alpaca", "--annotations", path(&empty), "--allow-empty"]);
    assert_eq!(found["raw"]["win_rate"]["n"], 2);
    refuses(
        ["alpaca", "--annotations", path(&scratch.path().join("nowhere.json"))],
        &["nowhere.json", "cannot be read"],
    );
    refuses(["alpaca", "--annotations", path(&empty), "--difficulties", "d.csv"], &["--weights", "--fit"]);
    refuses(["alpaca", "--annotations", path(&empty), "--fit", "l3=1"], &["l1=S"]);
    refuses(["alpaca", "--annotations", path(&empty), "--fit", "l1=-1"], &["a number from 0"]);
    // An error is JSON as well, for programs.
    let output = metareward(["--json", "eval", "alpaca", "--annotations", path(&missing)]).output().unwrap();
    let error: Value = serde_json::from_str(&text(&output).0).unwrap();
    assert_eq!(error["exit_code"], 2);
}

#[test]
fn alpaca_on_the_public_data_is_the_leaderboard() {
    let Some(folder) = shared_data().map(|data| data.join("alpaca_eval")).filter(|folder| folder.is_dir()) else {
        println!("skipped: the public AlpacaEval data are not there");
        return;
    };
    // One of the files does not name its model as the leaderboard does.
    let models = ["FuseChat-Llama-3.1-8B-Instruct", "NullModel", "gpt-3.5-turbo-1106"];
    let mut arguments: Vec<String> = ["alpaca", "--rounds", "20", "--annotations"].map(str::to_owned).to_vec();
    arguments.extend(models.map(|model| path(&folder.join(format!("annotations_{model}.json"))).to_owned()));
    for (option, file) in [
        ("--weights", "glm_weights.csv"),
        ("--difficulties", "instruction_difficulty.csv"),
        ("--leaderboard", "leaderboard.csv"),
    ] {
        arguments.extend([option.to_owned(), path(&folder.join(file)).to_owned()]);
    }
    refuses(&arguments, &["`example` is not in", "--name"]);
    arguments.extend(models.iter().flat_map(|model| ["--name".to_owned(), (*model).to_owned()]));
    let found = reports(&arguments);
    assert_eq!(found.len(), 3);
    // The published weights do not give NullModel's published figure, as for ten models of 199.
    for ((report, model), tolerance) in found.iter().zip(models).zip([1e-5, 1.4e-3, 1e-5]) {
        let (raw, published) = (&report["raw"], &report["published"]);
        let share = |name: &str| published[name].as_f64().unwrap() / 100.0;
        assert_eq!(report["model"], model);
        assert_near(&raw["win_rate"]["value"], share("win_rate"), 1e-8);
        assert_near(&raw["standard_error"], share("standard_error"), 1e-8);
        assert_near(&raw["discrete_win_rate"]["value"], share("discrete_win_rate"), 1e-8);
        for (ours, theirs) in [("wins", "n_wins"), ("losses", "n_wins_base"), ("draws", "n_draws")] {
            assert_eq!(raw[ours], published[theirs], "{model} {ours}");
        }
        assert_eq!(report["length_controlled"][0]["method"]["from"], "given");
        assert_near(
            &report["length_controlled"][0]["win_rate"]["value"],
            share("length_controlled_winrate"),
            tolerance,
        );
    }
    let said = words(&arguments);
    assert_eq!(said.matches("points from the leaderboard's").count(), 3, "{said}");
}

#[test]
fn arena_scores_both_orders() {
    let scratch = tempfile::tempdir().unwrap();
    let judged = |question: u32, model: &str, first: &str, second: &str| {
        json!({
            "question_id": question, "model": model, "judge": "j",
            "games": [{ "score": first }, { "score": second }],
        })
    };
    // The anchor is A in the first game of each, and B in the second.
    let judgments = [
        judged(1, "strong", "B>>A", "A>B"),
        judged(2, "strong", "A>B", "A=B"),
        judged(1, "weak", "A>B", "B>A"),
        judged(2, "weak", "B>A", "B>A"),
    ];
    let judgments = lines(scratch.path(), "judgments.jsonl", &judgments);
    let answers = ["strong", "weak"].map(|model| {
        json!({ "question_id": 1, "model_id": model, "choices": [{ "turns": [{ "content": format!("{model} answer") }] }] })
    });
    let answers = lines(scratch.path(), "answers.jsonl", &answers);
    let files = ["arena", "--judgments", path(&judgments), "--answers", path(&answers)];
    let with =
        |more: &[&'static str]| report(files.into_iter().chain(["--anchor", "base"]).chain(more.iter().copied()));
    for version in ["0.1", "2.0"] {
        let found = with(&["--statistic", version]);
        let rows = found["rows"].as_array().unwrap();
        assert_eq!((&rows[0]["model"], &rows[1]["model"]), (&json!("strong"), &json!("weak")));
        // Of `strong` a strong win that counts three times, a win, a loss and a tie; of `weak` one win of four.
        assert_near(&rows[0]["score"]["value"], 4.5 / 6.0, 1e-9);
        assert_near(&rows[1]["score"]["value"], 0.25, 1e-9);
        assert_eq!(rows[0]["length"]["value"], 13.0);
        assert_eq!(found["options"]["bootstrap"]["level"], if version == "0.1" { 0.95 } else { 0.9 });
    }
    let found = with(&["--strong-weight", "1", "--draw", "questions", "--rounds", "30", "--seed", "9"]);
    assert_near(&found["rows"][0]["score"]["value"], 2.5 / 4.0, 1e-9);
    assert_eq!((&found["options"]["draws"], &found["options"]["bootstrap"]["seed"]), (&json!("questions"), &json!(9)));
    assert!(words(files.into_iter().chain(["--anchor", "base"])).contains("against base, judged by j"));
    refuses(files, &["--anchor"]);
}

#[test]
fn mt_bench_rates_turns_and_categories() {
    let scratch = tempfile::tempdir().unwrap();
    let rated = |question: u32, turn: u32, score: f64, said: &str| {
        json!({
            "question_id": question, "model": "m", "turn": turn, "score": score, "judgment": said,
        })
    };
    let ratings = [rated(81, 1, 8.0, ""), rated(81, 2, 6.0, ""), rated(82, 1, 9.0, ""), rated(82, 2, -1.0, "none")];
    let ratings = lines(scratch.path(), "ratings.jsonl", &ratings);
    let questions =
        [81, 82].map(|id| json!({ "question_id": id, "category": if id == 81 { "writing" } else { "math" } }));
    let questions = lines(scratch.path(), "questions.jsonl", &questions);
    let found = report(["mt-bench", "--ratings", path(&ratings), "--questions", path(&questions)]);
    let row = &found["rows"][0];
    assert_near(&row["mean"]["value"], 23.0 / 3.0, 1e-12);
    assert_eq!((&row["turns"][0]["value"], &row["turns"][1]["value"]), (&json!(8.5), &json!(6.0)));
    assert_eq!(
        (&row["categories"]["writing"]["value"], &row["categories"]["math"]["value"]),
        (&json!(7.0), &json!(9.0))
    );
    assert_eq!(row["unread"]["missing"], 1);
    let said = words(["mt-bench", "--ratings", path(&ratings)]);
    assert!(said.contains("m: 7.667") && !said.contains("math"), "{said}");
}

#[test]
fn pairwise_counts_both_orders() {
    let scratch = tempfile::tempdir().unwrap();
    let pair = |number: usize, model_first: Value, baseline_first: Value| {
        json!({
            "prompt": format!("p{number}"), "model_output": "m".repeat(5 + number), "baseline_output": "b".repeat(9),
            "model_first": model_first, "baseline_first": baseline_first,
        })
    };
    let (first, second) = (json!("first"), json!("second"));
    let pairs = [
        pair(1, first.clone(), second.clone()),
        pair(2, first.clone(), first.clone()),
        pair(3, second.clone(), first.clone()),
        pair(4, first, Value::Null),
    ];
    let file = lines(scratch.path(), "pairs.jsonl", &pairs);
    let arguments = [
        "pairwise",
        "--pairs",
        path(&file),
        "--model",
        "M2",
        "--baseline",
        "M1",
        "--fit",
        "l2=1",
        "--judge-name",
        "me",
    ];
    let found = report(arguments);
    assert_near(&found["win_rate"]["value"], 2.5 / 4.0, 1e-12);
    assert_near(&found["strict_win_rate"]["value"], 0.5, 1e-12);
    assert_eq!((&found["strict"], &found["inconsistent"], &found["unread"]), (&json!([1, 1, 1]), &json!(1), &json!(1)));
    assert_eq!(found["length_controlled"]["method"]["penalty"], json!({ "kind": "l2", "strength": 1.0 }));
    assert!(words(arguments).contains("M2 against M1, judged by me in both orders"));
    fs::write(&file, "{\"prompt\": \"p\", \"model\": \"M2\"}\n").unwrap();
    refuses(["pairwise", "--pairs", path(&file)], &["pairs.jsonl, record 1", "unknown field `model`"]);
}

#[test]
fn judge_agrees_on_pairs_and_scores() {
    let scratch = tempfile::tempdir().unwrap();
    let pair = |number: u32, judge: &str, reference: &str| {
        json!({
            "prompt": format!("p{number}"), "judge": judge, "reference": reference,
        })
    };
    let pairs =
        [pair(1, "first", "first"), pair(2, "second", "first"), pair(3, "tie", "first"), pair(4, "first", "tie")];
    let pairs = lines(scratch.path(), "pairs.jsonl", &pairs);
    let found = report(["judge", "--pairs", path(&pairs), "--judge-name", "mine", "--reference", "people"]);
    let sets = found["pairs"].as_array().unwrap();
    assert_eq!((&sets[0]["chosen_by"], &sets[1]["chosen_by"]), (&json!("reference"), &json!("judge")));
    assert_near(&sets[0]["ties_half"]["value"], 0.5, 1e-12);
    assert_near(&sets[1]["without_ties"]["value"], 0.5, 1e-12);
    let found = report(["judge", "--pairs", path(&pairs), "--chosen-by", "judge"]);
    assert_eq!((found["pairs"].as_array().unwrap().len(), &found["pairs"][0]["chosen_by"]), (1, &json!("judge")));

    let score =
        |prompt: &str, judge: f64, reference: f64| json!({ "prompt": prompt, "judge": judge, "reference": reference });
    let scores = [score("p", 1.0, 1.0), score("p", 3.0, 4.0), score("q", 4.0, 5.0), score("q", 2.0, 3.0)];
    let scores = lines(scratch.path(), "scores.jsonl", &scores);
    let found = report(["judge", "--scores", path(&scores)]);
    assert_near(&found["spearman"]["value"], 1.0, 1e-12);
    assert_near(&found["kendall"]["value"], 1.0, 1e-12);
    assert_near(&found["pairs"][1]["ties_half"]["value"], 1.0, 1e-12);
    assert!(words(["judge", "--scores", path(&scores), "--judge-name", "mine"]).contains("mine against reference"));
    refuses(["judge"], &["--scores", "--pairs", "--run"]);
    refuses(["judge", "--scores", path(&scores), "--pairs", path(&pairs)], &["cannot be used with"]);
}

#[test]
fn bias_is_split_by_scores_and_lengths() {
    let scratch = tempfile::tempdir().unwrap();
    let shown = |number: u32, choice: Value, scores: [f64; 2], lengths: [u32; 2]| {
        json!({
            "prompt": format!("p{number}"), "choice": choice, "scores": scores, "lengths": lengths,
        })
    };
    let verdicts = [
        shown(1, json!("first"), [4.0, 4.0], [10, 20]),
        shown(2, json!("first"), [4.0, 4.0], [20, 10]),
        shown(3, json!("second"), [3.0, 4.0], [10, 20]),
        shown(4, json!("first"), [3.0, 4.0], [20, 10]),
        shown(5, Value::Null, [3.0, 4.0], [20, 10]),
    ];
    let verdicts = lines(scratch.path(), "verdicts.jsonl", &verdicts);
    let scores = [
        json!({ "prompt": "p", "score": 5, "length": 40 }),
        json!({ "prompt": "p", "score": 3, "length": 10 }),
        json!({ "prompt": "q", "score": 4, "length": 20 }),
        json!({ "prompt": "q", "score": null }),
    ];
    let scores = lines(scratch.path(), "scores.jsonl", &scores);
    let found = report(["bias", "--verdicts", path(&verdicts), "--scores", path(&scores), "--judge-name", "mine"]);
    assert_near(&found["position"]["first_equal"]["value"], 1.0, 1e-12);
    assert_near(&found["position"]["first_different"]["value"], 0.5, 1e-12);
    assert_near(&found["length"]["longer_wins"]["value"], 0.75, 1e-12);
    assert_near(&found["saturation"]["mean"]["value"], 4.0, 1e-12);
    assert_near(&found["saturation"]["full"]["value"], 1.0 / 3.0, 1e-12);
    assert_near(&found["saturation"]["length_correlation"]["value"], 1.0, 1e-12);
    assert_near(&found["failures"]["rate"]["value"], 2.0 / 9.0, 1e-12);
    // Each half alone.
    let found = report(["bias", "--scores", path(&scores), "--full-points", "4"]);
    assert_eq!((&found["position"], &found["length"]), (&Value::Null, &Value::Null));
    assert_near(&found["saturation"]["full"]["value"], 2.0 / 3.0, 1e-12);
    let said = words(["bias", "--verdicts", path(&verdicts), "--length-unit", "words"]);
    assert!(said.contains("judge as a judge") && said.contains("words more") && !said.contains("mean score"), "{said}");
    let broken = lines(scratch.path(), "broken.jsonl", &[json!({ "prompt": "p", "score": 1, "length": -1 })]);
    refuses(["bias", "--scores", path(&broken)], &["broken.jsonl, record 1", "negative"]);
    refuses(["bias"], &["--verdicts", "--scores", "--run"]);
}

fn write_stage<T: Serialize>(run: &Path, place: Place, stage: Stage, records: &[T]) {
    let folder = run.join(place.folder()).join(stage.name());
    fs::create_dir_all(&folder).unwrap();
    let text: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    fs::write(folder.join("00000.jsonl"), &text).unwrap();
    let blake3 = Fingerprint::of_bytes(text.as_bytes());
    let records = records.len() as u64;
    let shards = vec![ShardRecord { file: "00000.jsonl".into(), fingerprint: blake3.clone(), blake3, records }];
    let fingerprint = Fingerprint::of_bytes(b"stage");
    let record = StageRecord { format: 1, place, stage, fingerprint, shards, records, statistics: Statistics::Records };
    fs::write(folder.join("stage.json"), serde_json::to_string(&record).unwrap()).unwrap();
}

fn response(prompt: &str, draw: u32, letters: usize) -> Response {
    Response {
        prompt: PromptId(prompt.into()),
        draw,
        model: "sft".into(),
        text: "r".repeat(letters),
        tokens: 1,
        finish: Finish::EndOfTurn,
        duplicate_of: None,
    }
}

fn judgment(prompt: &str, response: u32, draw: u32, score: Option<f64>, letters: usize) -> Judgment {
    Judgment {
        prompt: PromptId(prompt.into()),
        response,
        draw,
        opponent: None,
        shown: None,
        model: "sft".into(),
        text: "j".repeat(letters),
        tokens: 1,
        finish: Finish::EndOfTurn,
        score,
        unreadable: score.is_none().then_some(Unreadable::Missing),
    }
}

fn verdict(prompt: &str, first: u32, second: u32, winner: Option<Winner>) -> Verdict {
    Verdict {
        prompt: PromptId(prompt.into()),
        response: 0,
        first,
        second,
        model: "sft".into(),
        text: String::new(),
        tokens: 1,
        finish: Finish::EndOfTurn,
        winner,
        unreadable: winner.is_none().then_some(Unreadable::Contradiction),
    }
}

/// A run of one iteration: two prompts, of one response three judgments that meet, and the first model evaluated as a judge
/// where `evaluated`.
fn write_run(run: &Path, evaluated: bool) {
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
        config: Config { iterations: 1, ..Config::default() },
        plugins: Vec::new(),
        rubric_scale: Some(Scale { min: 0.0, max: 5.0 }),
        plugin_changes: Vec::new(),
        model,
        card,
        base_model: "sft".into(),
        machine: BTreeMap::new(),
    };
    fs::write(run.join("run.json"), serde_json::to_string(&record).unwrap()).unwrap();
    let place = || Place::Iteration(1);
    write_stage(run, place(), Stage::Responses, &[response("p", 0, 10), response("p", 1, 30), response("q", 0, 20)]);
    let judgments = [
        judgment("p", 0, 0, Some(3.0), 7),
        judgment("p", 0, 1, Some(3.0), 5),
        judgment("p", 0, 2, Some(4.0), 9),
        judgment("p", 1, 0, Some(5.0), 1),
        judgment("q", 0, 0, None, 1),
    ];
    write_stage(run, place(), Stage::Judgments, &judgments);
    let verdicts = [
        verdict("p", 0, 1, Some(Winner::First)),
        verdict("p", 1, 0, Some(Winner::First)),
        verdict("p", 0, 2, Some(Winner::Second)),
        verdict("p", 2, 0, None),
    ];
    write_stage(run, place(), Stage::Verdicts, &verdicts);
    if evaluated {
        let place = || Place::Evaluation("sft".to_string());
        write_stage(run, place(), Stage::Responses, &[response("h", 0, 5), response("h", 1, 5), response("h", 2, 5)]);
        let points = [1.0, 2.0, 3.0].into_iter().zip(0..);
        let points: Vec<Points> =
            points.map(|(points, response)| Points { prompt: PromptId("h".into()), response, points }).collect();
        write_stage(run, place(), Stage::Points, &points);
        let judgments = [4.0, 3.0, 5.0].into_iter().zip(0..);
        let judgments: Vec<Judgment> =
            judgments.map(|(score, response)| judgment("h", response, 0, Some(score), 1)).collect();
        write_stage(run, place(), Stage::Judgments, &judgments);
    }
}

#[test]
fn a_run_gives_its_judges() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path();
    write_run(run, true);
    let found = report(["judge", "--run", path(run)]);
    assert_eq!((&found["judge"], &found["reference"]), (&json!("sft"), &json!("oracle")));
    // Ranks 2, 1, 3 against 1, 2, 3.
    assert_near(&found["spearman"]["value"], 0.5, 1e-12);
    // The oracle's pair is the third answer and the first one, the judge's the third and the second: they agree on both.
    assert_near(&found["pairs"][0]["ties_half"]["value"], 1.0, 1e-12);
    assert_near(&found["pairs"][1]["ties_half"]["value"], 1.0, 1e-12);

    let found = report(["bias", "--run", path(run)]);
    assert_eq!(found["judge"], "sft");
    assert_near(&found["position"]["first_equal"]["value"], 1.0, 1e-12);
    assert_near(&found["position"]["higher_wins"]["value"], 1.0, 1e-12);
    // The longer judgment wins the first and the third match.
    assert_near(&found["length"]["longer_wins"]["value"], 2.0 / 3.0, 1e-12);
    assert_eq!(found["saturation"]["histogram"]["counts"], json!([[3.0, 2], [4.0, 1], [5.0, 1]]));
    assert_near(&found["saturation"]["full"]["value"], 0.25, 1e-12);
    assert!(found["saturation"]["length_correlation"]["value"].as_f64().unwrap() > 0.5);
    assert_near(&found["failures"]["rate"]["value"], 2.0 / 9.0, 1e-12);
    let reasons = json!({ "judgment: no closing line": 1, "verdict: contradicting closing lines": 1 });
    assert_eq!(found["failures"]["reasons"], reasons);
    refuses(["bias", "--run", path(&run.join("nowhere"))], &["nowhere"]);
}

#[test]
fn a_run_without_an_oracle_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    write_run(scratch.path(), false);
    refuses(["judge", "--run", path(scratch.path())], &["oracle", "evaluation.judge_prompts"]);
    fs::remove_dir_all(scratch.path().join("iteration-1")).unwrap();
    refuses(["bias", "--run", path(scratch.path())], &["no iteration has been judged yet"]);
}
