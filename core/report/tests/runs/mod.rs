//! Runs to report on: made by the loop itself with a scripted model, then given texts that try to break out of the page.
#![allow(dead_code)]

#[path = "../../../runtime/tests/scripted/mod.rs"]
pub mod scripted;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Texts that a model may write and that must stay texts. Each tries something else.
pub const HOSTILE: [&str; 12] = [
    // Ends the block of data and starts a script.
    "</script><script>window.broken = 'script'</script>",
    // Opens the double-escaped state, in which a later end of the block is not seen.
    "<!--<script>",
    // Runs without a script element.
    "<img src=x onerror=\"window.broken = 'image'\">",
    "<svg onload=\"window.broken = 'svg'\"></svg><iframe srcdoc=\"<script>parent.broken = 'frame'</script>\"></iframe>",
    // Takes over the look of the page, or its addresses.
    "<style>body { display: none }</style><base href=\"https://example.invalid/\"><meta http-equiv=refresh content=0>",
    // Ends a string of a script, in the ways that strings end.
    "\"; window.broken = 'string'; //\u{2028}window.broken = 'line'\u{2029}`${window.broken = 'template'}`",
    // Turns the order of letters, so that what is read is not what is there.
    "<img src=y onerror=\"window.broken = 'sign'\">access \u{202e}gpj.exe\u{202c} \u{2066}isolated\u{2069} \u{200f}mark",
    // Controls: a bell, a terminal's escape, a lone carriage return, a null, a delete.
    "bell\u{7} escape\u{1b}[31m return\rnull\u{0} delete\u{7f}",
    // Hides letters.
    "zero\u{200b}width\u{feff} soft\u{ad}hyphen tags\u{e0041}\u{e0042}",
    // Looks like an entity.
    "&lt;b&gt; &amp;amp; &#x3c;script&#x3e;",
    // Keys that mean something to objects.
    "__proto__ constructor toString",
    // A word longer than any screen, and letters that go from right to left.
    "שלום عالم aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A finished run of the loop with a scripted model: SFT, two iterations, held-out prompts.
pub fn scripted_run(set: &[&str]) -> scripted::Lab {
    let mut lab = scripted::Lab::new();
    lab.set = set.iter().map(|setting| (*setting).to_owned()).collect();
    lab.run().0.unwrap();
    lab
}

/// Gives the held-out prompts categories and the evaluated responses points, as a task with an oracle does: `points` of
/// the number of the model, of the prompt, and of the response.
pub fn give_points(run: &Path, points: impl Fn(usize, usize, u32) -> f64) {
    let mut prompts = Vec::new();
    shards(&run.join("evaluation/held-out/prompts"), &mut prompts);
    let mut ids = Vec::new();
    for file in prompts {
        let mut text = String::new();
        for line in fs::read_to_string(&file).unwrap().lines() {
            let mut prompt: Value = serde_json::from_str(line).unwrap();
            prompt["category"] = json!(["plain", "long"][ids.len() % 2]);
            ids.push(prompt["id"].clone());
            text += &(prompt.to_string() + "\n");
        }
        fs::write(file, text).unwrap();
    }
    for (model, name) in ["seed", "sft", "M1", "M2"].iter().enumerate() {
        let folder = run.join("evaluation").join(name);
        let stage = folder.join("points/stage.json");
        let mut record: Value = serde_json::from_str(&fs::read_to_string(&stage).unwrap()).unwrap();
        let files: Vec<String> =
            record["shards"].as_array().unwrap().iter().map(|shard| shard["file"].as_str().unwrap().into()).collect();
        let mut responses = Vec::new();
        shards(&folder.join("responses"), &mut responses);
        let lines = responses.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
        let lines = lines.lines().map(|line| {
            let response: Value = serde_json::from_str(line).unwrap();
            let prompt = ids.iter().position(|id| *id == response["prompt"]).unwrap();
            let draw = u32::try_from(response["draw"].as_u64().unwrap()).unwrap();
            json!({ "prompt": response["prompt"], "response": draw, "points": points(model, prompt, draw) }).to_string()
                + "\n"
        });
        // All in the first shard: readers do not mind where one ends.
        fs::write(folder.join("points").join(&files[0]), lines.collect::<String>()).unwrap();
        record["shards"].as_array_mut().unwrap().truncate(1);
        fs::write(&stage, record.to_string()).unwrap();
    }
}

/// Every shard of a folder and of those in it.
fn shards(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            shards(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(path);
        }
    }
    found.sort();
}

/// Puts hostile texts wherever a model or a user of the run may have put texts.
pub fn taint(run: &Path) {
    let mut files = Vec::new();
    shards(run, &mut files);
    let mut next = 0;
    for file in files.iter().filter(|file| !file.ends_with("events.jsonl")) {
        let lines = fs::read_to_string(file).unwrap();
        let tainted = lines.lines().map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            next += 1;
            taint_texts(&mut record, HOSTILE[next % HOSTILE.len()]);
            if record.get("id").is_some() {
                record["category"] = json!(HOSTILE[(next + 1) % HOSTILE.len()]);
                record["system"] = json!(HOSTILE[(next + 2) % HOSTILE.len()]);
            }
            record.to_string() + "\n"
        });
        let tainted: String = tainted.collect();
        fs::write(file, tainted).unwrap();
    }
    let path = run.join("run.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["name"] = json!(HOSTILE[0]);
    record["machine"] = json!({ HOSTILE[2]: HOSTILE[3] });
    fs::write(&path, record.to_string()).unwrap();
    let warning = json!({ "time": 0.0, "event": "warning", "place": null, "message": HOSTILE[1] });
    let events = run.join("events.jsonl");
    fs::write(&events, fs::read_to_string(&events).unwrap() + &warning.to_string() + "\n").unwrap();
}

/// Replaces the value of every `text` in a record, at any depth.
fn taint_texts(value: &mut Value, text: &str) {
    match value {
        Value::Object(table) => {
            for (key, inner) in table.iter_mut() {
                if key == "text" {
                    *inner = json!(text);
                } else {
                    taint_texts(inner, text);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|inner| taint_texts(inner, text)),
        _ => {}
    }
}

/// The content of a block of the page, found as a browser finds it: up to the next end of a script.
pub fn content<'p>(page: &'p str, id: &str) -> &'p str {
    let start = page.find(&format!("id=\"{id}\">")).unwrap_or_else(|| panic!("no block {id}"));
    let start = start + page[start..].find('>').unwrap() + 1;
    let end = page[start..].to_ascii_lowercase().find("</script").unwrap();
    &page[start..start + end]
}

/// A compressed block, unpacked.
pub fn unpacked<T: DeserializeOwned>(page: &str, id: &str) -> T {
    let bytes = STANDARD.decode(content(page, id)).unwrap();
    let mut json = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}
