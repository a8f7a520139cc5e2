//! `metareward tokens`: what a pair is for the model, against TRL's own tokenization (`core/torch/fixtures/parity/make_chats.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use metareward_tests::{metareward, root, shared_data, text};
use serde_json::{Value, json};

/// A model folder without weights: they are not needed.
fn folder(scratch: &Path, template: &str) -> std::path::PathBuf {
    let fixtures = root().join("core/torch/fixtures");
    let folder = scratch.join("model");
    fs::create_dir_all(&folder).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixtures.join("parity/chat-tokenizer").join(file), folder.join(file)).unwrap();
    }
    let config = fs::read_to_string(fixtures.join("train/sft-model/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["vocab_size"] = json!(1000);
    config["eos_token_id"] = Value::Null;
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("chat_template.jinja"), template).unwrap();
    folder
}

fn tokens(model: &Path, file: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = ["tokens", "--model", model.to_str().unwrap(), "--pair", file.to_str().unwrap()];
    let output = metareward(arguments.iter().chain(more)).output().unwrap();
    let (out, messages) = text(&output);
    (output.status.code(), out, messages)
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|token| token["id"].as_i64().unwrap()).collect()
}

#[test]
fn parts_are_those_of_trl() {
    let Some(shared) = shared_data() else {
        println!("skipped: ../shared/data is not there");
        return;
    };
    let fixture = fs::read_to_string(root().join("core/torch/fixtures/parity/chats.json")).unwrap();
    let fixture: Value = serde_json::from_str(&fixture).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let case = fixture["templates"].as_array().unwrap().iter().find(|case| case["template"] == "llama3.jinja").unwrap();
    let template = fs::read_to_string(shared.join("chat_templates/llama3.jinja")).unwrap();
    let model = folder(scratch.path(), &template);
    // The pairs as TRL reads them, a line each.
    let file = scratch.path().join("pairs.jsonl");
    let pairs = case["pairs"].as_array().unwrap();
    let lines: String = pairs.iter().map(|pair| format!("{pair}\n")).collect();
    fs::write(&file, lines).unwrap();
    for (index, pair) in pairs.iter().enumerate() {
        let number = (index + 1).to_string();
        let (code, out, messages) = tokens(&model, &file, &["--json", "--record", &number]);
        assert_eq!(code, Some(0), "{messages}");
        let found: Value = serde_json::from_str(&out).unwrap();
        for part in ["prompt", "chosen", "rejected"] {
            let theirs: Vec<i64> = serde_json::from_value(pair[format!("{part}_ids")].clone()).unwrap();
            assert_eq!(ids(&found[part]), theirs, "pair {number}, {part}");
        }
        let completions = [&found["chosen"], &found["rejected"]];
        let trained: usize = completions.iter().map(|part| part.as_array().unwrap().len()).sum();
        assert_eq!((&found["trained"], &found["records"]), (&json!(trained), &json!(pairs.len())));
        assert!(found["prompt"].as_array().unwrap().iter().all(|token| token["trained"] == false));
        for part in completions {
            let last = part.as_array().unwrap().last().unwrap();
            assert_eq!((&last["part"], &last["text"]), (&json!("end"), &json!("<|eot_id|>")));
        }
    }
}

#[test]
fn people_see_every_token_without_colours_in_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let source = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>{% endif %}";
    let model = folder(scratch.path(), source);
    let file = scratch.path().join("pair.json");
    // A pair as a run writes it.
    let side = |text: &str| json!({ "draw": 0, "text": text, "score": 1.0, "length": 3 });
    let pair = json!({
        "kind": "actor", "prompt": "p1", "model": "m", "messages": [{ "role": "user", "content": "Hi" }],
        "chosen": side("a b"), "rejected": side("c"), "weight": 1.0,
    });
    fs::write(&file, serde_json::to_string_pretty(&pair).unwrap()).unwrap();
    let (code, out, messages) = tokens(&model, &file, &[]);
    assert_eq!(code, Some(0), "{messages}");
    assert!(!out.contains('\u{1b}'), "{out}");
    assert!(out.starts_with("pair 1 of 1: "), "{out}");
    assert_eq!(out.matches("\"<bos>\"").count(), 1, "{out}");
    assert_eq!(out.matches("\"<|assistant|>\"").count(), 1, "{out}");
    let line =
        |text: &str| out.lines().rfind(|line| line.ends_with(text)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("\"<|end|>\"")[2..4], ["end", "*"]);
    assert_eq!(line("\"c\"")[2..4], ["rejected", "*"]);
    assert_eq!(line("\"<|assistant|>\"")[2], "prompt");

    // The longest sequence leaves the rejected one whole and cuts the chosen one's end off.
    let prompt = out.lines().filter(|line| line.split_whitespace().nth(2) == Some("prompt")).count();
    let chosen = out.lines().filter(|line| line.split_whitespace().nth(2) == Some("chosen")).count();
    let (_, out, _) = tokens(&model, &file, &["--max-length", &(prompt + chosen).to_string()]);
    let ends: Vec<&str> = out.lines().filter(|line| line.ends_with("\"<|end|>\"")).collect();
    let marks: Vec<bool> = ends.iter().map(|line| line.contains('*')).collect();
    assert_eq!(marks, [false, false, true], "{out}");
    let (code, _, messages) = tokens(&model, &file, &["--max-length", &prompt.to_string()]);
    assert_eq!(code, Some(2), "{messages}");
    assert!(messages.contains("leaves no room for a completion"), "{messages}");
}

#[test]
fn files_that_are_no_pairs_say_so() {
    let scratch = tempfile::tempdir().unwrap();
    let model = folder(scratch.path(), "{{ messages[0].content }}<|end|>");
    let file = scratch.path().join("pair.jsonl");
    for (content, more, message) in [
        ("{\"prompt\": \"a\", \"chosen\": \"b\"}\n", &[][..], "record 1: rejected is missing"),
        ("{}\nnonsense\n", &[], "line 2: "),
        ("[]", &[], "there is no record 1; the file has 0"),
        (
            "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}",
            &["--record", "2"],
            "there is no record 2; the file has 1",
        ),
    ] {
        fs::write(&file, content).unwrap();
        let (code, _, messages) = tokens(&model, &file, more);
        assert_eq!(code, Some(2), "{messages}");
        assert!(messages.contains("pair.jsonl: ") && messages.contains(message), "{message:?} is not in\n{messages}");
    }
    let (code, _, messages) = tokens(&model, &scratch.path().join("nowhere.json"), &[]);
    assert_eq!(code, Some(2), "{messages}");
}
