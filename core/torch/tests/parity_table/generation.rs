//! Greedy text against transformers, up to the context's last place; and every answer the same in whatever company.

use metareward_api::{
    Example, Finish, Generation, GenerationDraw, GenerationRequest, Generator, Guides, Message, Progress, Sampler,
    Sampling, StepMetrics, Trainer, Watch,
};
use metareward_torch::{
    CausalLm, DeviceChoice, Precision, Prompting, TemplateDate,
    config::ModelConfig,
    generate::{EngineConfig, TorchGenerator},
    logprobs::text_logprob,
    train::{TorchTrainer, TrainerOptions},
};
use tch::{Device, Kind, Tensor};

use crate::{
    models::{Model, json, version},
    row::Row,
};

/// Watches nothing.
pub struct Quiet;

impl Watch for Quiet {
    fn progress(&self, _: Progress) {}
    fn step(&self, _: &StepMetrics, _: f64) {}
    fn stop(&self) -> bool {
        false
    }
}

/// One worker on the CPU in f32.
pub fn config() -> EngineConfig {
    EngineConfig { device: DeviceChoice::Cpu, threads: 1, ..EngineConfig::default() }
}

fn engine(model: &Model, config: EngineConfig) -> TorchGenerator {
    let mut engine = TorchGenerator::new(config);
    engine.load(&model.folder).unwrap();
    engine
}

/// The backend for GPUs and bf16, here in f32 on the CPU.
fn tensors(model: &Model) -> TorchGenerator {
    let loaded = CausalLm::load(&model.folder, Device::Cpu, Precision::F32).unwrap();
    let prompting = Prompting::read(&model.folder, loaded.config(), TemplateDate::default()).unwrap();
    let mut engine = TorchGenerator::new(config());
    engine.set_model_on_tensors(loaded, prompting);
    engine
}

fn greedy(max_tokens: u32) -> Sampling {
    Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens, stop: Vec::new() }
}

fn request(messages: Vec<Message>, draws: Vec<Sampling>) -> GenerationRequest {
    let draw = |(draw, sampling): (u32, Sampling)| GenerationDraw { seed: u64::from(draw) + 3, sampling, draw };
    GenerationRequest { id: "one".to_owned(), messages, draws: (0..).zip(draws).map(draw).collect() }
}

/// Answers of the engine; `reshape` gives the probabilities where it is there.
pub fn answers(
    engine: &mut TorchGenerator,
    requests: &[GenerationRequest],
    reshape: Option<&dyn Sampler>,
) -> Vec<Vec<Generation>> {
    engine.generate(requests, &Guides { reshape, ..Guides::default() }, &Quiet).unwrap()
}

fn run(engine: &mut TorchGenerator, requests: &[GenerationRequest]) -> Vec<Vec<Generation>> {
    answers(engine, requests, None)
}

/// The prompts of the fixture, each answered greedily and by several draws; the prompts' beginnings are shared by a follow-up.
fn conversations(model: &Model) -> Vec<GenerationRequest> {
    let warm = Sampling { temperature: 1.0, ..greedy(12) };
    let draws = [
        warm.clone(),
        Sampling { top_p: 0.9, ..warm.clone() },
        Sampling { top_k: Some(9), temperature: 0.7, ..warm.clone() },
        Sampling { min_p: 0.05, max_tokens: 5, ..warm.clone() },
        greedy(9),
    ];
    let mut all = Vec::new();
    let mut cases = model.expected["greedy"].as_array().unwrap().clone();
    // A context of thousands, alone for every draw, takes a while: one such prompt is enough.
    cases.retain(|case| case["prompt"].as_u64().unwrap() < 1000 || case["kind"] == "to the last place");
    for case in &cases {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        all.push(request(messages.clone(), draws.to_vec()));
        for word in ["w1", "w2 w3"] {
            let mut more = messages.clone();
            more.extend([Message::assistant("w9 w8"), Message::user(word)]);
            all.push(request(more, draws[..2].to_vec()));
        }
    }
    all
}

/// Rows per architecture.
pub fn rows(models: &[Model]) -> Vec<Row> {
    let transformers = version(&json("parity/variants.json"), "transformers");
    let mut rows = Vec::new();
    let mut architectures: Vec<&str> = models.iter().map(Model::architecture).collect();
    architectures.dedup();
    for architecture in architectures {
        let row = |what: &str, reference: &str, unit, limit| {
            Row::new(format!("{architecture}: {what}"), reference, unit, limit)
        };
        let reference = format!("{transformers}, generate");
        let mut fast = row("greedy text of up to 64 tokens", &reference, "texts that differ", 0.0);
        let mut slow = row("greedy text, backend on tensors", &reference, "texts that differ", 0.0);
        let mut company =
            row("draws in other batches, orders, threads, without sharing", "alone", "answers that differ", 0.0);
        let mut batched = row("log-probability of an answer, in a batch", "alone", "log-probability per token", 1e-5);
        // Both the best token's logit and the chosen one's may be off.
        let mut half = row(
            "greedy text in bf16: the chosen token's logit below the best",
            "our bf16 logits, which the rows above compare",
            "what eager and sdpa differ",
            2.0,
        );
        for model in models.iter().filter(|model| model.architecture() == architecture) {
            let cases = model.expected["greedy"].as_array().unwrap();
            let requests: Vec<GenerationRequest> = cases
                .iter()
                .map(|case| request(serde_json::from_value(case["messages"].clone()).unwrap(), vec![greedy(64)]))
                .collect();
            let on_cpu = run(&mut engine(model, config()), &requests);
            let on_tensors = run(&mut tensors(model), &requests);
            let counts = engine(model, config())
                .count_tokens(&requests.iter().map(|request| request.messages.clone()).collect::<Vec<_>>())
                .unwrap();
            for (case, ((on_cpu, on_tensors), count)) in cases.iter().zip(on_cpu.iter().zip(&on_tensors).zip(counts)) {
                assert_eq!(u64::from(count), case["prompt"].as_u64().unwrap(), "{}: tokens of the prompt", model.name);
                let finish: Finish = serde_json::from_value(case["finish"].clone()).unwrap();
                let tokens = case["tokens"].as_u64().unwrap() as u32;
                let theirs = Generation { text: case["text"].as_str().unwrap().to_owned(), tokens, finish };
                let at = format!("{}, {}", model.name, case["kind"].as_str().unwrap());
                fast.equal(&at, on_cpu[0] == theirs);
                slow.equal(&at, on_tensors[0] == theirs);
            }
            in_half_precision(model, &requests, &mut half);
            in_company(model, &mut company);
            log_probabilities(model, &mut batched);
        }
        rows.extend([fast, slow, half, company, batched]);
    }
    rows
}

/// Rounding decides between tokens that are nearly equal, so texts may differ: every token must be nearly the best.
fn in_half_precision(model: &Model, requests: &[GenerationRequest], row: &mut Row) {
    let loaded = CausalLm::load(&model.folder, Device::Cpu, Precision::Bf16).unwrap();
    let prompting = Prompting::read(&model.folder, loaded.config(), TemplateDate::default()).unwrap();
    // Few tokens: the longer a text, the likelier one in it is special and leaves none.
    let short = |request: &GenerationRequest| self::request(request.messages.clone(), vec![greedy(10)]);
    // Contexts of thousands are left to the rows in f32: they take a while.
    let fits = |request: &&GenerationRequest| request.messages[0].content.len() < 3000;
    let requests: Vec<GenerationRequest> = requests.iter().filter(fits).map(short).collect();
    let found = run(&mut engine(model, EngineConfig { precision: Precision::Bf16, ..config() }), &requests);
    let allowed = &model.expected["eager_against_sdpa"];
    let allowed = ["bf16", "bf16_long"].map(|what| allowed[what].as_f64().unwrap()).into_iter().fold(0.05, f64::max);
    for (request, found) in requests.iter().zip(&found) {
        let prompt = prompting.prompt(&request.messages).unwrap().ids;
        let mut answer = prompting.tokenizer().encode(&found[0].text).unwrap();
        // Which special token came cannot be told.
        if answer.len() != found[0].tokens as usize {
            continue;
        }
        if found[0].finish == Finish::EndOfTurn {
            answer.push(prompting.end_ids()[0]);
        }
        let ids: Vec<i64> = prompt.iter().chain(&answer).copied().collect();
        let logits = tch::no_grad(|| loaded.logits(&Tensor::from_slice(&ids[..ids.len() - 1]).unsqueeze(0)).unwrap());
        let logits = logits.get(0).narrow(0, prompt.len() as i64 - 1, answer.len() as i64).to_kind(Kind::Float);
        let chosen = logits.gather(1, &Tensor::from_slice(&answer).unsqueeze(1), false).squeeze_dim(1);
        let below = logits.amax([1_i64].as_slice(), false) - chosen;
        row.add(&model.name, below.max().double_value(&[]) / allowed);
    }
}

fn in_company(model: &Model, row: &mut Row) {
    let requests = conversations(model);
    // Alone: one draw of one request at a time.
    let mut single = engine(model, config());
    let alone: Vec<Vec<Generation>> = requests
        .iter()
        .map(|request| {
            let one = |draw: &GenerationDraw| GenerationRequest { draws: vec![draw.clone()], ..request.clone() };
            request.draws.iter().map(|draw| run(&mut single, &[one(draw)])[0][0].clone()).collect()
        })
        .collect();
    let variants = [
        ("together", config()),
        ("few rows, two threads", EngineConfig { max_rows: 3, threads: 2, ..config() }),
        ("nothing shared", EngineConfig { share_prefixes: false, ..config() }),
    ];
    for (name, config) in variants {
        let reversed: Vec<GenerationRequest> = requests.iter().rev().cloned().collect();
        let mut found = run(&mut engine(model, config), &reversed);
        found.reverse();
        for (found, alone) in found.iter().flatten().zip(alone.iter().flatten()) {
            row.equal(&format!("{}, {name}", model.name), found == alone);
        }
    }
}

fn log_probabilities(model: &Model, row: &mut Row) {
    let context = ModelConfig::read(&model.folder).unwrap().context as u32;
    let texts = |case: &serde_json::Value| Example {
        id: "text".to_owned(),
        messages: serde_json::from_value(case["messages"].clone()).unwrap(),
        completion: case["text"].as_str().unwrap().to_owned(),
    };
    let mut examples: Vec<Example> = model.expected["greedy"].as_array().unwrap().iter().map(texts).collect();
    let loaded = CausalLm::load(&model.folder, Device::Cpu, Precision::F32).unwrap();
    let prompting = Prompting::read(&model.folder, loaded.config(), TemplateDate::default()).unwrap();
    // Answers that fill the context leave no room for the token that ends a turn.
    let fits = |example: &Example| {
        let completed = prompting.complete(&example.messages, &example.completion).unwrap();
        completed.prompt.len() + completed.completion.len() <= context as usize
    };
    examples.retain(fits);
    assert!(!examples.is_empty());
    let options = TrainerOptions {
        device: DeviceChoice::Cpu,
        precision: Precision::F32,
        threads: 2,
        intra_op: 1,
        ..TrainerOptions::default()
    };
    let together = TorchTrainer::new(options).log_probabilities(&model.folder, &examples, context, &Quiet).unwrap();
    for (example, together) in examples.iter().zip(together) {
        let alone = text_logprob(&loaded, &prompting, &example.messages, &example.completion).unwrap();
        assert_eq!(alone.tokens.len() as u32, together.tokens);
        row.add(&model.name, (alone.sum - together.sum) / f64::from(together.tokens).max(1.0));
    }
}
