//! What transformers computes, computed here: logits, log-probabilities, rotary frequencies. `fixtures/make.py` made the
//! expected values.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use metareward_api::Message;
use metareward_torch::{
    CausalLm, Precision, Prompting, TemplateDate,
    config::ModelConfig,
    inspect,
    logprobs::{chunked_log_softmax_gather, text_logprob},
    rope::RopeTable,
    save::save_model_in_shards,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const MODELS: [&str; 5] = ["llama-tied-llama3rope", "llama-untied", "mistral-window", "qwen2-biases", "qwen3-norms"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn model_folder(name: &str) -> PathBuf {
    fixture("models").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn expected(name: &str) -> (Value, BTreeMap<String, Tensor>) {
    let folder = model_folder(name);
    let tensors = Tensor::read_safetensors(folder.join("expected.safetensors")).unwrap().into_iter().collect();
    (json(&folder.join("expected.json")), tensors)
}

/// The larger one; NaN when one of them is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// Largest difference over the rows' real tokens.
fn largest_difference(ours: &Tensor, theirs: &Tensor, lengths: &Value) -> f64 {
    let difference = (ours.to_kind(Kind::Float) - theirs.to_kind(Kind::Float)).abs();
    lengths
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(row, length)| {
            let length = length.as_i64().unwrap();
            difference.get(row as i64).narrow(0, 0, length).max().double_value(&[])
        })
        .fold(0.0, larger)
}

#[test]
fn logits_are_those_of_transformers() {
    for name in MODELS {
        let (expected, tensors) = expected(name);
        let model = CausalLm::load(&model_folder(name), Device::Cpu, Precision::F32).unwrap();
        let logits = tch::no_grad(|| model.logits(&tensors["tokens"]).unwrap());
        let difference = largest_difference(&logits, &tensors["logits_f32"], &expected["lengths"]);
        println!("{name}: f32 logits differ by at most {difference:e}");
        assert!(difference <= 1e-4, "{name}: {difference}");
        assert_eq!(model.card().parameters, expected["parameters"].as_u64().unwrap(), "{name}");
        assert_eq!(inspect(&model_folder(name), Precision::F32).unwrap(), model.card(), "{name}");
    }
}

#[test]
fn bf16_logits_are_as_near_as_transformers_two_attentions_are() {
    for name in MODELS {
        let (expected, tensors) = expected(name);
        let model = CausalLm::load(&model_folder(name), Device::Cpu, Precision::Bf16).unwrap();
        let logits = tch::no_grad(|| model.logits(&tensors["tokens"]).unwrap());
        assert_eq!(logits.kind(), Kind::BFloat16);
        let difference = largest_difference(&logits, &tensors["logits_bf16"], &expected["lengths"]);
        let allowed = expected["bf16_eager_against_sdpa"].as_f64().unwrap();
        println!("{name}: bf16 logits differ by at most {difference} (allowed {allowed})");
        assert!(difference <= allowed, "{name}: {difference} > {allowed}");
    }
}

#[test]
fn a_conversation_and_its_completion_score_as_in_transformers() {
    for name in MODELS {
        let (expected, _) = expected(name);
        let folder = model_folder(name);
        let model = CausalLm::load(&folder, Device::Cpu, Precision::F32).unwrap();
        let prompting = Prompting::read(&folder, model.config(), TemplateDate::default()).unwrap();
        let messages: Vec<Message> = serde_json::from_value(expected["conversation"].clone()).unwrap();
        let completion = expected["completion"].as_str().unwrap();
        let ids: Vec<i64> = serde_json::from_value(expected["prompt_ids"].clone()).unwrap();
        assert_eq!(prompting.prompt(&messages).unwrap().ids, ids, "{name}");
        let completed = prompting.complete(&messages, completion).unwrap();
        let ids: Vec<i64> = serde_json::from_value(expected["completion_ids"].clone()).unwrap();
        assert_eq!(completed.completion, ids, "{name}");
        assert_eq!(prompting.end_ids(), [4, 5], "{name}");

        let scored = text_logprob(&model, &prompting, &messages, completion).unwrap();
        let theirs: Vec<f64> = serde_json::from_value(expected["logprobs"].clone()).unwrap();
        assert_eq!(scored.tokens.len(), theirs.len());
        let difference =
            scored.tokens.iter().zip(&theirs).map(|(ours, theirs)| (ours.logprob - theirs).abs()).fold(0.0, larger);
        println!("{name}: log-probabilities differ by at most {difference:e}");
        assert!(difference <= 1e-4, "{name}: {difference}");
        assert!((scored.sum - expected["sum"].as_f64().unwrap()).abs() <= 1e-3, "{name}");
        let text: String = scored.tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(text, format!("{completion}<|turn|>"));
    }
}

#[test]
fn padding_on_the_right_changes_nothing() {
    for name in MODELS {
        let (_, tensors) = expected(name);
        let model = CausalLm::load(&model_folder(name), Device::Cpu, Precision::F32).unwrap();
        tch::no_grad(|| {
            let padded = model.forward_hidden(&tensors["tokens"]).unwrap().get(1).narrow(0, 0, 23);
            let alone = model.forward_hidden(&tensors["tokens"].narrow(0, 1, 1).narrow(1, 0, 23)).unwrap().get(0);
            let difference = (padded - alone).abs().max().double_value(&[]);
            assert!(difference <= 1e-5, "{name}: {difference}");
        });
    }
}

#[test]
fn rotary_frequencies_are_those_of_transformers() {
    for case in json(&fixture("ropes.json")).as_array().unwrap() {
        let name = &case["name"];
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), case["config"].to_string()).unwrap();
        let table = RopeTable::new(&ModelConfig::read(folder.path()).unwrap(), Device::Cpu).unwrap();
        let ours = Vec::<f64>::try_from(&table.frequencies().to_kind(Kind::Double)).unwrap();
        let theirs: Vec<f64> = serde_json::from_value(case["frequencies"].clone()).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours / theirs - 1.0).abs() < 1e-6, "{name}: {ours} for {theirs}");
        }
        let factor = case["attention_factor"].as_f64().unwrap();
        assert!((table.attention_factor() - factor).abs() < 1e-12, "{name}");
    }
}

#[test]
fn log_softmax_in_pieces_is_log_softmax() {
    tch::manual_seed(1);
    let options = (Kind::Float, Device::Cpu);
    // More rows and more columns than one piece, neither a multiple.
    let (hidden, head) = (Tensor::randn([1030, 8], options), Tensor::randn([33_000, 8], options));
    let targets = Tensor::randint(33_000, [1030], (Kind::Int64, Device::Cpu));
    let whole = hidden.linear(&head, None::<&Tensor>).log_softmax(-1, None).gather(1, &targets.unsqueeze(1), false);
    let pieces = chunked_log_softmax_gather(&hidden, &head, &targets).unwrap();
    assert!((whole.squeeze_dim(1) - pieces).abs().max().double_value(&[]) < 1e-5);
    let none = chunked_log_softmax_gather(&hidden.narrow(0, 0, 0), &head, &targets.narrow(0, 0, 0)).unwrap();
    assert_eq!(none.size(), [0]);
}

#[test]
fn threads_share_one_model() {
    let (_, tensors) = expected("llama-untied");
    let model = CausalLm::load(&model_folder("llama-untied"), Device::Cpu, Precision::F32).unwrap();
    let tokens = &tensors["tokens"];
    let here = tch::no_grad(|| model.logits(tokens).unwrap());
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (model, tokens) = (model.share().unwrap(), tokens.copy());
            std::thread::spawn(move || tch::no_grad(|| model.logits(&tokens).unwrap()))
        })
        .collect();
    // The threads' handles keep the mapped file alive.
    drop(model);
    for thread in threads {
        assert!(thread.join().unwrap().equal(&here));
    }
}

#[test]
fn what_is_saved_loads_again() {
    for (name, precision, shard_bytes) in [
        ("llama-tied-llama3rope", Precision::F32, u64::MAX),
        ("qwen3-norms", Precision::F32, 30_000),
        ("mistral-window", Precision::Bf16, u64::MAX),
    ] {
        let (_, tensors) = expected(name);
        let source = model_folder(name);
        let model = CausalLm::load(&source, Device::Cpu, precision).unwrap();
        let target = tempfile::tempdir().unwrap();
        let target = target.path().join("model");
        save_model_in_shards(&source, &target, model.weights().tensors(), precision, shard_bytes).unwrap();
        let files = |folder: &Path| {
            let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files.iter().map(|file| (file.file_name().unwrap().to_owned(), fs::read(file).unwrap())).collect::<Vec<_>>()
        };
        let first = files(&target);
        assert!(first.iter().all(|(name, _)| !name.to_string_lossy().ends_with(".partial")));

        let again = CausalLm::load(&target, Device::Cpu, precision).unwrap();
        let (before, after) =
            tch::no_grad(|| (model.logits(&tensors["tokens"]).unwrap(), again.logits(&tensors["tokens"]).unwrap()));
        assert!(before.equal(&after), "{name}");
        assert_eq!(again.config().eos, model.config().eos);
        Prompting::read(&target, again.config(), TemplateDate::default()).unwrap();

        // The same bytes again, over the files that are there, mapped as they are.
        save_model_in_shards(&source, &target, again.weights().tensors(), precision, shard_bytes).unwrap();
        assert_eq!(files(&target), first, "{name}");
        assert!(tch::no_grad(|| again.logits(&tensors["tokens"]).unwrap()).equal(&before), "{name}");

        // Another number of files leaves none of the earlier ones behind.
        save_model_in_shards(&source, &target, again.weights().tensors(), precision, 50_000).unwrap();
        let count = files(&target).iter().filter(|(name, _)| name.to_string_lossy().ends_with(".safetensors")).count();
        let named = json(&target.join("model.safetensors.index.json"));
        let named: std::collections::BTreeSet<_> =
            named["weight_map"].as_object().unwrap().values().map(|file| file.as_str().unwrap().to_owned()).collect();
        assert!(count > 1 && named.len() == count, "{count} files, {named:?} named");
        inspect(&target, precision).unwrap();
    }
}
