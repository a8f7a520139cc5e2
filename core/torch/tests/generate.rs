//! Generation: equal to transformers where that can be compared, and to itself in whatever company.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use metareward_api::{
    DrawPlan, EngineError, Finish, Generation, GenerationDraw, GenerationRequest, Generator, Guides, Message,
    NextTokens, PluginError, Progress, Sampler, SamplerItem, Sampling, StepMetrics, Watch,
};
use metareward_torch::{
    CausalLm, DeviceChoice, Precision, Prompting, TemplateDate,
    generate::{CallStats, EngineConfig, TorchGenerator},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const MODELS: [&str; 5] = ["llama-tied-llama3rope", "llama-untied", "mistral-window", "qwen2-biases", "qwen3-norms"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name)
}

struct Quiet;

impl Watch for Quiet {
    fn progress(&self, _: Progress) {}
    fn step(&self, _: &StepMetrics, _: f64) {}
    fn stop(&self) -> bool {
        false
    }
}

fn config() -> EngineConfig {
    // The models are tiny: libtorch's threads would only wait for each other.
    tch::set_num_threads(1);
    EngineConfig { device: DeviceChoice::Cpu, threads: 1, ..EngineConfig::default() }
}

fn engine(name: &str, config: EngineConfig) -> TorchGenerator {
    let mut engine = TorchGenerator::new(config);
    engine.load(&folder(name)).unwrap();
    engine
}

fn greedy(max_tokens: u32) -> Sampling {
    Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens, stop: Vec::new() }
}

fn request(id: &str, messages: Vec<Message>, sampling: &Sampling, seeds: std::ops::Range<u64>) -> GenerationRequest {
    let draws =
        (0u32..).zip(seeds).map(|(draw, seed)| GenerationDraw { seed, sampling: sampling.clone(), draw }).collect();
    GenerationRequest { id: id.to_owned(), messages, draws }
}

/// Conversations like the loop's: questions, answers to judge, judgments to compare; many share their beginnings.
fn requests() -> Vec<GenerationRequest> {
    let warm = Sampling { temperature: 1.0, top_p: 0.9, top_k: None, min_p: 0.0, max_tokens: 20, stop: Vec::new() };
    let mixed = [
        warm.clone(),
        Sampling { temperature: 0.7, top_p: 1.0, top_k: Some(20), ..warm.clone() },
        Sampling { min_p: 0.05, max_tokens: 7, ..warm.clone() },
        Sampling { stop: vec!["e".to_owned(), " x".to_owned()], ..warm.clone() },
        greedy(12),
    ];
    let mut all = Vec::new();
    for question in 0..4 {
        let ask = Message::user(format!("Sort the words of list {question}"));
        all.push(request(&format!("ask {question}"), vec![ask.clone()], &mixed[question % 5], 0..5));
        for answer in 0..3 {
            let messages = vec![ask.clone(), Message::assistant(format!("fig {answer}")), Message::user("Judge it.")];
            all.push(request(&format!("judge {question} {answer}"), messages.clone(), &mixed[answer], 10..14));
            for pair in 0..3 {
                let mut messages = messages.clone();
                messages[2] = Message::user(format!("Judge it. First {} or second {}?", pair, pair + 1));
                all.push(request("match", messages, &mixed[(pair + 2) % 5], 20..21));
            }
        }
    }
    // A conversation twice: the same row until the seeds part.
    let twice = all[1].clone();
    all.push(GenerationRequest { draws: twice.draws[..2].to_vec(), ..twice });
    all
}

fn run(engine: &mut TorchGenerator, requests: &[GenerationRequest]) -> (Vec<Vec<Generation>>, CallStats) {
    (engine.generate(requests, &Guides::default(), &Quiet).unwrap(), *engine.stats())
}

#[test]
fn greedy_text_is_that_of_transformers_on_both_backends() {
    for name in MODELS {
        let path = folder(name).join("generated.json");
        let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let requests: Vec<GenerationRequest> = cases
            .iter()
            .map(|case| request(name, serde_json::from_value(case["messages"].clone()).unwrap(), &greedy(64), 0..1))
            .collect();
        let (fast, _) = run(&mut engine(name, config()), &requests);
        let mut other = tensors(name, config());
        let (slow, _) = run(&mut other, &requests);
        for (case, (fast, slow)) in cases.iter().zip(fast.iter().zip(&slow)) {
            let ids = case["ids"].as_array().unwrap().len();
            let finish = if case["ended"] == true { Finish::EndOfTurn } else { Finish::Length };
            let theirs = Generation { text: case["text"].as_str().unwrap().to_owned(), tokens: ids as u32, finish };
            assert_eq!(fast[0], theirs, "{name}: the CPU backend");
            assert_eq!(slow[0], theirs, "{name}: the tensor backend");
        }
    }
}

/// The tensor backend on the CPU in f32, which otherwise is for GPUs and bf16.
fn tensors(name: &str, config: EngineConfig) -> TorchGenerator {
    let model = CausalLm::load(&folder(name), Device::Cpu, Precision::F32).unwrap();
    let prompting = Prompting::read(&folder(name), model.config(), TemplateDate::default()).unwrap();
    let mut engine = TorchGenerator::new(config);
    engine.set_model_on_tensors(model, prompting);
    engine
}

#[test]
fn a_draw_gives_the_same_answer_in_any_company() {
    for name in MODELS {
        let requests = requests();
        let (first, shared) = run(&mut engine(name, config()), &requests);
        assert!(shared.prompt_computed * 3 < shared.prompt_tokens, "prefixes are shared: {shared:?}");
        let variants = [
            ("one row", EngineConfig { max_rows: 1, ..config() }),
            ("three rows", EngineConfig { max_rows: 3, ..config() }),
            ("many rows", EngineConfig { max_rows: 1000, ..config() }),
            ("two threads", EngineConfig { threads: 2, ..config() }),
            ("three threads, few rows", EngineConfig { threads: 3, max_rows: 5, ..config() }),
            ("nothing shared", EngineConfig { share_prefixes: false, ..config() }),
            ("nothing shared, few rows", EngineConfig { share_prefixes: false, max_rows: 7, threads: 2, ..config() }),
            // Room for the longest prompt and answer and little more: rows wait for room.
            ("small cache", EngineConfig { cache_bytes: 130 * 2 * 2 * 64 * 4, ..config() }),
        ];
        for (variant, config) in variants {
            let share = config.share_prefixes;
            let (again, stats) = run(&mut engine(name, config), &requests);
            assert_eq!(first, again, "{name}, {variant}");
            if !share {
                assert_eq!(stats.prompt_computed, stats.prompt_tokens, "{name}, {variant}");
                assert!(stats.answer_computed > shared.answer_computed, "{name}: draws that agree are one row");
            }
        }
        // Another order, and one request at a time.
        let mut engine = engine(name, config());
        let order: Vec<usize> = (0..requests.len()).map(|i| (i * 17 + 5) % requests.len()).collect();
        let shuffled: Vec<GenerationRequest> = order.iter().map(|i| requests[*i].clone()).collect();
        let (again, _) = run(&mut engine, &shuffled);
        for (answers, i) in again.iter().zip(&order) {
            assert_eq!(answers, &first[*i], "{name}, shuffled");
        }
        for i in [0, 7, 11, requests.len() - 1] {
            assert_eq!(run(&mut engine, &requests[i..=i]).0[0], first[i], "{name}, alone");
        }
    }
}

#[test]
fn rows_of_the_tensor_backend_see_what_they_should() {
    // Greedy, so that rounding does not show unless two tokens are as good as equal.
    for name in ["mistral-window", "qwen3-norms"] {
        let mut requests: Vec<GenerationRequest> = requests().into_iter().step_by(3).collect();
        for request in &mut requests {
            request.draws.truncate(1);
            request.draws[0].sampling = greedy(16);
        }
        let (fast, _) = run(&mut engine(name, config()), &requests);
        for max_rows in [3, 64] {
            let (slow, _) = run(&mut tensors(name, EngineConfig { max_rows, ..config() }), &requests);
            let equal = fast.iter().zip(&slow).filter(|(a, b)| a == b).count();
            assert_eq!(equal, fast.len(), "{name}, {max_rows} rows");
        }
    }
}

#[test]
fn bf16_answers_everything() {
    let requests = requests();
    let (answers, _) =
        run(&mut engine("qwen3-norms", EngineConfig { precision: Precision::Bf16, ..config() }), &requests);
    for (answers, request) in answers.iter().zip(&requests) {
        assert_eq!(answers.len(), request.draws.len());
        for (answer, draw) in answers.iter().zip(&request.draws) {
            assert!(answer.tokens <= draw.sampling.max_tokens);
        }
    }
}

/// First tokens drawn often enough come as often as the reference forward pass says.
#[test]
fn first_tokens_come_as_often_as_the_model_says() {
    let name = "llama-untied";
    let model = CausalLm::load(&folder(name), Device::Cpu, Precision::F32).unwrap();
    let prompting = Prompting::read(&folder(name), model.config(), TemplateDate::default()).unwrap();
    let messages = vec![Message::user("Sort the words.")];
    let ids = prompting.prompt(&messages).unwrap().ids;
    let tokens = Tensor::from_slice(&ids).unsqueeze(0);
    let logits = tch::no_grad(|| model.logits(&tokens).unwrap()).get(0).get(ids.len() as i64 - 1);
    let exact: Vec<f64> = Vec::try_from(logits.to_kind(Kind::Double).softmax(-1, Kind::Double)).unwrap();

    let draws = 20_000u64;
    let sampling = Sampling { temperature: 1.0, ..greedy(1) };
    let (answers, stats) = run(&mut engine(name, config()), &[request("often", messages, &sampling, 0..draws)]);
    assert_eq!(stats.prompt_computed, ids.len() as u64);
    // By text: two tokens may read the same, and tokens that end the turn read as nothing.
    let text = |id: usize| prompting.tokenizer().decode(&[id as i64]).unwrap();
    let mut expected = std::collections::BTreeMap::<String, (f64, f64)>::new();
    for (id, p) in exact.iter().enumerate() {
        expected.entry(text(id)).or_default().0 += p * draws as f64;
    }
    for answer in &answers[0] {
        expected.entry(answer.text.clone()).or_default().1 += 1.0;
    }
    let cells: Vec<&(f64, f64)> = expected.values().filter(|(e, _)| *e >= 5.0).collect();
    let chi: f64 = cells.iter().map(|(e, n)| (n - e).powi(2) / e).sum();
    let free = cells.len() as f64 - 1.0;
    assert!(cells.len() > 30);
    assert!((chi - free).abs() < 4.0 * (2.0 * free).sqrt(), "chi-square {chi} with {free} degrees of freedom");
}

#[test]
fn a_stop_text_ends_an_answer_and_is_cut_off() {
    let mut engine = engine("llama-untied", config());
    let ask = vec![Message::user("Sort the words.")];
    let warm = Sampling { temperature: 1.0, ..greedy(40) };
    let (whole, _) = run(&mut engine, &[request("whole", ask.clone(), &warm, 0..40)]);
    let mut stopped = 0;
    for stop in ["e", "or", "☃", " "] {
        let sampling = Sampling { stop: vec![stop.to_owned(), "never seen".to_owned()], ..warm.clone() };
        let (cut, _) = run(&mut engine, &[request("cut", ask.clone(), &sampling, 0..40)]);
        for (cut, whole) in cut[0].iter().zip(&whole[0]) {
            match whole.text.find(stop) {
                Some(at) => {
                    assert_eq!((cut.text.as_str(), cut.finish), (&whole.text[..at], Finish::Stop), "{stop:?}");
                    assert!(cut.tokens <= whole.tokens);
                    stopped += 1;
                }
                None => assert_eq!(cut, whole, "{stop:?}"),
            }
        }
    }
    assert!(stopped > 10);
}

#[test]
fn a_line_that_completes_the_answer_ends_it_and_is_kept() {
    for on_tensors in [false, true] {
        let name = "llama-untied";
        let mut engine = if on_tensors { tensors(name, config()) } else { engine(name, config()) };
        let ask = vec![Message::user("Sort the words.")];
        let warm = Sampling { temperature: 1.5, ..greedy(60) };
        let all = [request("whole", ask, &warm, 0..60)];
        let (whole, _) = run(&mut engine, &all);
        let complete = |line: &str| Ok(line.len() > 6);
        let guides = Guides { complete: Some(&complete), ..Guides::default() };
        let cut = engine.generate(&all, &guides, &Quiet).unwrap();
        let (mut ended, mut saved) = (0, 0);
        for (cut, whole) in cut[0].iter().zip(&whole[0]) {
            let mut breaks = whole.text.match_indices('\n').map(|(at, _)| whole.text[..at].trim_end());
            let first = breaks.find(|text| text.rsplit('\n').next().unwrap().len() > 6);
            match first {
                Some(text) => {
                    assert_eq!((cut.text.as_str(), cut.finish), (text, Finish::Stop));
                    assert!(cut.tokens <= whole.tokens);
                    (ended, saved) = (ended + 1, saved + whole.tokens - cut.tokens);
                }
                None => assert_eq!(cut, whole),
            }
        }
        assert!(ended > 5 && saved > 50, "{ended} answers ended early, {saved} tokens saved");
        let failing = |_: &str| Err(EngineError::Plugin { plugin: "rubric".to_owned(), message: "no".to_owned() });
        let guides = Guides { complete: Some(&failing), ..Guides::default() };
        assert!(matches!(engine.generate(&all, &guides, &Quiet), Err(EngineError::Plugin { .. })));
    }
}

#[test]
fn a_full_context_ends_an_answer() {
    let mut engine = engine("llama-untied", config());
    // The fixtures' context is 256 tokens.
    let long = |words: usize| vec![Message::user("fig ".repeat(words))];
    let counts = engine.count_tokens(&[long(1), long(20), long(400)]).unwrap();
    assert!(counts[0] < counts[1] && counts[2] > 256, "{counts:?}");
    let near: Vec<Message> =
        (20..200).map(long).find(|m| engine.count_tokens(std::slice::from_ref(m)).unwrap()[0] > 240).unwrap();
    let used = engine.count_tokens(std::slice::from_ref(&near)).unwrap()[0];
    // Hot, so that the answer does not end by itself.
    let hot = Sampling { temperature: 1.0, ..greedy(100) };
    let (answers, _) = run(
        &mut engine,
        &[
            request("too long", long(400), &hot, 0..2),
            request("near", near, &hot, 0..30),
            request("nothing wanted", long(2), &greedy(0), 0..1),
        ],
    );
    let empty = |finish| Generation { text: String::new(), tokens: 0, finish };
    assert_eq!(answers[0], [empty(Finish::Context), empty(Finish::Context)]);
    assert!(answers[1].iter().any(|a| a.finish == Finish::Context && a.tokens == 256 - used));
    assert!(answers[1].iter().all(|a| a.tokens <= 256 - used && a.finish != Finish::Length));
    assert_eq!(answers[2], [empty(Finish::Length)]);
}

/// Says stop after some passes, and keeps what it was told.
#[derive(Default)]
struct Stopper {
    passes: AtomicU32,
    after: u32,
    told: Mutex<Vec<Progress>>,
}

impl Watch for Stopper {
    fn progress(&self, progress: Progress) {
        self.told.lock().unwrap().push(progress);
    }
    fn step(&self, _: &StepMetrics, _: f64) {}
    fn stop(&self) -> bool {
        self.passes.fetch_add(1, Ordering::Relaxed) >= self.after
    }
}

#[test]
fn stops_on_request_and_tells_its_progress() {
    let requests = requests();
    let total: u64 = requests.iter().map(|r| r.draws.len() as u64).sum();
    for threads in [1, 2] {
        let mut engine = engine("llama-untied", EngineConfig { max_rows: 4, threads, ..config() });
        let stopper = Stopper { after: 5, ..Stopper::default() };
        assert_eq!(engine.generate(&requests, &Guides::default(), &stopper), Err(EngineError::Stopped));
        assert!(stopper.passes.load(Ordering::Relaxed) <= 5 + threads as u32, "no pass after the stop");
        let patient = Stopper { after: u32::MAX, ..Stopper::default() };
        engine.generate(&requests, &Guides::default(), &patient).unwrap();
        let told = patient.told.into_inner().unwrap();
        let last = told.last().unwrap();
        assert_eq!((last.done, last.total), (total, total));
        assert!(last.tokens > total);
        assert!(told.windows(2).all(|w| w[0].tokens <= w[1].tokens));
    }
}

#[test]
fn errors_say_what_and_where() {
    let ask = vec![Message::user("Sort the words.")];
    let mut none = TorchGenerator::new(config());
    assert_eq!(
        none.generate(&[], &Guides::default(), &Quiet),
        Err(EngineError::Machine("no model is loaded".to_owned()))
    );

    let mut small = engine("llama-untied", EngineConfig { cache_bytes: 20_000, ..config() });
    let error = small
        .generate(&[request("greedy one", ask.clone(), &greedy(64), 0..1)], &Guides::default(), &Quiet)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("greedy one") && text.contains("answer of up to 64") && text.contains("max_tokens"),
        "{text}"
    );

    let mut engine = engine("llama-untied", config());
    let bad = Sampling { temperature: f64::NAN, ..greedy(3) };
    let error =
        engine.generate(&[request("odd one", ask.clone(), &bad, 0..1)], &Guides::default(), &Quiet).unwrap_err();
    assert!(
        matches!(&error, EngineError::Input { record, message } if record == "odd one" && message.contains("temperature"))
    );
    assert_eq!(engine.generate(&[], &Guides::default(), &Quiet), Ok(Vec::new()));
    assert_eq!(
        engine.generate(&[request("no draws", ask, &greedy(3), 0..0)], &Guides::default(), &Quiet),
        Ok(vec![Vec::new()])
    );
}

/// Gives all probability to the token at a place that depends on draw and position, so that the answers show what it was
/// asked.
struct ByPlace;

impl metareward_api::Plugin for ByPlace {
    fn info(&self) -> metareward_api::PluginInfo {
        let kind = metareward_api::Kind::Sampler;
        let text = |text: &str| text.to_owned();
        metareward_api::PluginInfo { kind, name: text("by-place"), version: text("1.0.0"), summary: text("for tests") }
    }
}

impl Sampler for ByPlace {
    fn plan(&self, _: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        Err(PluginError::new("not asked for"))
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(Some(5))
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        rows.iter()
            .map(|row| {
                assert_eq!((row.tokens.len(), row.logits.len()), (5, 5));
                assert!(row.logits.is_sorted_by(|a, b| a >= b));
                if row.position == 6 && row.draw == 4 {
                    return Err(PluginError::new("enough"));
                }
                let place = (row.draw + row.position) as usize % 3;
                Ok((0..5).map(|at| if at == place { 1.0 } else { 0.0 }).collect())
            })
            .collect()
    }
}

const BY_PLACE: Guides<'static> = Guides { reshape: Some(&ByPlace), complete: None, occasion: None };

#[test]
fn a_sampler_that_reshapes_decides_every_token_whatever_the_batch() {
    let mut engine = engine("llama-untied", config());
    let ask = vec![Message::user("Sort the words")];
    let all = [request("one", ask.clone(), &greedy(5), 0..4)];
    let together = engine.generate(&all, &BY_PLACE, &Quiet).unwrap();
    for (draw, answer) in all[0].draws.iter().zip(&together[0]) {
        let alone = GenerationRequest { draws: vec![draw.clone()], ..all[0].clone() };
        assert_eq!(&engine.generate(&[alone], &BY_PLACE, &Quiet).unwrap()[0][0], answer);
    }
    // Draws 0 and 3 take the same places, 1 and 2 others.
    assert_eq!(together[0][0], together[0][3]);
    assert_ne!(together[0][0], together[0][1]);
    // The first draw's first token is the most probable one.
    let best = engine.generate(&[request("best", ask.clone(), &greedy(1), 0..1)], &Guides::default(), &Quiet).unwrap();
    assert!(together[0][0].text.starts_with(best[0][0].text.trim_end()));

    let failing = engine.generate(&[request("five", ask, &greedy(9), 0..5)], &BY_PLACE, &Quiet).unwrap_err();
    assert_eq!(failing, EngineError::Plugin { plugin: "by-place".to_owned(), message: "enough".to_owned() });
}
