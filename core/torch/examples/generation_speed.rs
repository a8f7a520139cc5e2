//! Measures generation on the load of one quickstart iteration: 2,100 responses, 23,100 judgments, 33,000 verdicts.
//!
//! ```text
//! cargo run --release -p metareward-torch --example generation_speed -- [threads] [rows] [logit scale] [no-sharing]
//! ```
//!
//! The model is random (Llama, hidden 128, 4 layers, 0.9 M parameters), so the answers have the lengths that are asked for. The
//! logit scale says how sure it is of its next token: at 1 the draws of a prompt part at once, at 6 they agree
//! for a while, as a trained judge's do.

use std::{fs, path::Path, time::Instant};

use metareward_api::{
    GenerationDraw, GenerationRequest, Generator, Guides, Message, Progress, Sampling, StepMetrics, Watch,
};
use metareward_torch::{
    DeviceChoice,
    generate::{EngineConfig, TorchGenerator},
};
use serde_json::json;
use tch::{Device, Kind, Tensor};

const WORDS: usize = 390;

struct Quiet;

impl Watch for Quiet {
    fn progress(&self, _: Progress) {}
    fn step(&self, _: &StepMetrics, _: f64) {}
    fn stop(&self) -> bool {
        false
    }
}

/// A model folder with random weights and a tokenizer with a word per token.
fn write_model(folder: &Path, logit_scale: f64) -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(1);
    let (hidden, inner, layers, vocabulary) = (128i64, 384i64, 4, 400i64);
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "eos_token_id": 2,
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    let special = ["<unk>", "<s>", "</s>", "<user>", "<model>"];
    let mut vocab = serde_json::Map::new();
    for (id, word) in special.iter().enumerate() {
        vocab.insert((*word).to_owned(), json!(id));
    }
    for word in 0..WORDS {
        vocab.insert(format!("w{word}"), json!(special.len() + word));
    }
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(id, word)| {
            json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())?;
    fs::write(folder.join("tokenizer_config.json"), json!({"eos_token": "</s>", "bos_token": "<s>"}).to_string())?;
    fs::write(
        folder.join("chat_template.jinja"),
        "<s>{% for m in messages %} {{ '<user>' if m.role == 'user' else '<model>' }} {{ m.content }} </s>{% endfor %}\
         {% if add_generation_prompt %} <model>{% endif %}",
    )?;
    let random = |shape: &[i64], scale: f64| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale;
    let ones = Tensor::ones([hidden], (Kind::Float, Device::Cpu));
    let (wide, narrow) = (1.0 / (hidden as f64).sqrt(), 1.0 / (inner as f64).sqrt());
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), random(&[vocabulary, hidden], 1.0)),
        ("lm_head.weight".to_owned(), random(&[vocabulary, hidden], wide * logit_scale)),
        ("model.norm.weight".to_owned(), ones.shallow_clone()),
    ];
    for layer in 0..layers {
        let mut add =
            |name: &str, tensor: Tensor| tensors.push((format!("model.layers.{layer}.{name}.weight"), tensor));
        add("input_layernorm", ones.copy());
        add("post_attention_layernorm", ones.copy());
        add("self_attn.q_proj", random(&[128, hidden], wide));
        add("self_attn.k_proj", random(&[64, hidden], wide));
        add("self_attn.v_proj", random(&[64, hidden], wide));
        add("self_attn.o_proj", random(&[hidden, 128], wide));
        add("mlp.gate_proj", random(&[inner, hidden], wide));
        add("mlp.up_proj", random(&[inner, hidden], wide));
        add("mlp.down_proj", random(&[hidden, inner], narrow));
    }
    Tensor::write_safetensors(&tensors, folder.join("model.safetensors"))?;
    Ok(())
}

/// Random words, the same at every start.
struct Words(u64);

impl Words {
    fn some(&mut self, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += &format!("w{} ", (self.0 >> 33) as usize % WORDS);
        }
        text
    }
}

fn request(id: String, text: String, draws: u64, max_tokens: u32, temperature: f64) -> GenerationRequest {
    let sampling = Sampling { temperature, top_p: 0.9, top_k: None, min_p: 0.0, max_tokens, stop: Vec::new() };
    let seed = |draw: u64| text.len() as u64 * 1000 + draw;
    let draws =
        (0..draws).map(|draw| GenerationDraw { seed: seed(draw), sampling: sampling.clone(), draw: 0 }).collect();
    GenerationRequest { id, messages: vec![Message::user(text)], draws }
}

fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

/// Processor time of all threads so far, in seconds: what a busy machine does not change.
fn processor_seconds() -> f64 {
    let status = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: f64 = status.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: f64| arguments.get(index).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (threads, rows, scale) = (number(0, 2.0) as usize, number(1, 0.0) as usize, number(2, 1.0));
    let share_prefixes = !arguments.iter().any(|argument| argument == "no-sharing");

    let folder = tempfile::tempdir()?;
    write_model(folder.path(), scale)?;
    let config =
        EngineConfig { device: DeviceChoice::Cpu, threads, max_rows: rows, share_prefixes, ..EngineConfig::default() };
    let mut engine = TorchGenerator::new(config);
    let start = Instant::now();
    let card = engine.load(folder.path())?;
    println!(
        "{} parameters, loaded in {:.0} ms; logit scale {scale}",
        card.parameters,
        start.elapsed().as_secs_f64() * 1e3
    );

    let mut words = Words(1);
    let (ask, judge, compare, tail) = (words.some(8), words.some(12), words.some(12), words.some(8));
    let (mut responses, mut judgments, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
    for prompt in 0..300 {
        let question = words.some(12);
        responses.push(request(format!("prompt {prompt}"), format!("{ask}{question}"), 7, 10, 1.0));
        for draw in 0..7 {
            let answer = words.some(10);
            let shown = format!("{judge}{question}{answer}");
            judgments.push(request(format!("prompt {prompt}, response {draw}"), shown, 11, 15, 0.7));
            if draw > 0 {
                continue;
            }
            let written: Vec<String> = (0..11).map(|_| words.some(15)).collect();
            for first in 0..11 {
                for second in (0..11).filter(|second| *second != first) {
                    let shown = format!("{compare}{question}{answer}{}{}{tail}", written[first], written[second]);
                    verdicts.push(request(format!("prompt {prompt}, match {first} {second}"), shown, 1, 5, 0.7));
                }
            }
        }
    }
    for (name, requests) in [("responses", &responses), ("judgments", &judgments), ("verdicts", &verdicts)] {
        let (start, before) = (Instant::now(), processor_seconds());
        let answers = engine.generate(requests, &Guides::default(), &Quiet)?;
        let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
        let count: usize = answers.iter().map(Vec::len).sum();
        let s = engine.stats();
        let busy = (s.clock.model + s.clock.sampling).as_secs_f64();
        let share = |part: f64| 100.0 * part / busy;
        let computed = s.prompt_computed + s.answer_computed;
        println!(
            "{name:9} {count:6} answers {seconds:6.2} s, processor {processor:.2} s (tokenizing {:.2}) | prompts {} of {} tokens computed, answers {} of {} \
             | {:.0} rows/s, {:.0} answer tokens/s | products {:.0} %, attention {:.0} %, rest of the model {:.0} %, sampling and \
             bookkeeping {:.0} % | {} passes, {} slots",
            s.tokenizing.as_secs_f64(),
            s.prompt_computed,
            s.prompt_tokens,
            s.answer_computed,
            s.answer_tokens,
            computed as f64 / seconds,
            s.answer_tokens as f64 / seconds,
            share(s.clock.products.as_secs_f64()),
            share(s.clock.attention.as_secs_f64()),
            share((s.clock.model.saturating_sub(s.clock.products + s.clock.attention)).as_secs_f64()),
            share(s.clock.sampling.as_secs_f64()),
            s.passes,
            s.peak_slots,
        );
    }
    println!("peak resident memory {}", peak_memory());
    Ok(())
}
