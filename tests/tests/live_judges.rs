//! `metareward eval` with a judge that is asked: a scripted server, with and without faults before it, and a model folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../core/remote/tests/support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../../core/remote/tests/support/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "../../core/remote/tests/support/scripted.rs"]
#[allow(dead_code)]
mod scripted;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use metareward_tests::{metareward, root, text};
use proxy::{Proxy, all_kinds};
use scripted::Scripted;
use serde_json::{Value, json};

/// What ends with success prints one report with `--json`.
fn report(arguments: &[&str]) -> Value {
    let output = metareward(["--json", "eval"]).args(arguments).output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{out}{messages}");
    serde_json::from_str(out.trim()).unwrap()
}

/// What fails, with its exit code and message.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = metareward(["eval"]).args(arguments).output().unwrap();
    (output.status.code(), text(&output).1)
}

fn lines(folder: &Path, name: &str, records: &[Value]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
    path
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What stands between two tags of a question.
fn between<'a>(question: &'a str, tag: &str) -> Option<&'a str> {
    let start = question.find(&format!("<{tag}>"))?;
    let end = question[start..].find(&format!("</{tag}>"))? + start;
    Some(&question[start..end])
}

/// A judge that likes "good": it compares, or rates 9 and 4.
fn likes_good(body: &Value) -> Option<String> {
    let question = body["messages"][0]["content"].as_str()?;
    let good = |tag: &str| between(question, tag).is_some_and(|answer| answer.contains("good"));
    let five = question.contains("[[A>>B]]");
    Some(match between(question, "answer-A") {
        Some(_) => match (good("answer-A"), good("answer-B")) {
            (true, false) if five => "mine is …\n[[A>>B]]".to_owned(),
            (false, true) if five => "mine is …\n[[B>>A]]".to_owned(),
            _ if five => "[[A=B]]".to_owned(),
            (true, false) => "the first\n[[A]]".to_owned(),
            (false, true) => "the second\n[[B]]".to_owned(),
            _ => "[[C]]".to_owned(),
        },
        None if good("answer") || good("second-answer") => "well\nRating: [[9]]".to_owned(),
        None => "hm\nRating: [[4]]".to_owned(),
    })
}

fn pairs(folder: &Path) -> PathBuf {
    // The model is good at two of three, and once they are alike.
    let pair = |number: usize| {
        let (model, baseline) = match number % 4 {
            0 | 1 => ("good", "bad"),
            2 => ("bad", "good"),
            _ => ("alike", "alike"),
        };
        json!({"prompt": format!("p{number}"), "model_output": format!("{model} {number}"), "baseline_output": baseline})
    };
    lines(folder, "pairs.jsonl", &(0..12).map(pair).collect::<Vec<_>>())
}

/// What the pairs come to.
fn check_pairs(found: &Value) {
    assert_eq!((&found["strict"], &found["inconsistent"], &found["unread"]), (&json!([6, 3, 3]), &json!(0), &json!(0)));
    assert!((found["win_rate"]["value"].as_f64().unwrap() - 7.5 / 12.0).abs() < 1e-12);
}

#[test]
fn pairs_are_judged_through_every_fault_and_again_from_the_cache() {
    let scratch = tempfile::tempdir().unwrap();
    let (pairs, cache, kept) = (pairs(scratch.path()), scratch.path().join("cache"), scratch.path().join("kept.jsonl"));
    let server = Scripted::start(likes_good);
    let proxy = Proxy::before(server.port, all_kinds(Duration::from_millis(1500)));
    let judge = format!("openai:http://127.0.0.1:{}", proxy.port);
    let common = ["pairwise", "--pairs", word(&pairs), "--fit", "l2=1", "--judge", &judge, "--judge-model", "scripted"];
    let with_faults =
        [&common[..], &["--timeout", "1", "--retries", "8", "--cache", word(&cache), "--output", word(&kept)]].concat();
    let found = report(&with_faults);
    check_pairs(&found);
    let asked = &found["asked"];
    assert_eq!((&asked["questions"], &asked["answered"], &asked["known"]), (&json!(24), &json!(24), &json!(0)));
    for fault in
        ["no answer in time", "server busy", "server error", "cut connection", "not JSON", "wrong shape", "wrong model"]
    {
        assert!(asked["faults"][fault].as_u64() > Some(0), "{fault}: {asked}");
    }
    // The table again, without a server and without a call.
    drop((proxy, server));
    let again = report(&with_faults);
    check_pairs(&again);
    assert_eq!((&again["asked"]["known"], &again["asked"]["sent"]), (&json!(24), &json!(0)));
    // And from what was kept, without a judge.
    let kept = report(&["pairwise", "--pairs", word(&kept), "--fit", "l2=1", "--judge-name", "scripted"]);
    check_pairs(&kept);
    for field in ["win_rate", "strict_win_rate", "length_controlled", "first_wins"] {
        assert_eq!((&found[field], &found[field]), (&kept[field], &again[field]), "{field}");
    }
}

#[test]
fn what_fails_is_counted_and_named() {
    let scratch = tempfile::tempdir().unwrap();
    let pairs = pairs(scratch.path());
    // One question is never answered, and one answer holds no verdict.
    let server = Scripted::start(|body| {
        let question = body["messages"][0]["content"].as_str()?;
        let unread = between(question, "question").is_some_and(|text| text.contains("p5"));
        let lost = between(question, "answer-A").is_some_and(|text| text.contains("good 4"));
        if lost {
            None
        } else if unread {
            Some("I cannot say.".to_owned())
        } else {
            likes_good(body)
        }
    });
    let judge = server.address();
    let arguments = ["pairwise", "--pairs", word(&pairs), "--fit", "l2=1", "--judge", &judge, "--retries", "1"];
    let found = report(&arguments);
    let asked = &found["asked"];
    assert_eq!((&found["unread"], &asked["answered"]), (&json!(3), &json!(23)));
    assert_eq!(asked["unread"], json!({"no verdict in double square brackets": 2}));
    let lost = &asked["failed"][0];
    assert!(lost["question"].as_str().unwrap().ends_with("pairs.jsonl, record 5, model first"), "{lost}");
    assert!(lost["why"].as_str().unwrap().contains("the connection was cut"), "{lost}");
    let output = metareward(["eval"]).args(arguments).output().unwrap();
    let (out, _) = text(&output);
    for part in ["asked scripted for 24 judgments: 23 made", "not made: 1", "without a verdict: 2", "tried 2 times"] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
}

#[test]
fn a_judge_that_is_not_there_ends_in_a_message() {
    let scratch = tempfile::tempdir().unwrap();
    let pairs = pairs(scratch.path());
    let port = Scripted::start(likes_good).port;
    let judge = format!("openai:http://127.0.0.1:{port}");
    let common = ["pairwise", "--pairs", word(&pairs), "--judge", &judge, "--patience", "0.5"];
    let (code, message) = refused(&common);
    assert!(code == Some(1) && message.contains("no connection") && message.contains("--judge-model"), "{message}");
    let (code, message) = refused(&[&common[..], &["--judge-model", "m"]].concat());
    assert!(code == Some(1) && message.contains("none of 24 questions was answered"), "{message}");
    for (arguments, part) in [
        (vec!["--judge", "openai:nowhere"], "no URL"),
        (vec!["--judge", "gpt-4"], "no such model folder, and no server's address"),
        (vec!["--judge", "openai:http://me:secret@host"], "keys have a place of their own"),
        (vec!["--cache", "somewhere"], "--judge"),
        (vec!["--judge", &judge, "--judge-key-file", "missing"], "missing cannot be read"),
        (vec!["--judge", &judge, "--timeout", "0"], "--timeout is 0"),
    ] {
        let (code, message) = refused(&[&["pairwise", "--pairs", word(&pairs)][..], &arguments].concat());
        assert!(
            code == Some(2) && message.contains(part) && !message.contains("secret"),
            "{part:?}: {code:?} {message}"
        );
    }
}

#[test]
fn keys_are_sent_and_never_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let (pairs, cache, kept) = (pairs(scratch.path()), scratch.path().join("cache"), scratch.path().join("kept.jsonl"));
    let server = Scripted::start(likes_good);
    let judge = server.address();
    let arguments = [
        "--json",
        "eval",
        "pairwise",
        "--pairs",
        word(&pairs),
        "--judge",
        &judge,
        "--cache",
        word(&cache),
        "-o",
        word(&kept),
        "--judge-key-variable",
        "MY_KEY",
    ];
    let output = metareward(arguments).env("MY_KEY", "sk-very-secret").env("RUST_LOG", "trace").output().unwrap();
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(server.keys().iter().all(|key| key.as_deref() == Some("Bearer sk-very-secret")));
    let kept = fs::read_to_string(&kept).unwrap() + &fs::read_to_string(cache.join("answers.jsonl")).unwrap();
    assert!(!(out + &messages + &kept).contains("very-secret"));
    // A key for one thing is not sent to another unasked.
    metareward(&arguments[..6]).args([&judge]).env("OPENAI_API_KEY", "sk-other").output().unwrap();
    assert!(server.keys().iter().all(|key| key.as_deref() != Some("Bearer sk-other")));
}

#[test]
fn benchmarks_are_annotated_in_the_public_form() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let server = Scripted::start(likes_good);
    let judge = server.address();
    let kept = folder.join("kept.jsonl");
    let judged = ["--judge", &judge, "--output", word(&kept)];

    // AlpacaEval: wins one, draws one, loses none.
    let outputs = |name: &str, words: [&str; 2]| {
        let record =
            |number: usize| json!({"instruction": format!("i{number}"), "output": words[number], "generator": name});
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, json!([record(0), record(1)]).to_string()).unwrap();
        path
    };
    let (model, baseline) = (outputs("mine", ["good", "bad"]), outputs("base", ["bad", "bad"]));
    let live =
        report(&[&["alpaca", "--outputs", word(&model), "--baseline-outputs", word(&baseline)], &judged[..]].concat());
    assert_eq!((&live["model"], &live["baseline"]), (&json!("mine"), &json!("base")));
    let from_file = report(&["alpaca", "--annotations", word(&kept)]);
    assert_eq!(live["win_rate"], from_file["win_rate"]);
    assert_eq!((&live["asked"]["answered"], &from_file["asked"]), (&json!(4), &Value::Null));
    let annotation: Value = serde_json::from_str(fs::read_to_string(&kept).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!((&annotation["preference"], &annotation["generator_2"]), (&json!(2.0), &json!("mine")));

    // Arena-Hard.
    let question =
        |number: u32| json!({"question_id": format!("q{number}"), "category": "c", "turns": [{"content": "?"}]});
    let questions = lines(folder, "questions.jsonl", &[question(1), question(2)]);
    let answer = |model: &str, number: u32, text: &str| json!({"question_id": format!("q{number}"), "model_id": model, "choices": [{"turns": [{"content": text}]}]});
    let answers = lines(
        folder,
        "answers.jsonl",
        &[
            answer("anchor", 1, "bad"),
            answer("anchor", 2, "good"),
            answer("mine", 1, "good"),
            answer("mine", 2, "good"),
        ],
    );
    let public = ["--anchor", "anchor", "--statistic", "2.0", "--answers", word(&answers)];
    let live = report(&[&["arena", "--questions", word(&questions)], &public[..], &judged[..]].concat());
    let from_file = report(&[&["arena", "--judgments", word(&kept)], &public[..]].concat());
    assert_eq!(live["rows"], from_file["rows"]);
    let row = live["rows"].as_array().unwrap().iter().find(|row| row["model"] == "mine").unwrap();
    // Two strong wins, which count three times, and two ties.
    assert!((row["score"]["value"].as_f64().unwrap() - 7.0 / 8.0).abs() < 1e-12, "{row}");

    // MT-Bench.
    let questions =
        lines(folder, "mt.jsonl", &[json!({"question_id": 81, "category": "writing", "turns": ["one?", "two?"]})]);
    let answers = lines(
        folder,
        "mt-answers.jsonl",
        &[json!({"question_id": 81, "model_id": "mine", "choices": [{"turns": ["bad", "good"]}]})],
    );
    let live =
        report(&[&["mt-bench", "--questions", word(&questions), "--answers", word(&answers)], &judged[..]].concat());
    let turn = |turn: usize| live["rows"][0]["turns"][turn]["value"].as_f64().unwrap();
    assert_eq!((turn(0), turn(1)), (4.0, 9.0));
    let from_file = report(&["mt-bench", "--ratings", word(&kept), "--questions", word(&questions)]);
    assert_eq!(live["rows"], from_file["rows"]);
}

#[test]
fn judges_are_measured_against_a_reference_and_for_bias() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Scripted::start(likes_good);
    let judge = server.address();
    let pair = |number: u32, first: &str, second: &str, reference: &str| json!({"prompt": format!("p{number}"), "first": first, "second": second, "reference": reference});
    let pairs = [pair(1, "good", "bad", "first"), pair(2, "bad", "good", "second"), pair(3, "good", "bad", "second")];
    let pairs = lines(scratch.path(), "pairs.jsonl", &pairs);
    let found = report(&["judge", "--pairs", word(&pairs), "--judge", &judge]);
    assert!((found["pairs"][0]["without_ties"]["value"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-12, "{found}");
    let score = |number: u32, output: &str, reference: f64| json!({"prompt": format!("p{number}"), "output": output, "reference": reference});
    let scores = [score(1, "good", 5.0), score(1, "bad", 1.0), score(2, "bad", 2.0), score(2, "good", 4.0)];
    let scores = lines(scratch.path(), "scores.jsonl", &scores);
    let found = report(&["judge", "--scores", word(&scores), "--judge", &judge]);
    assert!(found["kendall"]["value"].as_f64().unwrap() > 0.8, "{found}");
    // Always the first.
    let server = Scripted::start(|_| Some("[[A]]".to_owned()));
    let judge = server.address();
    let found = report(&["bias", "--verdicts", word(&pairs), "--judge", &judge]);
    assert_eq!(found["position"]["first_all"]["value"], json!(1.0));
    let server = Scripted::start(likes_good);
    let judge = server.address();
    let output = |text: &str| json!({"prompt": "p", "output": text});
    let outputs = lines(scratch.path(), "outputs.jsonl", &["good", "bad"].map(output));
    let found = report(&["bias", "--scores", word(&outputs), "--judge", &judge]);
    assert_eq!(
        (&found["saturation"]["mean"]["value"], &found["saturation"]["full"]["value"]),
        (&json!(6.5), &json!(0.0))
    );
}

/// The engine's own model as judge: it says nothing of use, but it is asked, and from the cache again.
#[test]
fn a_model_folder_judges_here() {
    let scratch = tempfile::tempdir().unwrap();
    let (pairs, cache) = (pairs(scratch.path()), scratch.path().join("cache"));
    let kept = scratch.path().join("kept.jsonl");
    let (model, folder) = (root().join("core/torch/fixtures/models/llama-untied"), scratch.path().join("model"));
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(model).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    // Room for the question.
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    fs::write(
        folder.join("config.json"),
        config.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 4096"),
    )
    .unwrap();
    let common =
        ["pairwise", "--pairs", word(&pairs), "--judge", word(&folder), "--judge-max-tokens", "6", "-o", word(&kept)];
    // No verdict can be read: the figures are refused, but what was said is kept.
    let (code, message) = refused(&[&common[..], &["--cache", word(&cache)]].concat());
    assert!(code == Some(2) && message.contains("expected a judgment that was read"), "{message}");
    let said = |kept: &Path| {
        let text = fs::read_to_string(kept).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.map(|record| record["judgments"].clone()).collect::<Vec<_>>()
    };
    let first = said(&kept);
    assert!(first.len() == 12 && first.iter().all(|words| words["model_first"].is_string()), "{first:?}");
    assert_eq!(fs::read_to_string(cache.join("answers.jsonl")).unwrap().lines().count(), 24);
    // Without its weights, only the cache can answer; with them gone, the cache does not fit.
    refused(&[&common[..], &["--cache", word(&cache)]].concat());
    assert_eq!(said(&kept), first);
    assert_eq!(fs::read_to_string(cache.join("answers.jsonl")).unwrap().lines().count(), 24, "asked once");
}
